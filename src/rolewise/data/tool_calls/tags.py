"""Calls between tags: `<tool_call>` of Hermes, Qwen and many others, and ToolRL's rlla with `<response>` besides."""

import json
import re
from collections.abc import Sequence

from rolewise.data.tool_calls.json_calls import read_calls
from rolewise.data.tool_calls.json_scan import scan_value, skip_space
from rolewise.data.tool_calls.parsed import ParsedCall, ResponseBuilder

THOUGHT_TAGS = ("think", "thinking")

_TAG = re.compile(r"<(?P<slash>/?)(?P<name>tool_call|response|think|thinking)>")
# The continuation of a block after a broken call: the next line that begins a call, or a tag.
_NEXT = re.compile(rf'^[ \t]*(?:\[\s*)?\{{\s*"name"|{_TAG.pattern}', re.MULTILINE)
# An object among other words that may be a call; a code fence around it changes nothing.
_OBJECT = re.compile(
    rf'(?P<object>(?:\[\s*)?\{{\s*"(?P<key>name|id|type|function|api|arguments|parameters)"\s*:)|{_TAG.pattern}'
)
_WRAPPER = re.compile(r'\{\s*"(?:tool_calls?|function_call)"\s*:\s*[{\[]')
_FENCE = re.compile(r"```[\w-]*\s*")
_KEYS_OF_ANYTHING = ("id", "type")
_BEHIND_WORDS = "other words stand before the call"


def parse_hermes(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read `<tool_call>{"name": …, "arguments": {…}}</tool_call>` from `position` on, with thoughts between tags."""
    _parse(text, position, builder, other_tags=())


def parse_rlla(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read as `parse_hermes`, with all calls of a turn in one block, one per line, and answers in `<response>` tags."""
    _parse(text, position, builder, other_tags=("response",))


def write_hermes(calls: Sequence[ParsedCall]) -> str:
    """Write each call in its own block."""
    return "\n".join(f"<tool_call>\n{_json(call, 'arguments')}\n</tool_call>" for call in calls)


def write_rlla(calls: Sequence[ParsedCall]) -> str:
    """Write all calls in one block."""
    lines = "\n".join(_json(call, "parameters") for call in calls)
    return f"<tool_call>\n{lines}\n</tool_call>"


def _json(call: ParsedCall, arguments_key: str) -> str:
    return json.dumps({"name": call.name, arguments_key: call.arguments}, ensure_ascii=False)


def _parse(text: str, position: int, builder: ResponseBuilder, other_tags: tuple[str, ...]) -> None:
    while tag := _TAG.search(text, position):
        position = tag.end()
        name, opens = tag["name"], not tag["slash"]
        if name in THOUGHT_TAGS and opens:
            builder.add("tag", *tag.span())
            close = text.find(f"</{name}>", position)
            position = len(text) if close < 0 else close
            builder.add("thought", tag.end(), position)
        elif name == "tool_call" and opens:
            position = _read_block(text, tag, builder)
        elif name == "tool_call" or name in THOUGHT_TAGS or name in other_tags:
            builder.add("tag", *tag.span())


def _read_block(text: str, tag: re.Match[str], builder: ResponseBuilder) -> int:
    """Read the block that `tag` opens up to its closing tag; prose that mentions the tag is left alone.

    A call in a code fence is a call. Those of a block that begins with other words, or with an object around the calls,
    are not valid, but their parts have their places.
    """
    start = skip_space(text, tag.end())
    if text.startswith(("{", "["), start) and not _WRAPPER.match(text, start):
        builder.add("tag", *tag.span())
        return _read_objects(text, start, builder, trusted=True)
    if start < len(text) and not _begins_line(text, tag.start(), builder):
        return tag.end()
    builder.add("tag", *tag.span())
    seen = len(builder.calls)
    first = _OBJECT.search(text, start)
    if first and first["object"]:
        position = _read_objects(text, first.start(), builder, trusted=first["key"] not in _KEYS_OF_ANYTHING)
        if not _FENCE.fullmatch(text, start, first.start()):
            _mark_behind_words(builder, seen, len(text))
        if len(builder.calls) > seen:
            return position
    end = _TAG.search(text, start)
    builder.add_call(ParsedCall(None, None, span=(start, start), error="no JSON object behind <tool_call>"), [])
    return end.start() if end else len(text)


def _read_objects(text: str, position: int, builder: ResponseBuilder, *, trusted: bool) -> int:
    """Read the calls of a block from `position` on, whatever stands between them.

    Behind a call that broke, what looks like the next one may still be within it, unless it begins a line.
    """
    begins, line_end = True, position
    while True:
        seen = len(builder.calls)
        position = read_calls(text, position, builder, trusted=trusted)
        if not begins:
            _mark_behind_words(builder, seen, line_end)
        broke = len(builder.calls) > seen and not _is_whole(text, builder.calls[-1])
        following = (_NEXT if broke else _OBJECT).search(text, position)
        if following is None or following["name"]:
            return position
        position = following.start()
        begins = broke or _begins_line(text, position, builder)
        if not begins and position > line_end:
            line_end = text.find("\n", position)
            line_end = len(text) if line_end < 0 else line_end
        trusted = broke or (begins and following["key"] == "name")


def _is_whole(text: str, call: ParsedCall) -> bool:
    return call.valid or (call.span is not None and scan_value(text, call.span[0], '"').complete)


def _mark_behind_words(builder: ResponseBuilder, seen: int, end: int) -> None:
    """Say of all calls but the first `seen` that they are not valid, as far as they begin before `end`."""
    builder.calls[seen:] = [
        call.with_error(call.error or _BEHIND_WORDS) if call.span and call.span[0] < end else call
        for call in builder.calls[seen:]
    ]


def _begins_line(text: str, position: int, builder: ResponseBuilder) -> bool:
    while position > builder.position and text[position - 1] in " \t":
        position -= 1
    return position == builder.position or text[position - 1] in "\r\n"
