"""Atomic writes of files, and hashes of values."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.core.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` in one step, on failure it is removed.

    Raises:
        InputError: naming the file, if the file system refuses (no space, no permission, no such folder).
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes private files; these are results, readable like any other file of the user.
        temporary.chmod(0o666 & ~umask())
        temporary.replace(final)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it becomes `path` in one step, on failure it is removed.

    Raises:
        InputError: naming the folder, if the file system refuses, for instance because it already exists.
    """
    final = Path(path)
    temporary = final.with_name(f"{final.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left over from a kill
        temporary.mkdir(parents=True)
        yield temporary
        open_to_umask(temporary)
        temporary.rename(final)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """Return the error for a file that can't be written."""
    return InputError(f"{path}: cannot write: {error.strerror or error}; free space or choose another place and rerun")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; lone surrogates become "?"."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Return the value in a JSON file of ours."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_json_lines(path: str | Path) -> list[Any]:
    """Return the values of a JSON Lines file of ours; other line separators than \\n are part of a text."""
    with Path(path).open(encoding="utf-8", newline="\n") as stream:
        return [json.loads(line) for line in stream]


def write_json_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays as one uncompressed `.npz`, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # our names are not options of savez


def digest(value: Any) -> str:
    """Return a short SHA-256 (16 hex digits) of a JSON-serializable value, the same for equal values on any machine."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def open_to_umask(folder: Path) -> None:
    """Give everything in a folder the default permissions of new files and folders.

    Libraries that write through private temporary files (safetensors among them) leave their files at 0600.
    """
    mask = umask()
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        wanted = mode | ((0o777 if path.is_dir() else 0o666) & ~mask)
        if wanted != mode:
            path.chmod(stat.S_IMODE(wanted))


def umask() -> int:
    """Return the process's mask of permissions that new files don't get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
