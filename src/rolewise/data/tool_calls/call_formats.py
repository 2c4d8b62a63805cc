"""The formats by name: parse a response, write calls, detect the format of a response."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rolewise.core.errors import InputError
from rolewise.data.tool_calls.json_scan import JSON, members, scan_value
from rolewise.data.tool_calls.llama import parse_llama3, parse_seal_tools, write_llama3, write_seal_tools
from rolewise.data.tool_calls.mistral import parse_mistral, write_mistral, write_mistral_args
from rolewise.data.tool_calls.parsed import ParsedCall, ParsedResponse, ResponseBuilder
from rolewise.data.tool_calls.python_calls import parse_python, write_python
from rolewise.data.tool_calls.react import parse_react, write_fireact, write_react
from rolewise.data.tool_calls.tags import parse_hermes, parse_rlla, write_hermes, write_rlla


class CallFormat(NamedTuple):
    """Parser and writer of one format.

    `parse` reads the response from a position on, after the leading thought; `write` takes valid calls and does not
    check that the format can express them.
    """

    parse: Callable[[str, int, ResponseBuilder], None]
    write: Callable[[Sequence[ParsedCall]], str]


CALL_FORMATS = {
    "hermes": CallFormat(parse_hermes, write_hermes),
    "rlla": CallFormat(parse_rlla, write_rlla),
    "llama3": CallFormat(parse_llama3, write_llama3),
    "mistral": CallFormat(parse_mistral, write_mistral),
    "mistral-args": CallFormat(parse_mistral, write_mistral_args),
    "react": CallFormat(parse_react, write_react),
    "fireact": CallFormat(parse_react, write_fireact),
    "python": CallFormat(parse_python, write_python),
    "seal-tools": CallFormat(parse_seal_tools, write_seal_tools),
}

_TURN_END = re.compile(r"(?:<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text)\|>|</s>)\s*\Z")
_TURN_END_REACH = 64
_THOUGHT_TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))
_OPENED_THOUGHT = re.compile(r"(?:<think>|<thinking>|\[THINK\])\s*\Z")
_JSON_KEYS = "name|type|function|api"
# Signs that only calls contain. The first one in the text decides; matches of `_HINT` may precede it.
_SIGN = re.compile(
    r"(?P<tag><tool_call>\s*(?=[{\[]|```|\Z))|(?P<mistral>\[TOOL_CALLS\])|(?P<llama3><\|python_tag\|>)"
    r"|^[ \t]*(?:(?P<react>Action(?: Input)?(?:[ ]?\d+)?[ \t]*:)"
    rf'|(?P<json>(?:\[\s*)?\{{\s*"(?:{_JSON_KEYS})"\s*:)'
    r"|(?P<seal>(?:\[\s*)?\{\s*'api'\s*:)"
    r"|(?P<python>\[\s*[^\W\d][\w.\-/ ]*\())",
    re.MULTILINE,
)
# A bare call counts as a sign only at the start of the response; later it may be code in an answer.
_BARE_PYTHON = re.compile(r"\s*(?P<python>[^\W\d][\w.]*\()")
_HINT = re.compile(
    r"(?P<tag><tool_call>|<response>)|^[ \t]*(?P<react>(?:Thought|Final Answer)(?:[ ]?\d+)?[ \t]*:)", re.MULTILINE
)


def parse_response(text: str, format: str | None = None) -> ParsedResponse:
    """Split an assistant's response into thoughts, calls and text, each with its position.

    Any text is accepted, and time is linear in its length: broken or truncated parts become calls that are not
    `valid`, or text. Thoughts are found in every format (`<think>`, `[THINK]`, ReAct's `Thought:`), the first one also
    if the prompt's template opened it; a template's end-of-turn token is a `tag`.

    Args:
        text: the model's output, or its side of a training sample.
        format: a key of `CALL_FORMATS`; None detects it.

    Raises:
        InputError: for an unknown format.
    """
    if format is not None:
        _check_format(format)
    turn_end = _TURN_END.search(text, max(0, len(text) - _TURN_END_REACH))
    body = text[: turn_end.start()] if turn_end else text
    if format is None:
        format = recognise_format(body)
    builder = ResponseBuilder(text)
    position = _read_leading_thought(body, builder)
    # Even without a format, thoughts between tags are separated from text.
    CALL_FORMATS[format or "hermes"].parse(body, position, builder)
    if turn_end:
        builder.add("tag", turn_end.start(), len(text))
    return builder.finish(format)


def recognise_format(text: str) -> str | None:
    """Detect the format of a response by the first sign after its thoughts; return its name, or None if unknown.

    "hermes" and "rlla" differ in a call's key for its arguments. JSON and Python calls without a marker count if they
    begin a line; a program as an answer can look like them, so name the format if you know it.
    """
    position = _read_leading_thought(text, ResponseBuilder(text))
    sign = _first_sign(text, position, len(text))
    if sign is None or sign.lastgroup is None:
        hint = _HINT.search(text, position)
        if hint is None:
            return None
        return "react" if hint["react"] else "rlla" if hint["tag"] == "<response>" else "hermes"
    if sign.lastgroup == "tag":
        return _tag_format(text, sign.end())
    if sign.lastgroup == "json" and _in_block(text, position, sign.start()):
        return _tag_format(text, sign.start())
    if sign.lastgroup == "mistral":
        return "mistral" if text[sign.end() :].lstrip()[:1] in ("[", "{") else "mistral-args"
    if sign.lastgroup == "react":
        line_end = text.find("\n", sign.end())
        line = text[sign.end() : line_end if line_end >= 0 else len(text)].rstrip()
        return "fireact" if "[" in line and line.endswith("]") else "react"
    return {"llama3": "llama3", "json": "llama3", "seal": "seal-tools", "python": "python"}[sign.lastgroup]


def opened_thought(prompt: str) -> str:
    """Return the tag of a thought that a prompt opens at its end, for the response to continue; empty without one."""
    opened = _OPENED_THOUGHT.search(prompt, max(0, len(prompt) - _TURN_END_REACH))
    return opened[0] if opened else ""


def write_calls(calls: Sequence[ParsedCall], format: str) -> str:
    """Write calls so that `parse_response(text, format)` returns their names and arguments.

    Args:
        calls: valid calls; their spans don't matter.
        format: a key of `CALL_FORMATS`.

    Raises:
        InputError: for an unknown format, a call that is not valid, and a call that the format can't express, such as
            a name with a line break in ReAct or a number that JSON lacks.
    """
    _check_format(format)
    if not calls:
        return ""
    for number, call in enumerate(calls, start=1):
        if not call.valid or call.name is None or call.arguments is None:
            raise InputError(f"call {number} ({call.name!r}) can't be written: {call.error}; drop it or fix it")
    try:
        text = CALL_FORMATS[format].write(calls)
        found = parse_response(text, format).calls
        is_same = [(c.name, c.arguments) for c in found] == [(c.name, c.arguments) for c in calls]
    except (TypeError, ValueError, RecursionError):  # values that JSON can't hold, values that refer to themselves
        is_same = False
    if not is_same:
        names = ", ".join(sorted({repr(call.name) for call in calls}))
        raise InputError(
            f"calls of {names} can't be expressed in the format {format!r}; choose another, or change the names or "
            "values for which it has no notation"
        )
    return text


def _check_format(format: str) -> None:
    if format not in CALL_FORMATS:
        raise InputError(f"unknown tool-call format {format!r}; choose one of {', '.join(CALL_FORMATS)}")


def _first_sign(text: str, start: int, end: int) -> re.Match[str] | None:
    return _BARE_PYTHON.match(text, start, end) or _SIGN.search(text, start, end)


def _in_block(text: str, start: int, position: int) -> bool:
    """Return True if an open `<tool_call>` that begins a line precedes `position`, with words after it."""
    opened = text.rfind("<tool_call>", start, position)
    return opened > text.rfind("</tool_call>", start, position) and not text[:opened].rpartition("\n")[2].strip(" \t")


def _tag_format(text: str, start: int) -> str:
    """Return the format of the calls after `<tool_call>`, by the key of the first one's arguments."""
    opening = text.find("{", start, start + _TURN_END_REACH)
    if opening < 0:
        return "hermes"
    scan = scan_value(text, opening, JSON.quotes)
    keys = [field.key for field in members(text, opening, scan.end, JSON)]
    return "rlla" if "parameters" in keys and "arguments" not in keys else "hermes"


def _read_leading_thought(text: str, builder: ResponseBuilder) -> int:
    """Read a thought that begins the response, or that the prompt opened; return the position of its end."""
    first = len(text) - len(text.lstrip())
    for opening, closing in _THOUGHT_TAGS:
        if text.startswith(opening, first):
            start = first + len(opening)
            end = text.find(closing, start)
            builder.add("tag", first, start)
            builder.add("thought", start, end if end >= 0 else len(text))
            if end < 0:
                return len(text)
            builder.add("tag", end, end + len(closing))
            return end + len(closing)
    for opening, closing in _THOUGHT_TAGS:
        end = text.find(closing)
        if end >= 0 and text.find(opening, 0, end) < 0 and _first_sign(text, 0, end) is None:
            builder.add("thought", 0, end)
            builder.add("tag", end, end + len(closing))
            return end + len(closing)
    return 0
