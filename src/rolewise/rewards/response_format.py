"""Check that a response has the same tagged parts as its reference: ResT's rule and ToolRL's stricter one.

Regular expressions are avoided on purpose: ToolRL's backtrack over a whole response for each `</think>` in it; here
each tag is found once.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, get_args

from rolewise.rewards.reference_calls import ANSWER_CLOSE, ANSWER_OPEN, CALL_CLOSE, CALL_OPEN, response_parts

FormatRule = Literal["rest", "toolrl", "parts"]
FORMAT_RULES: tuple[str, ...] = get_args(FormatRule)

_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"


def has_format(text: str, parts: Sequence[str], rule: FormatRule = "rest", call_format: str = "rlla") -> bool:
    """Return True if a response has these parts, out of "think", "call" and "answer", by a rule.

    - "rest" (ResT's code): the first tags of each kind are in the order think, call, answer, and required tags of call
      and answer occur once; if only a call is required, there is no answer tag; if neither is required, there is one
      thought. Text between is allowed.
    - "toolrl": the whole text is `<think>…</think>`, `<tool_call>`, `</tool_call>` on lines of their own,
      `<response>…</response>`, as far as required, each after a line break.
    - "parts": the response has exactly these parts as `response_parts` finds them in `call_format`.

    White space around the response does not count. Any text is accepted; time is linear in its length.
    """
    text = text.strip()
    if rule == "parts":
        return response_parts(text, call_format) == list(parts)
    check: Callable[[str, bool, bool], bool] = _has_rest_format if rule == "rest" else _has_toolrl_format
    return check(text, "call" in parts, "answer" in parts)


def _has_rest_format(text: str, call: bool, answer: bool) -> bool:
    wanted = _tags(call, answer)
    once = wanted or [_THINK_OPEN, _THINK_CLOSE]
    places = [text.find(tag) for tag in [_THINK_OPEN, _THINK_CLOSE, *wanted]]
    in_order = places[0] >= 0 and all(a < b for a, b in pairwise(places))
    if call and not answer and (ANSWER_OPEN in text or ANSWER_CLOSE in text):
        return False
    return in_order and all(text.count(tag) == 1 for tag in once)


def _has_toolrl_format(text: str, call: bool, answer: bool) -> bool:
    wanted = _tags(call, answer)
    if any(text.count(tag) != 1 for tag in wanted) or not text.startswith(_THINK_OPEN):
        return False
    # Separators of the parts, in order; the last one ends the text.
    if call:
        separators = [f"{_THINK_CLOSE}\n{CALL_OPEN}\n", f"\n{CALL_CLOSE}"]
        if answer:
            separators = [separators[0], f"\n{CALL_CLOSE}\n{ANSWER_OPEN}", ANSWER_CLOSE]
    elif answer:
        separators = [f"{_THINK_CLOSE}\n{ANSWER_OPEN}", ANSWER_CLOSE]
    else:
        separators = [_THINK_CLOSE]
    position = len(_THINK_OPEN)
    for separator in separators[:-1]:
        found = text.find(separator, position)
        if found < 0:
            return False
        position = found + len(separator)
    return text.endswith(separators[-1]) and len(text) - len(separators[-1]) >= position


def _tags(call: bool, answer: bool) -> list[str]:
    return [*([CALL_OPEN, CALL_CLOSE] if call else []), *([ANSWER_OPEN, ANSWER_CLOSE] if answer else [])]
