"""Sources of records: JSON Lines, JSON, Parquet, data set directories, the hub; folders and globs of such files.

JSON Lines and Parquet are read piece by piece, data sets from memory-mapped files or over the network, so they may be
larger than memory. A JSON list is read as a whole.
"""

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from rolewise.core.errors import InputError
from rolewise.core.limits import (
    MAX_FILE_BYTES,
    MAX_LINE_BYTES,
    Line,
    TooLarge,
    joined,
    limited_lines,
    one_line,
    too_long,
)
from rolewise.data.message_fields import without_surrogates
from rolewise.data.readers.record_formats import FORMATS
from rolewise.data.strict_json import read_json

_PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
SUFFIXES = (*(kind + packed for kind in (".jsonl", ".ndjson", ".json") for packed in _PACKED), ".parquet")
"""What is read from a folder; a file that is named is read whatever it is called."""

_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)?")
_PARQUET_MAGIC = b"PAR1"
_WILDCARDS = "*?["
_ROWS_AT_ONCE = 256


class Record(NamedTuple):
    """One value of a file, or the reason for its absence."""

    source: str
    value: Any
    error: str = ""


class Container(NamedTuple):
    """A file or data set: its name for users, the part of the name that is the same on any machine, and its records."""

    name: str
    lasting_name: str
    records: Iterator[Record]


def open_containers(location: str) -> list[Container]:
    """Open the files or data set at a location; a split of a data set follows a colon (`folder:train`).

    Files are not read yet.

    Raises:
        InputError: if the location is missing, or a data set has several splits and none is named.
    """
    path = Path(location)
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.exists():
            return [_open_file(path, path.parent)]
    except OSError as error:  # a name that is too long, a folder without access
        raise InputError(f"{location}: cannot read: {error.strerror or error}") from error
    if any(sign in location for sign in _WILDCARDS):
        root = next(parent for parent in path.parents if not any(sign in str(parent) for sign in _WILDCARDS))
        found = sorted(file for file in root.glob(str(path.relative_to(root))) if file.is_file())
        if not found:
            raise InputError(f"{location}: no file matches the pattern")
        return [_open_file(file, root) for file in found]
    place, colon, split = location.rpartition(":")
    if not colon:
        place, split = location, ""
    elif Path(place).is_dir():
        return [_open_dataset(place, _load_directory(place), split)]
    if _HUB_ID.fullmatch(place) and not place.endswith(SUFFIXES) and not place.startswith("."):
        return [_open_dataset(place, _load_from_hub(place), split)]
    return [_open_file(path, path.parent)]  # raises the error for a missing file


def _open_folder(folder: Path) -> list[Container]:
    if any((folder / name).is_file() for name in _DATASET_FILES):
        return [_open_dataset(str(folder), _load_directory(str(folder)), "")]
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    if not files:
        raise InputError(f"{folder}: holds neither a data set nor files of {', '.join(SUFFIXES)}")
    return [_open_file(file, folder.parent) for file in files]


def _open_file(path: Path, root: Path) -> Container:
    return Container(str(path), str(path.relative_to(root)), _file_records(path))


def _file_records(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic == _PARQUET_MAGIC:
            yield from _parquet_records(path)
        else:
            unpack = next((unpack for sign, unpack in _UNPACK.items() if magic.startswith(sign)), _open_plain)
            with unpack(path) as stream:
                yield from _json_records(path, stream)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


_UNPACK: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
    b"BZh": bz2.open,
    b"\xfd7zX": lzma.open,
}
"""By a file's first bytes, how it is read unpacked."""


def _json_records(path: Path, stream: "IO[bytes] | gzip.GzipFile") -> Iterator[Record]:
    """Records of JSON Lines, of a JSON list, or of a JSON object in which one list holds them."""
    # Lines end at line feeds only: str.splitlines would also cut at U+2028 and other marks that JSON strings may hold.
    is_json = path.name.endswith(tuple(f".json{packed}" for packed in _PACKED))
    start = _first_line(path, stream, is_json)
    if start is None:
        return
    number, head = start
    if head.lstrip()[:1] == b"[" or (is_json and _line_record(path, number, head).error):  # an object over many lines
        yield from _whole_file(path, _rest_of_file(path, stream, head))
        return
    lines = (Line(line.number + number, line.data) for line in limited_lines(stream))
    first = _line_record(path, number, head.lstrip(b"\r\n"))
    later = (_line_record(path, line.number, line.data) for line in lines if line.data is None or line.data.strip())
    second = next(later, None)
    if second is None:
        yield from _unwrapped(path, first)
        return
    yield first
    yield second
    yield from later


def _first_line(path: Path, stream: "IO[bytes] | gzip.GzipFile", is_json: bool) -> tuple[int, bytes] | None:
    """Return the number of the first line that is not blank, and the file up to its end; None if all are blank.

    Raises:
        InputError: if the line is too long, and the file is not read as a whole.
    """
    number, head = 0, bytearray()
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        head += line
        # A file that is read as a whole may have no line feed at all.
        long = len(head) > MAX_LINE_BYTES
        if long and not is_json and head[: 1 << 16].lstrip()[:1] != b"[":
            raise InputError(f"{path}:{number}: {too_long()}; is it JSON Lines, one record a line?")
        if long or line.strip():
            return number, bytes(head)
    return None


def _rest_of_file(path: Path, stream: "IO[bytes] | gzip.GzipFile", head: bytes) -> bytes:
    try:
        return joined(chain([head], iter(lambda: stream.read(1 << 20), b"")), MAX_FILE_BYTES, "the file")
    except TooLarge as error:
        raise InputError(
            f"{path}: {error}, too large to be read as a whole; save it as JSON Lines, which is read line by line"
        ) from error


def _line_record(path: Path, number: int, line: bytes | None) -> Record:
    source = f"{path}:{number}"
    if line is None:
        return Record(source, None, too_long())
    try:
        return Record(source, _parse(line))
    except _ParseError as error:
        return Record(source, None, error.reason if error.column is None else f"{error.reason} (column {error.column})")


def _whole_file(path: Path, data: bytes) -> Iterator[Record]:
    try:
        value = _parse(data)
    except _ParseError as error:
        place = "" if error.column is None else f":{error.line}, column {error.column}"
        raise InputError(f"{path}{place}: {error.reason}; fix the file") from error
    if not isinstance(value, list):
        yield from _unwrapped(path, Record(f"{path}:1", value))
        return
    for number, item in enumerate(value, start=1):
        yield Record(f"{path}: record {number}", item)


def _unwrapped(path: Path, only: Record) -> Iterator[Record]:
    """Yield the records in the one list of a file's only object; the object itself if it may be a record."""
    value = only.value
    lists = [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else []
    if len(lists) != 1 or not lists[0] or any(entry.recognises(value) for entry in FORMATS.values()):
        yield only
        return
    for number, item in enumerate(lists[0], start=1):
        yield Record(f"{path}: record {number}", item)


class _ParseError(Exception):
    def __init__(self, reason: str, line: int = 1, column: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line, self.column = reason, line, column


def _parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _ParseError(f"not UTF-8 (byte {error.start}); save it as UTF-8") from error
    try:
        value = read_json(text)
    except json.JSONDecodeError as error:
        raise _ParseError(f"broken JSON: {error.msg}", error.lineno, error.colno) from error
    except ValueError as error:  # a number with thousands of digits, thousands of nested brackets
        raise _ParseError(f"JSON that can't be read: {error}") from error
    # A lone surrogate can only come from a \u escape; no tokenizer accepts it.
    return without_surrogates(value) if "\\u" in text else value


def _parquet_records(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    from rolewise.data.readers.arrow_values import rows_of

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(_ROWS_AT_ONCE) for row in rows_of(batch))
            for number, row in enumerate(rows, start=1):
                yield Record(f"{path}: record {number}", row)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {one_line(error)}") from error


def _load_directory(path: str) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(path)
    except Exception as error:  # the library raises errors of many kinds for a damaged directory
        raise InputError(f"{path}: not a readable data set directory: {_one_line(error)}") from error


def _load_from_hub(name: str) -> Any:
    """Return a data set of the hub, `owner/name` or `owner/name/configuration`, by split, streamed."""
    import datasets

    owner, repository, *configuration = name.split("/")
    try:
        return datasets.load_dataset(f"{owner}/{repository}", *configuration, streaming=True)
    except Exception as error:  # network, permissions, scripts, configurations: each with its own type
        raise InputError(
            f"{name}: neither a local file or folder nor a data set that can be read from the hub: {_one_line(error)}"
        ) from error


def _open_dataset(name: str, data: Any, split: str) -> Container:
    if isinstance(data, Mapping):
        splits = ", ".join(map(str, data))
        if not split and len(data) != 1:
            raise InputError(f"{name}: has the splits {splits}; choose one, for instance {name}:{next(iter(data))}")
        if split and split not in data:
            raise InputError(f"{name}: has no split {split!r}; choose one of {splits}")
        data = data[split or next(iter(data))]
    elif split:
        raise InputError(f"{name}: has no splits; remove :{split}")
    lasting = Path(name).name if Path(name).is_dir() else name
    return Container(name, f"{lasting}:{split}" if split else lasting, _dataset_records(name, data))


def _dataset_records(name: str, data: Any) -> Iterator[Record]:
    from rolewise.data.readers.arrow_values import rows_of

    batches = iter(data.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE))
    number = 0
    while True:
        try:
            batch = next(batches, None)
            rows = None if batch is None else list(rows_of(batch))
        except Exception as error:
            raise InputError(
                f"{name}: record {number + 1} or one soon after can't be read: {_one_line(error)}"
            ) from error
        if rows is None:
            return
        for row in rows:
            number += 1
            yield Record(f"{name}: record {number}", row)


def _one_line(error: Exception) -> str:
    return one_line(error) or type(error).__name__
