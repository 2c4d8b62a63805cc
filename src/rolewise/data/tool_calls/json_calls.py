"""Calls written as JSON objects, which most formats share, and their arguments."""

from typing import Any, NamedTuple

from rolewise.data.tool_calls.json_scan import (
    JSON,
    MAX_DEPTH,
    Member,
    Notation,
    ValueScan,
    decode,
    decoded_string,
    members,
    scan_value,
    skip_space,
)
from rolewise.data.tool_calls.parsed import ArgumentSpan, ParsedCall, ResponseBuilder, Segment, Span

NAME_KEYS = ("name", "function", "api")
"""Keys of the name: the usual one, some of Llama's calls, Seal-Tools. OpenAI has the whole call under "function"."""

ARGUMENT_KEYS = ("arguments", "parameters")
"""Keys of the arguments. Each format prescribes one of them, but models mix them up, so both are accepted."""


class Arguments(NamedTuple):
    """One object of arguments as read; if it is invalid, `values` is None and `error` states the reason."""

    values: dict[str, Any] | None
    span: Span
    spans: tuple[ArgumentSpan, ...]
    pieces: list[Segment]
    error: str | None


class CallObject(NamedTuple):
    """One JSON object as read."""

    call: ParsedCall
    pieces: list[Segment]
    looks_like_call: bool
    """True if it has a name and arguments, or was cut short before them."""


def read_calls(text: str, position: int, builder: ResponseBuilder, *, trusted: bool, notation: Notation = JSON) -> int:
    """Read the calls from `position` on: objects one after another, in an array, or separated by `,` or `;`.

    Args:
        text: the response.
        position: start of the first call or of its array's bracket, optionally preceded by white space.
        builder: receives the calls.
        trusted: True if the preceding text announces calls here. If not, an object counts only if it looks like a call.
        notation: JSON, or Python for dicts as written by `repr`.

    Returns:
        The position at which reading ended; after `position` unless there is nothing to read.
    """
    open_lists = 0
    while True:
        start = skip_space(text, position)
        if builder.calls and text.startswith((",", ";"), start):
            start = skip_space(text, start + 1)
        if text.startswith("[", start) and not open_lists:
            after = skip_space(text, start + 1)
            if text.startswith("{", after) or (trusted and text.startswith("]", after)):
                builder.add("tag", start, start + 1)
                open_lists, position = 1, start + 1
                continue
            return max(position, start + 1)
        if open_lists and text.startswith("]", start):
            builder.add("tag", start, start + 1)
            open_lists, position = 0, start + 1
            continue
        if not text.startswith("{", start):
            return position
        scan = scan_value(text, start, notation.quotes)
        found = read_call(text, start, scan, notation)
        position = scan.end
        if trusted or found.looks_like_call:
            call = found.call
            if call.valid and _line_goes_on(text, position):
                call = call.with_error("more text after the call's last bracket")
            builder.add_call(call, found.pieces)
        if not scan.complete:
            return position


def read_call(text: str, start: int, scan: ValueScan, notation: Notation = JSON) -> CallObject:
    """Read the object at `text[start]` as a call; `scan` is its result from `scan_value`."""
    value: Any = None
    error: str | None = "the call is cut short or broken"
    if scan.complete or scan.depth > MAX_DEPTH:
        value, error = notation.decode(text[start : scan.end], scan.depth)
    fields = members(text, start, scan.end, notation)
    others: list[Member] = []
    inner = next((field for field in fields if field.key == "function" and text[field.value_span[0]] == "{"), None)
    if inner:
        others = [field for field in fields if field is not inner]
        fields = members(text, *inner.value_span, notation)
        value = value.get("function") if isinstance(value, dict) else None

    name_field = _last(fields, NAME_KEYS, text, notation.quotes)
    arguments_field = _last(fields, ARGUMENT_KEYS)
    others += [field for field in fields if field not in (name_field, arguments_field)]

    pieces = [Segment("text", *_inside(text, field, notation)) for field in others]
    name: str | None = None
    name_span = None
    if name_field:
        name_span = _inside(text, name_field, notation)
        pieces.append(Segment("name", *name_span))
        if name_field.complete:
            name = notation.decode_string(text[slice(*name_field.value_span)])
    arguments = None
    if arguments_field:
        arguments = read_arguments(text, arguments_field, notation)
        pieces += arguments.pieces
    if error is None:
        error = _what_is_missing(name, arguments)
    call = ParsedCall(
        name=name or None,
        arguments=arguments.values if arguments and error is None else None,
        span=(start, scan.end),
        name_span=name_span,
        arguments_span=arguments.span if arguments else None,
        argument_spans=arguments.spans if arguments else (),
        error=error,
    )
    looks_like_call = name_field is not None and (arguments is not None or not scan.complete)
    return CallObject(call, sorted(_without_empty(pieces), key=lambda piece: piece.start), looks_like_call)


def read_arguments(text: str, field: Member, notation: Notation = JSON) -> Arguments:
    """Read an object of arguments, or one written as JSON text within a string, as OpenAI does."""
    start, end = field.value_span
    if text[start] in notation.quotes:
        pieces = [Segment("argument_value", *_inside(text, field, notation))]
        values, error = _arguments_in_string(text[start:end]) if field.complete else (None, "cut short")
        return Arguments(values, (start, end), (), _without_empty(pieces), error)
    scan = scan_value(text, start, notation.quotes)
    value, error = notation.decode(text[start:end], scan.depth) if field.complete else (None, "cut short")
    if error is None and not isinstance(value, dict):
        error = "the arguments are not an object"
    if text[start] != "{":
        return Arguments(None, (start, end), (), [Segment("argument_value", start, end)] if start < end else [], error)
    pieces, spans = [], []
    for argument in members(text, start, end, notation):
        value_span = _inside(text, argument, notation)
        spans.append(ArgumentSpan(argument.key, argument.key_span, value_span))
        pieces += [Segment("argument_name", *argument.key_span), Segment("argument_value", *value_span)]
    return Arguments(value if error is None else None, (start, end), tuple(spans), _without_empty(pieces), error)


def arguments_at(text: str, start: int) -> Arguments:
    """Read the object of arguments at `text[start]`."""
    scan = scan_value(text, start, JSON.quotes)
    return read_arguments(text, Member("", (start, start), (start, scan.end), scan.complete))


def _arguments_in_string(literal: str) -> tuple[dict[str, Any] | None, str | None]:
    inner = decoded_string(literal)
    start = skip_space(inner, 0)
    value, error = decode(inner, scan_value(inner, start, JSON.quotes).depth)
    if error is None and not isinstance(value, dict):
        error = "the arguments are not an object"
    return (value, None) if error is None else (None, error)


def _last(fields: list[Member], keys: tuple[str, ...], text: str | None = None, quotes: str = "") -> Member | None:
    """Return the field with the first of `keys` found, the last if several (as in JSON); with `text`, only strings."""
    for key in keys:
        for field in reversed(fields):
            if field.key == key and (text is None or text[field.value_span[0]] in quotes):
                return field
    return None


def _inside(text: str, field: Member, notation: Notation) -> Span:
    """Return a value's span, without the quotes if it is a string."""
    start, end = field.value_span
    if start < end and text[start] in notation.quotes:
        return start + 1, end - field.complete
    return start, end


def _what_is_missing(name: str | None, arguments: Arguments | None) -> str | None:
    if not name:
        return "the call has no name"
    if arguments is None:
        return "the call has no arguments"
    return arguments.error


def _line_goes_on(text: str, position: int) -> bool:
    """Return True if anything but another call, a tag or the end of list or code fence follows on the line."""
    while text.startswith((" ", "\t"), position):
        position += 1
    return position < len(text) and text[position] not in "\r\n<{[,;]" and not text.startswith("```", position)


def _without_empty(pieces: list[Segment]) -> list[Segment]:
    return [piece for piece in pieces if piece.start < piece.end]
