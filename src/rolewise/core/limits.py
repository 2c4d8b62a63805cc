"""What may come in: how long a line, how large and slow a reply, how deep a value; and foreign text made fit to show.

Files and servers are other people's. Each limit is far above what honest data needs, and below what takes down the
process; all that reads JSON, YAML or replies, and all that prints foreign text, goes by way of this module.
"""

import gzip
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import yaml

from rolewise.core.errors import InputError

MAX_DEPTH = 200
"""Objects and lists within one another. Whatever walks through a record may recurse so deep."""

MAX_LINE_BYTES = 64 << 20
"""One record of JSON Lines, unpacked."""

MAX_FILE_BYTES = 1 << 30
"""A file that is read whole, unpacked, such as a JSON list."""

MAX_SETTINGS_BYTES = 1 << 20
"""A file that people write for a program: YAML, a chat template, an adapter's config."""

MAX_YAML_VALUES = 200_000
"""Values of a YAML file with its aliases written out: nine lines of them can stand for billions."""

MAX_REPLY_BYTES = 256 << 20
"""A server's reply, unpacked. Log-probabilities of long prompts take tens of megabytes."""

MAX_DOWNLOAD_BYTES = 4 << 30
MAX_DOWNLOAD_SECONDS = 3600.0
MAX_SHOWN = 300
"""Characters of a foreign message that are repeated to the user."""

# C0 and C1 controls but tab and line feed; marks that turn the direction of writing; halves of surrogate pairs, which
# can't be printed.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class TooLarge(Exception):
    """What came in is larger than its limit; the message says what and how large it may be."""


class Line(NamedTuple):
    """A line and its number from 1; `data` is None for one that is longer than it may be."""

    number: int
    data: bytes | None


def printable(text: str) -> str:
    """Foreign text with each control character replaced by U+FFFD, so that it can't steer a terminal; line feeds and
    tabs stay."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(value: Any, limit: int | None = MAX_SHOWN) -> str:
    """Foreign text, or an error or value as text, fit to be part of a message: `printable`, on one line, cut."""
    try:
        text = str(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deep to show"
    if limit is not None and len(text) > 20 * limit:  # white space may go, but a gigabyte need not be looked through
        text = text[: 20 * limit]
    text = printable(" ".join(text.split()))
    return text if limit is None or len(text) <= limit else f"{text[:limit]}…"


def size(count: int) -> str:
    """A limit in words, as `64 MiB`."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):g} {unit}"
    return f"{count} bytes"


def limited_lines(stream: "IO[bytes] | gzip.GzipFile", limit: int | None = None) -> Iterator[Line]:
    """The lines of a binary stream, none of them longer in memory than `limit` bytes (`MAX_LINE_BYTES`).

    A longer one is passed over, and comes as a `Line` without data before that is done.
    """
    limit = MAX_LINE_BYTES if limit is None else limit
    number = 0
    while line := stream.readline(limit + 1):
        number += 1
        if len(line) <= limit:
            yield Line(number, line)
            continue
        yield Line(number, None)
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)


def too_long(limit: int | None = None) -> str:
    """What is said of a line that `limited_lines` passes over."""
    return f"the line has more than {size(MAX_LINE_BYTES if limit is None else limit)}"


def joined(parts: Iterable[bytes], limit: int, what: str) -> bytes:
    """Join what comes in piece by piece.

    Raises:
        TooLarge: naming `what`, if it is more than `limit` bytes.
    """
    kept: list[bytes] = []
    total = 0
    for part in parts:
        total += len(part)
        if total > limit:
            raise TooLarge(f"{what} has more than {size(limit)}")
        kept.append(part)
    return b"".join(kept)


def parse_json(text: str | bytes, **how: Any) -> Any:
    """As `json.loads`; whatever can't be read, for its depth or size too, is a ValueError.

    Raises:
        json.JSONDecodeError: for broken JSON.
        ValueError: saying why, for values nested deeper than `MAX_DEPTH`, and what does not fit in memory.
    """
    try:
        value = json.loads(text, **how)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    except MemoryError as error:
        raise ValueError("too large for this machine's memory") from error
    signs = (b"{", b"[") if isinstance(text, bytes) else ("{", "[")
    if sum(map(text.count, signs)) > MAX_DEPTH:  # type: ignore[arg-type]  # signs of the text's own kind
        check_depth(value)
    return value


def check_depth(value: Any, most: int | None = None) -> None:
    """Look through a value of lists and dictionaries.

    Args:
        value: as JSON or YAML gives it.
        most: values that it may hold, one that stands in several places counted at each; None for any number.

    Raises:
        ValueError: if it is nested deeper than `MAX_DEPTH`, or holds more.
    """
    level = [value]
    seen = 0
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = []
        for item in inner:
            level += item.values() if isinstance(item, dict) else item
            if most is not None and seen + len(level) > most:
                raise ValueError(f"holds more than {most:,} values")
        seen += len(level)
        if not level:
            return
    if any(isinstance(item, dict | list) for item in level):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")


def read_text(path: str | Path, limit: int | None = None, what: str = "file", encoding: str = "utf-8") -> str:
    """A file that a user gives, as text.

    Args:
        path: the file.
        limit: bytes that it may have; by default `MAX_SETTINGS_BYTES`.
        what: it is meant to be, for the message.
        encoding: of the text.

    Raises:
        InputError: naming the file, if it is larger.
        OSError: if it can't be read.
        UnicodeDecodeError: if it is in another encoding.
    """
    limit = MAX_SETTINGS_BYTES if limit is None else limit
    with Path(path).open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path}: has more than {size(limit)}; is it the {what} that you mean?")
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: str | Path, what: str = "file") -> Any:
    """The value of a YAML file that a user gives.

    Raises:
        InputError: naming the file, and the line where one is known, if it can't be read, is no YAML or more than a
            configuration can be.
    """
    try:
        value = yaml.safe_load(read_text(path, what=what))
        check_depth(value, MAX_YAML_VALUES)
    except OSError as error:
        raise InputError(f"{path}: cannot read the {what} ({error.strerror})") from error
    except RecursionError as error:
        raise InputError(f"{path}: not valid YAML (nested more than {MAX_DEPTH} deep)") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid YAML (not UTF-8)") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark is not None else ""
        said = one_line(getattr(error, "problem", None) or error)
        raise InputError(f"{path}{place}: not valid YAML ({said})") from error
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise InputError(f"{path}: not valid YAML ({one_line(error)})") from error
    return value


def write_limited(read: Callable[[int], bytes], stream: IO[bytes], what: str) -> None:
    """Copy a download that `read` gives, which should return what has come, as `read1` does, and not wait for all.

    Raises:
        TooLarge: naming `what`, if it is more than `MAX_DOWNLOAD_BYTES`.
        TimeoutError: if it takes longer than `MAX_DOWNLOAD_SECONDS`.
    """
    deadline = time.monotonic() + MAX_DOWNLOAD_SECONDS
    left = MAX_DOWNLOAD_BYTES
    while chunk := read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise TooLarge(f"{what} has more than {size(MAX_DOWNLOAD_BYTES)}")
        stream.write(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {MAX_DOWNLOAD_SECONDS:g} s")
