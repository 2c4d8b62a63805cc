"""Which characters of a JSON tool call are structure, and which are content.

Not a parser that accepts or refuses: models write broken JSON, so the scan goes as far as the text is JSON and says how
far that was. Every character is looked at once, nothing is evaluated, and depth costs no recursion.
"""

import re
from dataclasses import dataclass

WRAPPER_KEYS = frozenset({"function", "function_call", "tool_call", "tool_calls"})
"""Fixed keys whose value is a call, or a list of calls, again."""

FIXED_KEYS = WRAPPER_KEYS | {"action", "action_input", "arguments", "id", "name", "parameters", "type"}
"""Keys that the call's format prescribes (arXiv 2412.14780, appendix D.2: "tool_call", "name", "arguments")."""

CALL_KEYS = WRAPPER_KEYS | {"action_input", "arguments", "parameters"}
"""Fixed keys that tell a call from other JSON; "name" or "id" alone could be anything's."""

_SPACE = re.compile(r"\s*")
# A raw line break ends a string, as JSON has it; so a quote left open spoils its own line and no more.
_TOKEN = re.compile(
    r'(?P<string>"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")|(?P<punctuation>[{}\[\]:,])|-?\d[\d.eE+-]*|true|false|null'
)
# What may come next, by the token's first character; 0 stands for a number or a word.
_VALUE = '{["0'
_VALUE_OR_END = '{["0]'
_KEY = '"'
_KEY_OR_END = '"}'


@dataclass(frozen=True)
class JsonScan:
    """What a scan found.

    Attributes:
        end: where it stopped: one past the value, or past the last token that JSON allows there.
        spans: (start, end) of formatting characters, in order: punctuation, the quotes of every string, fixed keys
            whole, and the white space between.
        complete: whether the value was closed.
        is_call: whether one of `CALL_KEYS` stood where a call has it.
    """

    end: int
    spans: list[tuple[int, int]]
    complete: bool
    is_call: bool


@dataclass
class _Frame:
    """An object or array that is open."""

    is_object: bool
    call_level: bool
    """Its keys are the call's own and not arguments."""
    child_call_level: bool
    """So are those of its next value, if that is an object or an array."""

    @property
    def after_value(self) -> str:
        return ",}" if self.is_object else ",]"


def skip_space(text: str, position: int) -> int:
    """Return where the white space at `position` ends; `position` itself if there is none."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def scan_json(text: str, start: int, *, call_level: bool) -> JsonScan:
    """Scan the JSON object or array that opens at `text[start]`, in time linear in its length.

    Keys count as fixed in the outermost object, in the elements of an outermost array and in the value of a wrapper
    key. What lies inside any other key, such as "arguments", is content: a "name" there is an argument's name.

    Args:
        text: any text.
        start: where it has `{` or `[`.
        call_level: whether the outermost value is a call; False for bare arguments, which have no fixed keys.
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
            if text[begin : begin + 1] == '"' and '"' in expected:  # a string that never ends, but it began
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
