"""Values in Python's notation: JSON's types only, nothing evaluated.

`ast.literal_eval` reads only single strings and numbers: the syntax tree of hostile text (a long sum, a chain of
brackets) can exhaust the interpreter's C stack, and that of a large list its memory.
"""

import ast
import re
import warnings
from typing import Any

from rolewise.data.tool_calls.json_scan import MAX_DEPTH, Notation, scan_string, skip_space

_WORD = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"[+-]?(?=\.?\d)[\w.]*(?:(?<=[eE])[+-]\d+)?")
_CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_STRING_PREFIXES = ("r", "R", "u", "U")
_CLOSER = {"[": "]", "(": ")"}


class LiteralSyntaxError(ValueError):
    """The text is not a literal of these kinds; the message states the reason."""


def read_literal(text: str, position: int, depth: int = 0) -> tuple[Any, int]:
    """Read the literal at `position`: a string, number, True, False or None, or a list, tuple or dict of these.

    Tuples become lists. JSON's `true`, `false` and `null` are accepted too.

    Returns:
        The value and the position of its end.

    Raises:
        LiteralSyntaxError: for anything else, a dict key that is not a string, and nesting beyond `MAX_DEPTH`.
    """
    position = skip_space(text, position)
    char = text[position : position + 1]
    if depth > MAX_DEPTH:
        raise LiteralSyntaxError(f"nested deeper than {MAX_DEPTH} levels")
    if char and char in "\"'":
        return _strings(text, position)
    if char in _CLOSER:
        return _sequence(text, position, depth)
    if char == "{":
        return _dict(text, position, depth)
    number = _NUMBER.match(text, position)
    if number:
        return _number(number[0]), number.end()
    word = _WORD.match(text, position)
    if word and word[0] in _CONSTANTS:
        return _CONSTANTS[word[0]], word.end()
    if word and word[0] in _STRING_PREFIXES and text.startswith(("'", '"'), word.end()):
        return _strings(text, position)
    raise LiteralSyntaxError(f"not a literal: {text[position : position + 20]!r}")


def string_end(text: str, position: int) -> tuple[int, bool]:
    """Return the end of the string (also triple-quoted) that opens at `position`, and True if it is closed."""
    quotes = text[position] * 3
    if not text.startswith(quotes, position):
        scan = scan_string(text, position)
        return scan.end, scan.complete
    end = position + 3
    while True:
        close = text.find(quotes, end)
        if close < 0:
            return len(text), False
        backslashes = 0
        while text[close - 1 - backslashes] == "\\" and close - backslashes > end:
            backslashes += 1
        if backslashes % 2 == 0:
            return close + 3, True
        end = close + 1


def decode(source: str, depth: int) -> tuple[Any, str | None]:
    """Return the value of one literal and None, or None and the reason for the failure; `depth` is unused."""
    try:
        return read_literal(source, 0)[0], None
    except LiteralSyntaxError as error:
        return None, str(error)


def _decoded_string(source: str) -> str:
    value, error = decode(source, 0)
    return str(value) if error is None else source[1:-1]


def _strings(text: str, position: int) -> tuple[str, int]:
    """Read one string, or several side by side, which Python joins."""
    parts = []
    while True:
        start = position
        if text.startswith(_STRING_PREFIXES, position):
            position += 1
        if not text.startswith(("'", '"'), position):
            break
        end, closed = string_end(text, position)
        if not closed:
            raise LiteralSyntaxError("a string is not closed")
        width = 3 if text.startswith(text[position] * 3, position) else 1
        content = text[position + width : end - width]
        is_plain = "\\" not in content and "\r" not in content
        parts.append(content if is_plain else _string(text[start:end]))
        after, position = end, skip_space(text, end)
    return "".join(parts), after


def _string(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an unknown escape, which Python keeps unchanged
            return str(ast.literal_eval(source))
    except (ValueError, SyntaxError) as error:
        raise LiteralSyntaxError(f"broken string: {error}") from error


def _number(source: str) -> int | float:
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError) as error:
        raise LiteralSyntaxError("broken number") from error
    if not isinstance(value, (int, float)) or value in (float("inf"), float("-inf")):
        raise LiteralSyntaxError(f"not a JSON number: {source[:20]}")
    return value


def _sequence(text: str, position: int, depth: int) -> tuple[Any, int]:
    opener, closer = text[position], _CLOSER[text[position]]
    values: list[Any] = []
    has_comma = False
    position = skip_space(text, position + 1)
    while not text.startswith(closer, position):
        value, position = read_literal(text, position, depth + 1)
        values.append(value)
        position, comma = _behind_comma(text, position, closer)
        has_comma = has_comma or comma
    is_parenthesis = opener == "(" and len(values) == 1 and not has_comma
    return (values[0] if is_parenthesis else values), position + 1


def _dict(text: str, position: int, depth: int) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    position = skip_space(text, position + 1)
    while not text.startswith("}", position):
        key, position = read_literal(text, position, depth + 1)
        position = skip_space(text, position)
        if not isinstance(key, str) or not text.startswith(":", position):
            raise LiteralSyntaxError("a dict needs string keys with a value each")
        values[key], position = read_literal(text, position + 1, depth + 1)
        position, _ = _behind_comma(text, position, "}")
    return values, position + 1


def _behind_comma(text: str, position: int, closer: str) -> tuple[int, bool]:
    """Return the position of the next value or `closer`, and True if a comma precedes it."""
    position = skip_space(text, position)
    if text.startswith(",", position):
        return skip_space(text, position + 1), True
    if not text.startswith(closer, position):
        raise LiteralSyntaxError(f"expected ',' or {closer!r}, found {text[position : position + 20]!r}")
    return position, False


PYTHON = Notation("\"'", decode, _decoded_string)
