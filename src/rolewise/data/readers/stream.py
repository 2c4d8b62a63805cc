"""Conversations of a source one by one: detect the format, check each record, collect invalid ones with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.readers.containers import Container, Record, open_containers
from rolewise.data.readers.record_formats import FORMATS, Format, why_unknown
from rolewise.data.readers.rejects import Rejected
from rolewise.data.readers.struct_nulls import settle_nulls

RECORDS_LOOKED_AT = 10
"""Number of records used to detect the format."""


@dataclass(frozen=True)
class ReadResult:
    """Contents of a source. `rejected` is empty unless `skip_invalid` is set."""

    conversations: list[Conversation]
    rejected: list[Rejected]
    format: str


class ConversationStream:
    """The conversations of a source, in order, each checked on access. It can be iterated over once.

    Attributes:
        rejected: the invalid records so far.
        formats: the formats of the files so far.
    """

    def __init__(self, source: str | Path, format: str | None, skip_invalid: bool, limit: int | None) -> None:
        if format is not None and format not in FORMATS:
            raise InputError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
        self.rejected: list[Rejected] = []
        self.formats: list[str] = []
        self._source = str(source)
        self._format = format
        self._skip_invalid = skip_invalid
        self._container: Container | None = None
        self._iterator = islice(self._read(), limit)

    def __iter__(self) -> Iterator[Conversation]:
        return self._iterator

    def lasting_source(self, conversation: Conversation) -> str:
        """Return the source of the last conversation, without the file's location on this machine."""
        assert self._container is not None
        return self._container.lasting_name + conversation.source.removeprefix(self._container.name)

    def _read(self) -> Iterator[Conversation]:
        found = False
        for container in open_containers(self._source):
            for conversation in self._conversations(container):
                found = True
                yield conversation
        if not found:
            first = self.rejected[0]
            raise InputError(f"{self._source}: no record can be used; the first: {first.source}: {first.reason}")

    def _conversations(self, container: Container) -> Iterator[Conversation]:
        self._container = container
        head = list(islice(container.records, RECORDS_LOOKED_AT))
        if not head:
            raise InputError(f"{container.name}: the file is empty; expected one JSON object a line, or a JSON list")
        format = FORMATS[self._format] if self._format else self._recognise(container.name, head)
        if format.name not in self.formats:
            self.formats.append(format.name)
        for record in chain(head, container.records):
            try:
                yield _convert(record, format)
            except InputError as error:
                if not self._skip_invalid:
                    raise
                self.rejected.append(Rejected(record.source, str(error).removeprefix(f"{record.source}: ")))

    def _recognise(self, name: str, records: list[Record]) -> Format:
        """Return the format whose keys the first records have."""
        objects = [record.value for record in records if isinstance(record.value, dict)]
        counts = {entry.name: sum(map(entry.recognises, objects)) for entry in FORMATS.values()}
        best = max(counts, key=lambda name: counts[name])
        if counts[best]:
            return FORMATS[best]
        broken = next((record for record in records if not isinstance(record.value, dict)), None)
        if broken is not None and (not self._skip_invalid or not objects):
            _convert(broken, FORMATS[best])  # raises: the first invalid record is more informative than the keys
        raise InputError(f"{name}: {why_unknown(objects)}")


def iter_conversations(
    source: str | Path, *, format: str | None = None, skip_invalid: bool = False, limit: int | None = None
) -> ConversationStream:
    """Read the conversations of a source one by one, so that data may be larger than memory.

    Args:
        source: a file (JSON Lines, JSON, Parquet; the first two also packed by gzip, zstd, bzip2 or xz), a folder of
            such files, a glob like `data/*.jsonl`, a data set directory (of `datasets.save_to_disk`), or a hub id
            (`owner/name`, or `owner/name/configuration`). A split of a data set follows a colon: `owner/name:train`.
        format: a name of `FORMATS`; None recognises it, file by file, by the keys of the first records.
        skip_invalid: collect bad records in the stream's `rejected` instead of stopping at the first.
        limit: stop after so many good records; None reads all.

    Raises:
        InputError: here for an unknown format; while reading, naming `file:line` (in other containers
            `file: record N`), for a source that is missing, empty or not UTF-8, for broken JSON, an unknown format,
            a record that is not valid training data, or a source with nothing left.
    """
    return ConversationStream(source, format, skip_invalid, limit)


def read_conversations(
    source: str | Path, *, format: str | None = None, skip_invalid: bool = False, limit: int | None = None
) -> ReadResult:
    """Read all conversations that `iter_conversations` yields into a list; same arguments and errors."""
    stream = iter_conversations(source, format=format, skip_invalid=skip_invalid, limit=limit)
    return ReadResult(list(stream), stream.rejected, ", ".join(stream.formats))


def _convert(record: Record, format: Format) -> Conversation:
    if record.error:
        raise InputError(f"{record.source}: {record.error}; fix or remove the record")
    if not isinstance(record.value, dict):
        raise InputError(f"{record.source}: expected a JSON object, found {type(record.value).__name__}")
    if not format.recognises(record.value):
        seen = ", ".join(map(str, record.value)) or "none"
        raise InputError(f"{record.source}: the record has the keys {seen}; expected {format.shown_keys()}")
    return settle_nulls(format.convert(record.value, record.source).check())
