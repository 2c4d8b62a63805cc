"""Parts of a parsed response, and the builder that the parsers of all formats fill."""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

Span = tuple[int, int]
"""(start, end) in characters (code points) of the response, half-open."""

SegmentKind = Literal["thought", "text", "tag", "name", "argument_name", "argument_value"]


class Segment(NamedTuple):
    """Characters `start` to `end` (half-open) of a response, all of one kind.

    `tag` is text prescribed by the format: tags, labels, and within a call everything but the name, the arguments'
    names and their values; so the quotes of these belong to it. `argument_value` is one argument's whole value: for a
    string the text between the quotes, for an object or array everything including the brackets.
    """

    kind: SegmentKind
    start: int
    end: int


class ArgumentSpan(NamedTuple):
    """Position of an argument, without quotes. `name_span` is None for an argument written without a name."""

    name: str
    name_span: Span | None
    value_span: Span


@dataclass(frozen=True)
class ParsedCall:
    """One call. Spans are None if the call does not come from a text, or the part was not found.

    Attributes:
        name: the function's name; None if unknown.
        arguments: arguments by name; positional ones under "0", "1", … in order. None if the call is not valid.
        span: the call without the tags around it.
        name_span: the name, without quotes.
        arguments_span: all arguments with the brackets or quotes around them.
        argument_spans: each argument found, in the order of the text; also for a call that is not valid.
        error: reason for not being valid, for users; None for a valid call.
    """

    name: str | None
    arguments: dict[str, Any] | None
    span: Span | None = None
    name_span: Span | None = None
    arguments_span: Span | None = None
    argument_spans: tuple[ArgumentSpan, ...] = ()
    error: str | None = None

    @property
    def valid(self) -> bool:
        """True if the name and all arguments could be read. Tags around the call, or missing ones, don't matter."""
        return self.error is None

    def with_error(self, error: str) -> "ParsedCall":
        """Return the same call, not valid."""
        return replace(self, arguments=None, error=error)


@dataclass(frozen=True)
class ParsedResponse:
    """A response split into its parts.

    Attributes:
        format: the name of its format; None if no format was detected.
        segments: segments in order, none empty; they don't overlap and together cover the text.
        calls: calls in the order of the text, including those that are not valid.
    """

    format: str | None
    segments: list[Segment]
    calls: list[ParsedCall]


class ResponseBuilder:
    """Builder of a response from segments and calls in the order of the text. Uncovered characters become `text`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._segments: list[Segment] = []
        self.calls: list[ParsedCall] = []

    @property
    def position(self) -> int:
        """End of the last segment."""
        return self._segments[-1].end if self._segments else 0

    def add(self, kind: SegmentKind, start: int, end: int) -> None:
        """Add characters from `start`, which is not before `position`. Neighbors of one kind are merged."""
        if self.position < start:
            self._fill_gap(start, next_kind=kind)
        if start == end:
            return
        if self._segments and self._segments[-1].kind == kind and kind not in ("name", "argument_value"):
            start = self._segments.pop().start
        self._segments.append(Segment(kind, start, end))

    def add_call(self, call: ParsedCall, pieces: list[Segment]) -> None:
        """Add a call that has a span, and its pieces in order; the text between them is `tag`."""
        self.calls.append(call)
        assert call.span is not None
        position, end = call.span
        for piece in pieces:
            self.add("tag", position, piece.start)
            self.add(*piece)
            position = piece.end
        self.add("tag", position, end)

    def finish(self, format_name: str | None) -> ParsedResponse:
        """Return the response, with its last characters covered too."""
        self._fill_gap(len(self._text), next_kind=None)
        return ParsedResponse(format_name, self._segments, self.calls)

    def _fill_gap(self, end: int, next_kind: SegmentKind | None) -> None:
        start = self.position
        if start == end:
            return
        # White space and separators between two parts of the format also belong to the format.
        prose = ("text", "thought", None)
        previous = self._segments[-1].kind if self._segments else None
        is_layout = previous not in prose and next_kind not in prose and not self._text[start:end].strip(" \t\r\n,;")
        kind: SegmentKind = "tag" if is_layout else "text"
        if previous == kind:
            start = self._segments.pop().start
        self._segments.append(Segment(kind, start, end))
