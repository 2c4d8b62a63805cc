"""ReAct's labelled lines (arXiv 2210.03629): with JSON input as in ToolBench, or FireAct's `Action: search[query]`."""

import json
import re
from collections.abc import Sequence
from typing import Any

from rolewise.data.tool_calls.json_calls import Arguments, arguments_at
from rolewise.data.tool_calls.json_scan import skip_space
from rolewise.data.tool_calls.parsed import ArgumentSpan, ParsedCall, ResponseBuilder, Segment, Span

LABEL = re.compile(
    r"^[ \t]*(?P<label>Thought|Action Input|Action|Observation|Final Answer)(?:[ ]?\d+)?[ \t]*:[ \t]*", re.MULTILINE
)


def parse_react(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read the labelled lines from `position` on.

    An input that is not a JSON object is one argument without a name, "0". So is the text in FireAct's brackets; its
    `finish[…]` is a call like any other.
    """
    label = LABEL.search(text, position)
    while label:
        following = LABEL.search(text, label.end())
        end = following.start() if following else len(text)
        if label["label"] == "Action":
            is_input_next = following is not None and following["label"] == "Action Input"
            end = _read_action(text, label, following if is_input_next else None, end, builder)
            following = LABEL.search(text, end)
        else:
            # An input at this point has no action before it.
            builder.add("tag", *label.span())
            builder.add("thought" if label["label"] == "Thought" else "text", label.end(), end)
        label = following


def write_react(calls: Sequence[ParsedCall]) -> str:
    """Write two lines per call, the input as JSON."""
    return "\n".join(
        f"Action: {call.name}\nAction Input: {json.dumps(call.arguments, ensure_ascii=False)}" for call in calls
    )


def write_fireact(calls: Sequence[ParsedCall]) -> str:
    """Write one line per call; its one argument is "0"."""
    return "\n".join(f"Action: {call.name}[{(call.arguments or {}).get('0')}]" for call in calls)


def _read_action(
    text: str, label: re.Match[str], input_label: re.Match[str] | None, end: int, builder: ResponseBuilder
) -> int:
    """Read the action whose label ends before `end`, and its labelled input, if any; return the end of the call."""
    builder.add("tag", *label.span())
    start, stop = _first_line(text, label.end(), end)
    written = text[start:stop]
    bracket = written.find("[")
    if input_label is None and bracket > 0:
        return _read_bracketed(text, (start, stop), start + bracket, builder)
    name_span = (start, stop) if written else None
    pieces = [Segment("name", start, stop)] if written else []
    if input_label is None:
        call = ParsedCall(written or None, None, span=(start, stop), name_span=name_span, error="no Action Input")
        builder.add_call(call, pieces)
        return stop
    arguments = _read_input(text, input_label.end())
    # White space and the label between name and input belong to the call; other text there is kept as text.
    pieces += [Segment("text", stop, input_label.start())] if text[stop : input_label.start()].strip() else []
    error = arguments.error if written else "the action has no name"
    call = ParsedCall(
        name=written or None,
        arguments=arguments.values if error is None else None,
        span=(start, arguments.span[1]),
        name_span=name_span,
        arguments_span=arguments.span,
        argument_spans=arguments.spans,
        error=error,
    )
    builder.add_call(call, [*pieces, *arguments.pieces])
    return arguments.span[1]


def _read_input(text: str, start: int) -> Arguments:
    """Read an input: a JSON object, or the text up to the next label as one argument without a name."""
    opening = skip_space(text, start)
    if text.startswith("{", opening):
        return arguments_at(text, opening)
    following = LABEL.search(text, start)
    end = following.start() if following else len(text)
    written = text[opening:end].rstrip() if opening < end else ""
    if not written:
        return Arguments(None, (start, start), (), [], "the Action Input is empty")
    span = opening, opening + len(written)
    return Arguments({"0": written}, span, (ArgumentSpan("0", None, span),), [Segment("argument_value", *span)], None)


def _read_bracketed(text: str, line: Span, bracket: int, builder: ResponseBuilder) -> int:
    """Read `search[query]`, whose bracket may extend to the end of the line; return the end of the line."""
    start, stop = line
    name = text[start:bracket].rstrip()
    closed = text[stop - 1] == "]"
    value_span = bracket + 1, stop - closed
    values: dict[str, Any] | None = {"0": text[slice(*value_span)]} if closed else None
    call = ParsedCall(
        name=name,
        arguments=values,
        span=line,
        name_span=(start, start + len(name)),
        arguments_span=(bracket, stop),
        argument_spans=(ArgumentSpan("0", None, value_span),),
        error=None if closed else "the bracket is not closed on its line",
    )
    pieces = [Segment("name", start, start + len(name))]
    if value_span[0] < value_span[1]:
        pieces.append(Segment("argument_value", *value_span))
    builder.add_call(call, pieces)
    return stop


def _first_line(text: str, start: int, end: int) -> Span:
    """Return the first line between `start` and `end` that is not blank, without the white space around it."""
    start = min(skip_space(text, start), end)
    stop = text.find("\n", start, end)
    written = text[start : stop if stop >= 0 else end].rstrip()
    return start, start + len(written)
