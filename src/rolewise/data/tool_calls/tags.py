"""Calls between tags: `<tool_call>` of Hermes, Qwen and many others, and ToolRL's rlla with `<response>` besides."""

import json
import re
from collections.abc import Sequence

from rolewise.data.tool_calls.json_calls import read_calls
from rolewise.data.tool_calls.json_text import skip_space
from rolewise.data.tool_calls.parsed import ParsedCall, ResponseBuilder

THOUGHT_TAGS = ("think", "thinking")

_TAG = re.compile(r"<(?P<slash>/?)(?P<name>tool_call|response|think|thinking)>")
# Where a block goes on behind a call that broke: the next line that begins one, or a tag.
_NEXT = re.compile(rf'^[ \t]*(?:\[\s*)?\{{\s*"name"|{_TAG.pattern}', re.MULTILINE)
# The first object of a block that begins with something else; a code fence around it changes nothing.
_OBJECT = re.compile(r'(?:\[\s*)?\{\s*"(?:name|type|function|api|arguments|parameters)"\s*:')
_FENCE = re.compile(r"```[\w-]*\s*")


def parse_hermes(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read `<tool_call>{"name": …, "arguments": {…}}</tool_call>` from `position` on, with thoughts between tags."""
    _parse(text, position, builder, other_tags=())


def parse_rlla(text: str, position: int, builder: ResponseBuilder) -> None:
    """As `parse_hermes`, with all calls of a turn in one block, one a line, and the answer in `<response>` tags."""
    _parse(text, position, builder, other_tags=("response",))


def write_hermes(calls: Sequence[ParsedCall]) -> str:
    """Each call in a block of its own."""
    return "\n".join(f"<tool_call>\n{_json(call, 'arguments')}\n</tool_call>" for call in calls)


def write_rlla(calls: Sequence[ParsedCall]) -> str:
    """All calls in one block."""
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

    A call in a code fence is a call. One behind other words is not valid, but its parts have their places.
    """
    start = skip_space(text, tag.end())
    if text.startswith(("{", "["), start):
        builder.add("tag", *tag.span())
        return _read_objects(text, start, builder)
    if start < len(text) and not _begins_line(text, tag.start(), builder):
        return tag.end()
    builder.add("tag", *tag.span())
    following = _TAG.search(text, start)
    end = following.start() if following else len(text)
    first = _OBJECT.search(text, start, end)
    if first is None:
        builder.add_call(ParsedCall(None, None, span=(start, start), error="no JSON object behind <tool_call>"), [])
        return end
    seen = len(builder.calls)
    position = _read_objects(text, first.start(), builder)
    if not _FENCE.fullmatch(text, start, first.start()):
        error = "the block begins with other words than a call"
        builder.calls[seen:] = [call.with_error(call.error or error) for call in builder.calls[seen:]]
    return position


def _read_objects(text: str, position: int, builder: ResponseBuilder) -> int:
    position = read_calls(text, position, builder, trusted=True)
    while (resume := _NEXT.search(text, position)) and not resume["name"]:
        position = read_calls(text, resume.start(), builder, trusted=True)
    return position


def _begins_line(text: str, position: int, builder: ResponseBuilder) -> bool:
    while position > builder.position and text[position - 1] in " \t":
        position -= 1
    return position == builder.position or text[position - 1] in "\r\n"
