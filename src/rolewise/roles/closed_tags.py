"""Regions between an opening tag and its closing tag: the only ones that ResT's official code weights."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from rolewise.core.region import Region
from rolewise.data.tool_calls import ParsedCall
from rolewise.data.tool_calls.json_scan import JSON, scan_value
from rolewise.data.tool_calls.parsed import Span

_CLOSING = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "<tool_call>": "</tool_call>",
    "<response>": "</response>",
}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}
_THOUGHTS = ("<think>", "<thinking>", "[THINK]")
_FORMATS_WITH_CALL_TAGS = (None, "hermes", "rlla")


def without_open_thoughts(text: str) -> str:
    """Return the text, at the same length, with unclosed thought tags replaced by other characters.

    Text that such a thought would swallow is then read by its own kind: the official code weights the calls in it.
    """
    for opening in _THOUGHTS:
        closed = text.rfind(_CLOSING[opening]) + 1
        text = text[:closed] + text[closed:].replace(opening, "." * len(opening))
    return text


class ClosedTags:
    """A text's elements: from each opening tag to the next tag that closes it, whatever is between them.

    Args:
        text: any text; time is linear in its length.
        format: format of its calls, a key of `CALL_FORMATS` or None.
    """

    def __init__(self, text: str, format: str | None) -> None:
        self._text = text
        self._calls_have_tags = format in _FORMATS_WITH_CALL_TAGS
        self._elements = {opening: _elements(text, opening, closing) for opening, closing in _CLOSING.items()}

    def calls(self, calls: Iterable[ParsedCall]) -> list[ParsedCall]:
        """Return the calls whose arguments are within an element, with all their brackets closed."""
        return [call for call in calls if call.arguments_span is None or self._has_whole_arguments(call.arguments_span)]

    def leaves(
        self, leaves: Iterable[tuple[int, int, int]], calls: Sequence[ParsedCall]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the regions, given in order, that are within their element and not in cut arguments of the `calls`."""
        cut = [call.arguments_span for call in calls if call.arguments_span]
        cut = [span for span in cut if not self._has_whole_arguments(span)]
        number, opened = 0, ""
        for start, end, region in leaves:
            if region == Region.TAG:
                opened = self._text[start:end].strip()
                if self._is_paired(opened, start, end):
                    yield start, end, region
                continue
            while number < len(cut) and cut[number][1] <= start:
                number += 1
            if number < len(cut) and cut[number][0] <= start:
                continue
            if self._holds(region, opened, start, end):
                yield start, end, region

    def _is_paired(self, tag: str, start: int, end: int) -> bool:
        if tag in _CLOSING:
            found = self._element(tag, start)
            return found is not None and found[0] == start
        if tag in _OPENING:
            found = self._element(_OPENING[tag], start)
            return found is not None and found[1] == end
        return True

    def _holds(self, region: int, opened: str, start: int, end: int) -> bool:
        if region == Region.THINK:
            # A label, as in ReAct, opens a thought without a closing tag.
            return opened.endswith(":") or self._inside(_THOUGHTS, start, end)
        if region == Region.RESPONSE:
            return opened != "<response>" or self._inside((opened,), start, end)
        return not self._calls_have_tags or self._inside(("<tool_call>",), start, end)

    def _has_whole_arguments(self, span: Span) -> bool:
        if not self._calls_have_tags:
            return True
        start, end = span
        return scan_value(self._text, start, JSON.quotes).complete and self._inside(("<tool_call>",), start, end)

    def _inside(self, openings: Iterable[str], start: int, end: int) -> bool:
        found = (self._element(opening, start) for opening in openings)
        return any(element is not None and end <= element[1] for element in found)

    def _element(self, opening: str, position: int) -> Span | None:
        """Return the last element of a kind that begins at or before a position."""
        elements = self._elements[opening]
        number = bisect_right(elements, position, key=lambda element: element[0])
        return elements[number - 1] if number else None


def _elements(text: str, opening: str, closing: str) -> list[Span]:
    found = []
    end = 0
    while (start := text.find(opening, end)) >= 0 and (close := text.find(closing, start + len(opening))) >= 0:
        end = close + len(closing)
        found.append((start, end))
    return found
