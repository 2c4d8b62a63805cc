"""Several sources of conversations as one, in sequence or mixed by shares."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.data.conversation import Conversation
from rolewise.data.readers import Rejected, iter_conversations

_SHARE = re.compile(r"(.+)=(\d++(?:\.\d*+)?|\.\d+)")


class Source(NamedTuple):
    """Location of conversations (see `iter_conversations`), and their share of the mixture, if given."""

    location: str
    share: float | None


def parse_sources(text: str) -> list[Source]:
    """Parse sources from an option: `a.jsonl`, `a.jsonl,b.jsonl` or, by shares, `a.jsonl=0.7,b.jsonl=0.3`.

    Raises:
        InputError: if there is no source, or only some have a share above 0.
    """
    sources = []
    for item in [text] if _exists(text) else split_list(text):
        # A folder may have a name like `a,b` or `year=2024`.
        match = None if _exists(item) else _SHARE.fullmatch(item)
        sources.append(Source(match.group(1), float(match.group(2))) if match else Source(item, None))
    if not sources:
        raise InputError(f"{text!r} names no data; give a file, a folder or a data set")
    shared = [source for source in sources if source.share]
    if len(shared) not in (0, len(sources)) or any(source.share == 0 for source in sources):
        raise InputError(f"{text}: give every source a share above 0 (file.jsonl=0.5), or none")
    return sources


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except OSError:  # too long for a file's name
        return False


class SourceMix:
    """The conversations of several sources.

    Without shares one source follows the other. With shares, each conversation comes from the source that is furthest
    behind its share so far, so that every beginning is mixed as requested; the mixture ends with the first source that
    runs out. It can be iterated over once.

    Attributes:
        ended_with: the source that ended a mixture by shares; None before the end and without shares.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        format: str | None = None,
        skip_invalid: bool = False,
        limit: int | None = None,
    ) -> None:
        """Take the arguments of `iter_conversations`; `limit` applies to all sources together."""
        self._sources = sources
        self._streams = [iter_conversations(s.location, format=format, skip_invalid=skip_invalid) for s in sources]
        self._limit = limit
        names = Counter(Path(source.location).name for source in sources)
        # The number tells sources of the same name apart: their location must not matter.
        self._prefixes = [
            f"{number}/" if names[Path(source.location).name] > 1 else ""
            for number, source in enumerate(sources, start=1)
        ]
        self._latest = 0
        self.ended_with: str | None = None

    @property
    def rejected(self) -> list[Rejected]:
        return [entry for stream in self._streams for entry in stream.rejected]

    @property
    def formats(self) -> list[str]:
        return list(dict.fromkeys(name for stream in self._streams for name in stream.formats))

    def lasting_source(self, conversation: Conversation) -> str:
        """Return the source of the last conversation, without the file's location on this machine."""
        return self._prefixes[self._latest] + self._streams[self._latest].lasting_source(conversation)

    def __iter__(self) -> Iterator[Conversation]:
        for index, conversation in islice(self._mixed() if self._sources[0].share else self._chained(), self._limit):
            self._latest = index
            yield conversation

    def _chained(self) -> Iterator[tuple[int, Conversation]]:
        for index, stream in enumerate(self._streams):
            for conversation in stream:
                yield index, conversation

    def _mixed(self) -> Iterator[tuple[int, Conversation]]:
        shares = [source.share or 0.0 for source in self._sources]
        total = sum(shares)
        iterators = [iter(stream) for stream in self._streams]
        counts = [0] * len(shares)
        while True:
            wanted = [share / total * (sum(counts) + 1) - count for share, count in zip(shares, counts, strict=True)]
            index = wanted.index(max(wanted))
            conversation = next(iterators[index], None)
            if conversation is None:
                self.ended_with = self._sources[index].location
                return
            counts[index] += 1
            yield index, conversation
