"""Positions of the values in JSON text, valid or not.

The scan reads only brackets and strings, moves forward, and needs no recursion for depth; then `json` decodes each
value once, which decides on its validity. So the time stays linear in the text's length.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from rolewise.data.tool_calls.parsed import Span

MAX_DEPTH = 100
"""Deeper nesting is rejected: no call needs it, and each decoder fails at a different depth."""

_SPACE = re.compile(r"\s*")
_PLAIN = re.compile(r"[\s,:\w.+\-]*")
_SCALAR = re.compile(r"[\w.+\-]*")
# The end of a string, or an escape within it. Both JSON and Python forbid a raw line break.
_STRING_STOP = {quote: re.compile(rf"[{quote}\\\n\r]") for quote in "\"'"}
_STRING_WITHOUT_ESCAPES = {quote: re.compile(rf"{quote}[^{quote}\\\n\r]*{quote}") for quote in "\"'"}
# Escapes a thousand at a time: one by one is slow, and all at once takes memory for each.
_ESCAPES = {quote: re.compile(rf"(?:[^{quote}\\\n\r]*\\.){{1,1000}}", re.DOTALL) for quote in "\"'"}
# An unclosed string ends with its line, or at the next mark of the format itself.
_UNCLOSED_STRING_STOP = re.compile(r"</?tool_call>|\[TOOL_CALLS\]|<\|")
_CLOSER = {"{": ord("}"), "[": ord("]")}


class ValueScan(NamedTuple):
    """End of a value or of its valid beginning; True if it was closed; depth of its brackets."""

    end: int
    complete: bool
    depth: int


class Member(NamedTuple):
    """One `key: value` of an object. `key_span` is without quotes, `value_span` with them."""

    key: str
    key_span: Span
    value_span: Span
    complete: bool


class Notation(NamedTuple):
    """Notation of objects: the characters that open strings, and the decoders of a value and of a single string."""

    quotes: str
    decode: Callable[[str, int], tuple[Any, str | None]]
    decode_string: Callable[[str], str]


def skip_space(text: str, position: int) -> int:
    """Return the end of the white space at `position`; `position` itself if there is none."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def scan_string(text: str, start: int) -> ValueScan:
    """Scan the string whose opening quote, single or double, is `text[start]`."""
    quote = text[start]
    if plain := _STRING_WITHOUT_ESCAPES[quote].match(text, start):
        return ValueScan(plain.end(), True, 0)
    position = start + 1
    while stop := _STRING_STOP[quote].search(text, position):
        if stop[0] == quote:
            return ValueScan(stop.end(), True, 0)
        if stop[0] != "\\":
            break
        escapes = _ESCAPES[quote].match(text, stop.start())
        position = escapes.end() if escapes else len(text)
    # The tail stays within the line and without a further quote, so it can't be scanned as a string again.
    line_end = stop.start() if stop else len(text)
    tail = _UNCLOSED_STRING_STOP.search(text, start + 1, line_end)
    return ValueScan(tail.start() if tail else line_end, False, 0)


def scan_value(text: str, start: int, quotes: str) -> ValueScan:
    """Scan the value at `text[start]`, no deeper than `MAX_DEPTH`: an object, array, string, number or word.

    Args:
        text: any text.
        start: position of the value; not of white space.
        quotes: the characters that open strings.
    """
    first = text[start : start + 1]
    if first and first in quotes:
        return scan_string(text, start)
    if first not in _CLOSER:
        match = _SCALAR.match(text, start)
        end = match.end() if match else start
        return ValueScan(end, start < end, 0)
    closers = bytearray()
    depth = 0
    position = start
    while True:
        char = text[position : position + 1]
        if char in _CLOSER:
            closers.append(_CLOSER[char])
            depth = max(depth, len(closers))
            position += 1
            if depth > MAX_DEPTH:
                return ValueScan(position, False, depth)
        elif char and char in quotes:
            position, closed, _ = scan_string(text, position)
            if not closed:
                return ValueScan(position, False, depth)
        elif char and char in "}]" and closers[-1] == ord(char):
            closers.pop()
            position += 1
            if not closers:
                return ValueScan(position, True, depth)
        else:
            return ValueScan(position, False, depth)
        plain = _PLAIN.match(text, position)
        position = plain.end() if plain else position


def members(text: str, start: int, end: int, notation: Notation) -> list[Member]:
    """Return the members of the object at `text[start]`, as far as they can be told apart; its scan ended at `end`.

    A key without a value is left out; the last value may be cut short (`complete` is False).
    """
    found: list[Member] = []
    quotes = notation.quotes
    position = skip_space(text, start + 1)
    while position < end and text[position] in quotes:
        key = scan_string(text, position)
        colon = skip_space(text, key.end)
        if not key.complete or colon >= end or text[colon] != ":":
            break
        value_start = skip_space(text, colon + 1)
        if value_start >= end:
            break
        value = scan_value(text, value_start, quotes)
        if value.end > end:  # the object's own scan reached its depth limit within this value
            value = ValueScan(end, False, value.depth)
        key_span = position + 1, key.end - 1
        name = notation.decode_string(text[position : key.end])
        found.append(Member(name, key_span, (value_start, value.end), value.complete))
        position = skip_space(text, value.end)
        if not value.complete or position >= end or text[position] != ",":
            break
        position = skip_space(text, position + 1)
    return found


def decoded_string(source: str) -> str:
    """Return the value of a string given with its quotes; its unchanged text if the escapes are broken."""
    if "\\" not in source:
        return source[1:-1]
    try:
        return str(json.loads(source))
    except ValueError:
        return source[1:-1]


def decode(source: str, depth: int) -> tuple[Any, str | None]:
    """Return the value of one JSON text and None, or None and the reason for the failure.

    Args:
        source: the value alone: `json` counts lines from the beginning to name the position of an error.
        depth: depth found by the scan.
    """
    if depth > MAX_DEPTH:
        return None, f"nested deeper than {MAX_DEPTH} levels"
    try:
        return json.loads(source, parse_constant=_refuse_constant), None
    except json.JSONDecodeError as error:
        return None, f"broken JSON: {error.msg} at character {error.pos} of it"
    except ValueError as error:  # a number with thousands of digits, NaN
        return None, f"broken JSON: {error}"


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


JSON = Notation('"', decode, decoded_string)
