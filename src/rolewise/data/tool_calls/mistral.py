"""Mistral's calls: `[TOOL_CALLS] [{"name": …, "arguments": {…}}]`, and since v11 `[TOOL_CALLS]name[ARGS]{…}`."""

import json
import re
from collections.abc import Sequence

from rolewise.data.tool_calls.json_calls import arguments_at, read_calls
from rolewise.data.tool_calls.json_scan import skip_space
from rolewise.data.tool_calls.parsed import ParsedCall, ResponseBuilder, Segment

MARKER = "[TOOL_CALLS]"
_ID, _ARGUMENTS = "[CALL_ID]", "[ARGS]"
_NAME = re.compile(r"[^\[{\r\n]*")


def parse_mistral(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read the calls after each `[TOOL_CALLS]`, in either notation."""
    while (marker := text.find(MARKER, position)) >= 0:
        position = marker + len(MARKER)
        builder.add("tag", marker, position)
        start = skip_space(text, position)
        if text.startswith(("{", "["), start) and not text.startswith(("[CALL_ID]", "[ARGS]"), start):
            position = read_calls(text, start, builder, trusted=True)
        else:
            position = _read_named(text, start, builder)


def write_mistral(calls: Sequence[ParsedCall]) -> str:
    """Write one list after one marker, as for tokenizers up to v7."""
    entries = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return f"{MARKER} {json.dumps(entries, ensure_ascii=False)}"


def write_mistral_args(calls: Sequence[ParsedCall]) -> str:
    """Write a marker for each call, as for tokenizers since v11."""
    return "".join(f"{MARKER}{call.name}{_ARGUMENTS}{json.dumps(call.arguments, ensure_ascii=False)}" for call in calls)


def _read_named(text: str, start: int, builder: ResponseBuilder) -> int:
    """Read `name[ARGS]{…}`, with or without `[CALL_ID]…` after the name; return the position of its end."""
    match = _NAME.match(text, start)
    written = match[0].rstrip() if match else ""
    position = name_end = start + len(written)
    pieces = [Segment("name", start, name_end)] if written else []
    if text.startswith(_ID, position):
        position += len(_ID)
        id_match = _NAME.match(text, position)
        id_end = id_match.end() if id_match else position
        pieces.append(Segment("text", position, id_end))
        position = id_end
    call = ParsedCall(written or None, None, span=(start, position), name_span=(start, name_end) if written else None)
    if not text.startswith(_ARGUMENTS, position):
        builder.add_call(call.with_error(f"no {_ARGUMENTS} after the name"), pieces)
        return position
    opening = skip_space(text, position + len(_ARGUMENTS))
    if not text.startswith("{", opening):
        call = ParsedCall(call.name, None, (start, position + len(_ARGUMENTS)), call.name_span)
        builder.add_call(call.with_error(f"no JSON object after {_ARGUMENTS}"), pieces)
        return position + len(_ARGUMENTS)
    arguments = arguments_at(text, opening)
    end = arguments.span[1]
    error = arguments.error if written else "the call has no name"
    call = ParsedCall(
        name=call.name,
        arguments=arguments.values if error is None else None,
        span=(start, end),
        name_span=call.name_span,
        arguments_span=arguments.span,
        argument_spans=arguments.spans,
        error=error,
    )
    builder.add_call(call, [*pieces, *arguments.pieces])
    return end
