"""Data files of benchmarks: a local copy, or a pinned download that is verified before use.

Git and the hub pin a file by commit and address; in addition, the SHA-256 confirms that the download is that file.
"""

import hashlib
import json
import re
import shutil
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_path
from rolewise.core.limits import MAX_FILE_BYTES, TooLarge, one_line, read_text, write_limited
from rolewise.data.strict_json import read_json
from rolewise.evaluation.suite import SuiteSettings

UNKNOWN_FILE = "not a file that is known"
"""Mark in `FoundFile.identity` for a local copy that differs from the pinned file."""

_TIMEOUT = 60.0
"""Seconds without data after which a download is aborted."""

_CHUNK = 1 << 20

_HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True)
class DataFile:
    """A benchmark's file at its source.

    Attributes:
        name: name in the cache.
        url: download address, pinned to a commit. A data set's file on the Hugging Face hub,
            `https://huggingface.co/datasets/OWNER/NAME/resolve/COMMIT/PATH`, is fetched by huggingface_hub, which
            respects the user's token, mirror and offline mode.
        sha256: SHA-256 of the file at the address, as 64 hex digits; None if the commit alone pins it.
        local: path of a local copy, relative to `SuiteSettings.data`.
        local_sha256: SHA-256 of the usual local copy, if that is the same data in another form (such as JSON Lines).
    """

    name: str
    url: str
    sha256: str | None
    local: str
    local_sha256: str | None = None


@dataclass(frozen=True)
class FoundFile:
    """A data file on this machine.

    Attributes:
        path: path of the file.
        sha256: SHA-256 of its bytes, as 64 hex digits.
        origin: origin of the file: the user's local copy, an earlier download, or a new download.
        known_as: digest at the source, if this is the same data; None if that is unknown.
    """

    path: Path
    sha256: str
    origin: Literal["local", "cache", "download"]
    known_as: str | None

    @property
    def identity(self) -> str:
        """Identity of the data for a run's records: the same for a known file wherever it was found."""
        return self.known_as or f"{self.sha256} ({UNKNOWN_FILE})"


def find_file(file: DataFile, settings: SuiteSettings) -> FoundFile:
    """Return the user's copy of a data file, else the one in the cache, else a download.

    A local copy may have any content; `FoundFile.known_as` is set if it is known. A download must match its digest.

    Raises:
        InputError: if the file is missing, can't be downloaded or read, or differs from the pinned file.
    """
    if settings.data is not None and (copy := settings.data / file.local).is_file():
        sha256 = _sha256(copy)
        known = sha256 in (file.sha256, file.local_sha256)
        return FoundFile(copy, sha256, "local", (file.sha256 or sha256) if known else None)
    # For a file without a known digest, the address distinguishes versions, because it holds the commit.
    cached = settings.cache / "data" / (file.sha256 or hashlib.sha256(file.url.encode()).hexdigest()) / file.name
    if cached.is_file() and (sha256 := _sha256(cached)) == (file.sha256 or sha256):
        return FoundFile(cached, sha256, "cache", file.sha256)
    return FoundFile(cached, _download(file, cached), "download", file.sha256)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSON list or of JSON Lines, whichever the file holds.

    Raises:
        InputError: naming file and line (or record), for a file that can't be read, broken JSON, or anything but
            objects.
    """
    try:
        text = read_text(path, MAX_FILE_BYTES, "data file", "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error
    if text.lstrip().startswith("["):
        return [
            _as_object(item, f"{path}: record {number}") for number, item in enumerate(_parse(text, path, 1), start=1)
        ]
    # Lines end at line feeds only: str.splitlines would also cut at U+2028, which JSON strings may hold.
    return [
        _as_object(_parse(line, path, number), f"{path}:{number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _parse(text: str, path: Path, first_line: int) -> Any:
    try:
        return read_json(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{first_line + error.lineno - 1}"
        raise InputError(f"{place}: broken JSON: {error.msg} (column {error.colno}); fix the file") from error
    except ValueError as error:
        raise InputError(f"{path}:{first_line}: JSON that can't be read: {error}; fix the file") from error


def _as_object(value: Any, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{source}: expected a JSON object, found {type(value).__name__}; fix the file")
    return value


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    return digest.hexdigest()


def _download(file: DataFile, path: Path) -> str:
    """Fetch a file to `path` atomically and return its SHA-256."""
    try:
        with atomic_path(path) as temporary:
            hub = _HUB_DATASET.fullmatch(file.url)
            try:
                if hub:
                    _fetch_from_hub(hub[1], hub[2], hub[3], temporary)
                else:
                    _fetch(file.url, temporary)
            except (OSError, HTTPException, TooLarge) as error:
                raise InputError(
                    f"{file.url}: cannot download: {_reason(error)}; try again, or put a copy at {_place(file)}"
                ) from error
            sha256 = _sha256(temporary)
            if file.sha256 not in (None, sha256):
                raise InputError(
                    f"{file.url}: the download has SHA-256 {sha256}, expected {file.sha256}; it broke in transit or "
                    f"the source has changed: try again, or put a trusted copy at {_place(file)}"
                )
    except InputError:
        with suppress(OSError):  # the folder holds other files, or was never created
            path.parent.rmdir()
        raise
    return sha256


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as stream:
        write_limited(response.read1, stream, "the file")


def _fetch_from_hub(repository: str, revision: str, name: str, path: Path) -> None:
    from huggingface_hub import hf_hub_download

    # Through the hub's own cache, whose files are found without a network too.
    shutil.copyfile(hf_hub_download(repository, name, repo_type="dataset", revision=revision), path)


def _place(file: DataFile) -> str:
    return f"ROLEWISE_DATA/{file.local} (the folder that the environment variable ROLEWISE_DATA names)"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {one_line(error.reason)}"
    if isinstance(error, urllib.error.URLError):
        return one_line(getattr(error.reason, "strerror", None) or error.reason)
    return one_line(error) or type(error).__name__
