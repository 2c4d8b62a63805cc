"""Limits on input: length of a line, size and duration of a reply, depth of a value; and safe display of foreign text.

Files and servers belong to other people. Each limit is far above the needs of honest data, and below the size that
takes down the process. All code that reads JSON, YAML or replies, and all code that prints foreign text, goes through
this module.
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
"""Nesting depth of objects and lists. Code that walks through a record may recurse this deep."""

MAX_LINE_BYTES = 64 << 20
"""Size of one record of JSON Lines, decompressed."""

MAX_FILE_BYTES = 1 << 30
"""Size of a file that is read whole, decompressed, such as a JSON list."""

MAX_SETTINGS_BYTES = 1 << 20
"""Size of a file that people write for a program: YAML, a chat template, an adapter's config."""

MAX_YAML_VALUES = 200_000
"""Number of values in a YAML file with its aliases expanded: nine lines of aliases can stand for billions."""

MAX_REPLY_BYTES = 256 << 20
"""Size of a server's reply, decompressed. Log-probabilities of long prompts take tens of megabytes."""

MAX_DOWNLOAD_BYTES = 4 << 30
MAX_DOWNLOAD_SECONDS = 3600.0
MAX_SHOWN = 300
"""Number of characters of a foreign message that are shown to the user."""

# C0 and C1 controls except tab and line feed; marks that change the direction of writing; halves of surrogate pairs,
# which can't be printed.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class TooLarge(Exception):
    """Input that is larger than its limit; the message names the input and the limit."""


class Line(NamedTuple):
    """A line and its number, from 1; `data` is None if the line exceeds the limit."""

    number: int
    data: bytes | None


def printable(text: str) -> str:
    """Return foreign text with each control character replaced by U+FFFD, so that it can't control a terminal; line
    feeds and tabs stay."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(value: Any, limit: int | None = MAX_SHOWN) -> str:
    """Return foreign text, or an error or value as text, in a form fit for a message: `printable`, on one line,
    truncated."""
    try:
        text = str(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deep to show"
    if limit is not None and len(text) > 20 * limit:  # white space is dropped later, but a gigabyte need not be scanned
        text = text[: 20 * limit]
    text = printable(" ".join(text.split()))
    return text if limit is None or len(text) <= limit else f"{text[:limit]}…"


def size(count: int) -> str:
    """Return a limit in words, such as `64 MiB`."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):g} {unit}"
    return f"{count} bytes"


def limited_lines(stream: "IO[bytes] | gzip.GzipFile", limit: int | None = None) -> Iterator[Line]:
    """Yield the lines of a binary stream, none of them longer in memory than `limit` bytes (default: `MAX_LINE_BYTES`).

    A longer line is skipped; a `Line` without data is yielded before the rest of it is read.
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
    """Return the message about a line that `limited_lines` skips."""
    return f"the line has more than {size(MAX_LINE_BYTES if limit is None else limit)}"


def joined(parts: Iterable[bytes], limit: int, what: str) -> bytes:
    """Join input that arrives in pieces.

    Raises:
        TooLarge: naming `what`, if there are more than `limit` bytes.
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
    """Parse JSON as `json.loads` does; all unreadable input, including input too deep or too large, is a ValueError.

    Raises:
        json.JSONDecodeError: for broken JSON.
        ValueError: with the reason, for values that are nested deeper than `MAX_DEPTH` or do not fit in memory.
    """
    try:
        value = json.loads(text, **how)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    except MemoryError as error:
        raise ValueError("too large for this machine's memory") from error
    signs = (b"{", b"[") if isinstance(text, bytes) else ("{", "[")
    if sum(map(text.count, signs)) > MAX_DEPTH:  # type: ignore[arg-type]  # signs of the same type as the text
        check_depth(value)
    return value


def check_depth(value: Any, most: int | None = None) -> None:
    """Check the depth and the number of values of nested lists and dictionaries.

    Args:
        value: the result of parsing JSON or YAML.
        most: largest number of values; one that stands in several places counts at each; None for any number.

    Raises:
        ValueError: if the value is nested deeper than `MAX_DEPTH`, or holds more than `most` values.
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
    """Read a file that the user named, as text.

    Args:
        path: the file.
        limit: maximum size in bytes. Default: `MAX_SETTINGS_BYTES`.
        what: the expected kind of file, for the message.
        encoding: encoding of the text.

    Raises:
        InputError: naming the file, if it is larger.
        OSError: if it can't be read.
        UnicodeDecodeError: if it is in another encoding.
    """
    limit = MAX_SETTINGS_BYTES if limit is None else limit
    with Path(path).open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path}: has more than {size(limit)}; check that this is the {what} you mean")
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: str | Path, what: str = "file") -> Any:
    """Read the value of a YAML file that the user named.

    Raises:
        InputError: naming the file, and the line if known, if it can't be read, is not YAML, or is too large for a
            configuration.
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
    except ValueError as error:  # an impossible date, a number of thousands of digits
        raise InputError(f"{path}: not valid YAML ({one_line(error)})") from error
    return value


def write_limited(read: Callable[[int], bytes], stream: IO[bytes], what: str) -> None:
    """Copy a download from `read` to `stream`.

    `read` should return the bytes that have arrived, as `read1` does, and not wait for all of them.

    Raises:
        TooLarge: naming `what`, if there are more than `MAX_DOWNLOAD_BYTES`.
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
