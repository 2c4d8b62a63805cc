"""Regions of sampled responses: tags, tool names, arguments, thoughts, answers, on exactly the sampled ids.

A response is parsed once (`parse_response`: every format, every call, including broken and cut ones) and its spans are
projected onto the tokens' own characters (`TokenTable`). No text is tokenized again.

Shapes: B responses, T tokens of one response.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rolewise.core.region import Region
from rolewise.data.spans import project
from rolewise.data.token_text import TokenTable, token_table
from rolewise.data.tool_calls import ParsedCall, ParsedResponse, parse_response
from rolewise.roles.closed_tags import ClosedTags, without_open_thoughts

RegionSpan = tuple[int, int, int]
"""(start, end, `Region`) in characters, half-open."""

_TAG = re.compile(r"</?(?:think|thinking|tool_call|response)>|\[/?THINK\]|\[TOOL_CALLS\]|<\|python_tag\|>")
_MISTRAL_TAG = re.compile(r"\[/?THINK\]|\[TOOL_CALLS\]|\[ARGS\]|\[CALL_ID\]|</?(?:think|thinking)>")
_REACT_TAG = re.compile(
    r"(?:^[ \t]*)(?P<label>(?:Thought|Action Input|Action|Observation|Final Answer)(?:[ ]?\d+)?[ \t]*:)"
    r"|</?(?:think|thinking)>",
    re.MULTILINE,
)
_TAGS_OF = {"react": _REACT_TAG, "fireact": _REACT_TAG, "mistral": _MISTRAL_TAG, "mistral-args": _MISTRAL_TAG}
"""The formats with tags other than `_TAG`; their tags also occur within a call, between its name and its arguments."""

_FORMATS_WITH_ANSWER_TAGS = ("rlla", "react", "fireact")
_OF_KIND = {
    "thought": Region.THINK,
    "name": Region.TOOL_NAME,
    "argument_name": Region.ARGUMENT_NAME,
    "argument_value": Region.ARGUMENT_VALUE,
}


class RegionSpans(NamedTuple):
    """The regions of a text. Both lists are in order and without overlap.

    Attributes:
        leaves: every region but ARGUMENTS; touching spans of one region are merged.
        arguments: each call's arguments as a whole, including the leaves inside them.
    """

    leaves: list[RegionSpan]
    arguments: list[RegionSpan]


def label_regions(
    ids: Any,
    tokenizer: Any,
    format: str | None = None,
    *,
    masks: Any = None,
    touching: bool = False,
    closed: bool = False,
) -> list[npt.NDArray[np.uint8]]:
    """Return the region of every token of sampled responses.

    A token is in a region if all of its characters are; a part of an argument takes precedence over the arguments
    around it. A token across the border of two regions is OTHER, unless both belong to the arguments.

    Args:
        ids: the token ids of each response; lists, arrays, or one integer tensor or array (B, T).
        tokenizer: the Transformers tokenizer of the sampling model; read once, then cached.
        format: a key of `CALL_FORMATS`; None detects it for each response.
        masks: of the same form as `ids`, True for the tokens that the model itself wrote. Each run of these is parsed
            as a separate response, so that one row may hold several turns with tool results between them; padding and
            text of others is OTHER. None uses all tokens.
        touching: give a token across a border the region of most of its characters, the first one in a tie.
        closed: as for `region_spans`.

    Returns:
        One uint8 array [T] of `Region` per response.

    Raises:
        InputError: for an unknown format.
        ValueError: for masks that don't fit the ids.
    """
    table = token_table(tokenizer)
    rows = [_as_list(row) for row in _as_list(ids)]
    masked = None if masks is None else [_as_list(row) for row in _as_list(masks)]
    if masked is not None and [len(row) for row in masked] != [len(row) for row in rows]:
        raise ValueError("the masks and the ids have different shapes")
    labelled = []
    for number, row in enumerate(rows):
        regions_T = np.zeros(len(row), dtype=np.uint8)
        runs = [(0, len(row))] if masked is None else _runs(masked[number])
        for start, end in runs:
            regions_T[start:end] = _label(row[start:end], table, format, touching, closed)
        labelled.append(regions_T)
    return labelled


def region_spans(text: str, format: str | None = None, *, closed: bool = False) -> RegionSpans:
    """Return the regions of a response's characters.

    Text outside thoughts and calls is RESPONSE if the format has no tag for answers (as Hermes), else only text after
    `<response>` or `Final Answer:`. A text without a detected format has no regions. Tags that a thought or a sentence
    mentions belong to it.

    Args:
        text: any text; time is linear in its length.
        format: a key of `CALL_FORMATS`; None detects it.
        closed: return only pairs of an opening and a closing tag, and the text between them: text after an unclosed
            tag is not a region, nor is a thought without its opening tag, nor are arguments with an unclosed bracket.
            Parts that a format writes without closing tags, as in ReAct and in Mistral's calls, stay.

    Raises:
        InputError: for an unknown format.
    """
    whole_text = text
    if closed:
        text = without_open_thoughts(text)
    parsed = parse_response(text, format)
    if parsed.format == "hermes" and any(
        "<response>" in text[segment.start : segment.end] for segment in parsed.segments if segment.kind == "text"
    ):
        # Only a key that models confuse tells these formats apart; with answer tags it is rlla whatever the key.
        parsed = parse_response(text, "rlla")
    in_order: Iterable[RegionSpan] = _leaves(text, parsed)
    calls = parsed.calls
    if closed:
        tags = ClosedTags(whole_text, parsed.format)
        in_order, calls = tags.leaves(in_order, calls), tags.calls(calls)
    leaves = _merged(text, in_order)
    if parsed.format is None and all(region == Region.RESPONSE for _, _, region in leaves):
        leaves = []
    spans = [call.arguments_span for call in calls if call.arguments_span]
    return RegionSpans(leaves, [(start, end, int(Region.ARGUMENTS)) for start, end in spans if start < end])


def _label(
    ids_T: Sequence[int], table: TokenTable, format: str | None, touching: bool, closed: bool
) -> npt.NDArray[np.uint8]:
    text, start_T, end_T = table.text(ids_T)
    leaves, arguments = region_spans(text, format, closed=closed)
    regions_T = project(leaves, start_T, end_T)
    if arguments:
        outer_T = project(arguments, start_T, end_T)
        regions_T = np.where(regions_T == Region.OTHER, outer_T, regions_T)
    if touching:
        _take_touching(regions_T, leaves, arguments, start_T, end_T)
    return regions_T


def _take_touching(
    regions_T: npt.NDArray[np.uint8],
    leaves: list[RegionSpan],
    arguments: list[RegionSpan],
    start_T: npt.NDArray[np.int32],
    end_T: npt.NDArray[np.int32],
) -> None:
    """Give tokens that are not wholly in one region the region of most of their characters."""
    region_C = np.zeros(int(end_T.max(initial=0)), dtype=np.uint8)
    for start, end, region in [*arguments, *leaves]:
        region_C[start:end] = region
    for index in np.flatnonzero((regions_T == Region.OTHER) & (start_T < end_T)):
        inside = region_C[start_T[index] : end_T[index]]
        inside = inside[inside != Region.OTHER]
        if inside.size:
            found, first, counts = np.unique(inside, return_index=True, return_counts=True)
            regions_T[index] = found[np.lexsort((first, -counts))[0]]


def _leaves(text: str, parsed: ParsedResponse) -> Iterator[RegionSpan]:
    """Yield the spans of the segments: by their kind, the tags within them, and the context of a text."""
    pattern = _TAGS_OF.get(parsed.format or "", _TAG)
    answers_have_tags = parsed.format in _FORMATS_WITH_ANSWER_TAGS
    calls = _CallsInOrder(parsed.calls)
    opened = ""  # the last tag
    for segment in parsed.segments:
        if segment.kind == "tag":
            for match in pattern.finditer(text, segment.start, segment.end):
                start = match.start("label") if pattern is _REACT_TAG and match["label"] else match.start()
                if pattern is _TAG and calls.hold(start):
                    continue  # part of a key
                yield start, match.end(), int(Region.TAG)
                opened = match[0].strip()
        elif segment.kind == "text":
            in_call = calls.hold(segment.start)
            is_answer = opened.startswith(("<response>", "Final Answer"))
            is_free = not answers_have_tags and opened != "<tool_call>"
            if not in_call and (is_answer or is_free) and not text[segment.start : segment.end].isspace():
                yield segment.start, segment.end, int(Region.RESPONSE)
        else:
            yield segment.start, segment.end, int(_OF_KIND[segment.kind])


class _CallsInOrder:
    """Test of characters, queried in order, for being within a call."""

    def __init__(self, calls: Sequence[ParsedCall]) -> None:
        self._spans = [call.span for call in calls if call.span]
        self._next = 0

    def hold(self, position: int) -> bool:
        while self._next < len(self._spans) and self._spans[self._next][1] <= position:
            self._next += 1
        return self._next < len(self._spans) and self._spans[self._next][0] <= position


def _merged(text: str, spans: Iterable[RegionSpan]) -> list[RegionSpan]:
    """Join touching spans of one region, and give spaces before a part that are in no region to the part.

    Tokenizers join a space to the next word: otherwise the first token of a name after `Action: ` would never count.
    """
    merged: list[RegionSpan] = []
    for start, end, region in spans:
        if region != Region.TAG:
            border = merged[-1][1] if merged else 0
            while start > border and text[start - 1] in " \t":
                start -= 1
        if merged and merged[-1][1] == start and merged[-1][2] == region:
            merged[-1] = merged[-1][0], end, region
        else:
            merged.append((start, end, region))
    return merged


def _runs(mask_T: Sequence[Any]) -> list[tuple[int, int]]:
    """Return (start, end) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.array([0, *(bool(value) for value in mask_T), 0], dtype=np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _as_list(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else list(values)
