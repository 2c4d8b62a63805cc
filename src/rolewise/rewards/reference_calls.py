"""The calls that a reward compares: those of a reference, and those of a response."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from rolewise.core.errors import InputError
from rolewise.core.limits import printable
from rolewise.data.strict_json import read_json
from rolewise.data.tool_calls import parse_response

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
ANSWER_OPEN, ANSWER_CLOSE = "<response>", "</response>"


class Call(NamedTuple):
    """One call: a function's name and its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """The reference that a response is compared with.

    Attributes:
        parts: required parts of a response, out of "think", "call" and "answer", in order.
        calls: right calls, in order; empty if no call is right.
    """

    parts: tuple[str, ...]
    calls: tuple[Call, ...]


@lru_cache(maxsize=4096)  # a group's completions share one reference, which several rewards read
def read_reference(text: str, call_format: str = "rlla") -> Reference:
    """Read a reference: a complete response in `call_format`, or a JSON list of calls.

    A list holds `{"name": …, "arguments": {…}}` (or "parameters", or OpenAI's call objects); it requires a thought and
    these calls. An empty list requires a thought and an answer.

    Args:
        text: the reference.
        call_format: a key of `CALL_FORMATS`.

    Raises:
        InputError: for a list of anything else, a response with a call that can't be parsed, and a text that is
            neither: an empty text, broken JSON, a thought that never ends, or in "rlla" words outside its tags.
    """
    text = text.removeprefix("\ufeff")  # some editors start a file with it
    if not text.strip():
        raise InputError(
            'the reference is empty; give a JSON list of calls ("[]" if none is right), or a whole response'
        )
    listed = _json_list(text)
    if listed is not None:
        calls = tuple(_call_from_json(entry, text) for entry in listed)
        return Reference(("think", "call" if calls else "answer"), calls)
    # Use the parser in every format: a reference's thought may mention a tag, which the rule for responses takes as a
    # block.
    parts = _rlla_parts(text) if call_format == "rlla" else response_parts(text, call_format)
    found = _parsed_calls(text, call_format) if "call" in parts else []
    if found is None:
        raise InputError(
            f"the reference {_shortened(text)} has no call that can be parsed as {call_format}; fix it, name its "
            "format, or give a JSON list of calls"
        )
    reason = None if found else _no_response(text, call_format)
    if not parts:
        reason = "has neither a thought nor a call nor an answer"
    if reason:
        raise InputError(
            f"the reference {_shortened(text)} {reason}; give a JSON list of calls, or a whole response in "
            f"{call_format}"
        )
    return Reference(tuple(parts), tuple(found))


def _no_response(text: str, call_format: str) -> str | None:
    """Return the reason why a text without calls can't serve as a reference response; None if it can.

    Without this check a broken list of calls would require an answer, and no call would ever earn a reward.
    """
    parsed = parse_response(text, call_format)
    if parsed.segments[-1].kind == "thought" and parsed.format not in ("react", "fireact"):
        return "is a thought that never ends"
    opened = ""
    for segment in parsed.segments:
        words = text[segment.start : segment.end].strip()
        if segment.kind == "tag":
            opened = words
        elif segment.kind == "text" and words.startswith(("[", "{")) and not opened.endswith(ANSWER_OPEN):
            return "is neither a list of calls nor a response"
        elif segment.kind == "text" and words and call_format == "rlla" and not opened.endswith(ANSWER_OPEN):
            return "has words outside the tags"
    return None


def read_calls(text: str, call_format: str = "rlla") -> list[Call] | None:
    """Return the calls of a response; None if it has none, or one that can't be parsed.

    In "rlla", as in ToolRL's and ResT's code, these are the lines of the first block of `<tool_call>`, each a JSON
    object with a name and "parameters". In other formats they are the calls that `parse_response` finds.

    Any text is accepted; time is linear in its length.
    """
    if call_format == "rlla":
        return _calls_of_block(text)
    return _parsed_calls(text, call_format)


def response_parts(text: str, call_format: str) -> list[str]:
    """Return the parts of a response, in order: "think", "call", "answer"; consecutive calls are one part.

    White space is not a part. Text outside thoughts and calls is an answer, in "rlla" and ReAct too.
    """
    parsed = parse_response(text, call_format)
    spans = iter([call.span for call in parsed.calls if call.span])
    span = next(spans, None)
    parts: list[str] = []
    for segment in parsed.segments:
        while span and span[1] <= segment.start:
            span = next(spans, None)
        if segment.kind == "thought":
            part = "think"
        elif segment.kind == "text" and not (span and span[0] <= segment.start):
            part = "answer" if text[segment.start : segment.end].strip() else ""
        else:
            part = "" if segment.kind == "tag" else "call"
        if part and (not parts or parts[-1] != part):
            parts.append(part)
    return parts


def _rlla_parts(text: str) -> list[str]:
    parsed = parse_response(text, "rlla")
    tags = [text[segment.start : segment.end] for segment in parsed.segments if segment.kind == "tag"]
    return ["think"] + ["call"] * bool(parsed.calls) + ["answer"] * any(ANSWER_OPEN in tag for tag in tags)


def _parsed_calls(text: str, call_format: str) -> list[Call] | None:
    calls = parse_response(text, call_format).calls
    if not calls or not all(call.valid for call in calls):
        return None
    return [Call(call.name or "", call.arguments or {}) for call in calls]


def _calls_of_block(text: str) -> list[Call] | None:
    start = text.find(CALL_OPEN)
    if start < 0 or CALL_CLOSE not in text:
        return None
    start += len(CALL_OPEN)
    ends = [text.find(CALL_OPEN, start), text.find(CALL_CLOSE, start)]
    block = text[start : min([end for end in ends if end >= 0], default=len(text))]
    calls = []
    for line in block.strip().split("\n"):
        try:
            entry = read_json(line)
        except ValueError:
            return None
        if not isinstance(entry, dict):
            return None
        name, arguments = entry.get("name"), entry.get("parameters")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        calls.append(Call(name, arguments))
    return calls


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = read_json(text)
    except ValueError:
        return None  # for example, calls in Python's notation
    return value if isinstance(value, list) else None


def _call_from_json(entry: Any, text: str) -> Call:
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    if isinstance(function, dict):
        name, arguments = function.get("name"), function.get("arguments", function.get("parameters"))
        if isinstance(arguments, str):
            try:
                arguments = read_json(arguments)
            except ValueError:
                arguments = None
        if isinstance(name, str) and name and isinstance(arguments, dict):
            return Call(name, arguments)
    raise InputError(
        f"the reference {_shortened(text)} is a list, but not of calls; each needs a name and an object of arguments"
    )


def _shortened(text: str) -> str:
    return printable(json.dumps(text if len(text) <= 60 else f"{text[:60]}…", ensure_ascii=False))
