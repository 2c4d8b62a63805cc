"""Separation of structure and content in the characters of a JSON tool call.

This is not a parser that accepts or rejects: models write broken JSON, so the scan goes as far as the text is JSON and
reports its end. It reads every character once, evaluates nothing, and needs no recursion for depth.
"""

import re
from dataclasses import dataclass

WRAPPER_KEYS = frozenset({"function", "function_call", "tool_call", "tool_calls"})
"""Fixed keys whose value is a call, or a list of calls, again."""

FIXED_KEYS = WRAPPER_KEYS | {"action", "action_input", "arguments", "id", "name", "parameters", "type"}
"""Keys that the call's format prescribes (arXiv 2412.14780, appendix D.2: "tool_call", "name", "arguments")."""

CALL_KEYS = WRAPPER_KEYS | {"action_input", "arguments", "parameters"}
"""Fixed keys that tell a call from other JSON; "name" or "id" alone could belong to anything."""

_SPACE = re.compile(r"\s*")
# A raw line break ends a string, as in JSON; so an unclosed quote spoils only its own line.
_TOKEN = re.compile(
    r'(?P<string>"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")|(?P<punctuation>[{}\[\]:,])|-?\d[\d.eE+-]*|true|false|null'
)
# Tokens that may come next, by their first character; 0 stands for a number or a word.
_VALUE = '{["0'
_VALUE_OR_END = '{["0]'
_KEY = '"'
_KEY_OR_END = '"}'


@dataclass(frozen=True)
class JsonScan:
    """Result of a scan.

    Attributes:
        end: end of the scan: one past the value, or past the last token that JSON allows there.
        spans: (start, end) of formatting characters, in order: punctuation, the quotes of every string, whole fixed
            keys, and the white space between.
        complete: True if the value was closed.
        is_call: True if one of `CALL_KEYS` was found in its place in a call.
    """

    end: int
    spans: list[tuple[int, int]]
    complete: bool
    is_call: bool


@dataclass
class _Frame:
    """An open object or array."""

    is_object: bool
    call_level: bool
    """True if its keys are the call's own and not arguments."""
    child_call_level: bool
    """True if the same holds for its next value, if that is an object or an array."""

    @property
    def after_value(self) -> str:
        return ",}" if self.is_object else ",]"


def skip_space(text: str, position: int) -> int:
    """Return the end of the white space at `position`; `position` itself if there is none."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def scan_json(text: str, start: int, *, call_level: bool) -> JsonScan:
    """Scan the JSON object or array that opens at `text[start]`, in time linear in its length.

    Keys count as fixed in the outermost object, in the elements of an outermost array and in the value of a wrapper
    key. The value of any other key, such as "arguments", is content: a "name" there is an argument's name.

    Args:
        text: any text.
        start: position of `{` or `[`.
        call_level: True if the outermost value is a call; False for bare arguments, which have no fixed keys.
    """
    spans: list[tuple[int, int]] = []
    stack: list[_Frame] = []
    expected = _VALUE
    is_call = False
    position = start
    while True:
        begin = skip_space(text, position)
        token = _TOKEN.match(text, begin)
        if token is None:
            if text[begin : begin + 1] == '"' and '"' in expected:  # the start of an unclosed string
                spans.append((position, begin + 1))
            return JsonScan(position, spans, False, is_call)
        kind = text[begin] if token["string"] or token["punctuation"] else "0"
        if kind not in expected:
            return JsonScan(position, spans, False, is_call)
        space_start, position = position, token.end()

        if token["string"]:
            is_key = expected in (_KEY, _KEY_OR_END)
            key = text[begin + 1 : position - 1]
            fixed = is_key and stack[-1].call_level and key in FIXED_KEYS
            is_call = is_call or (fixed and key in CALL_KEYS)
            if fixed:
                spans.append((space_start, position))
            else:
                spans += [(space_start, begin + 1), (position - 1, position)]
            if is_key:
                stack[-1].child_call_level = fixed and key in WRAPPER_KEYS
                expected = ":"
                continue
        elif kind == "0":
            spans.append((space_start, begin))
        else:
            spans.append((space_start, position))

        if kind in "{[":
            level = stack[-1].child_call_level if stack else call_level
            stack.append(_Frame(kind == "{", level, level))
            expected = _KEY_OR_END if kind == "{" else _VALUE_OR_END
            continue
        if kind == ":":
            expected = _VALUE
            continue
        if kind == ",":
            expected = _KEY if stack[-1].is_object else _VALUE
            continue
        if kind in "}]":
            stack.pop()
        if not stack:
            return JsonScan(position, spans, True, is_call)
        expected = stack[-1].after_value
