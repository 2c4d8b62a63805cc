"""Steps of an experiment, each in its own process, and the record of the settings of each.

Separate processes instead of calls in this one ensure that all memory of a run, on the device as well, is free before
the next, that a crash or the kernel's out-of-memory killer ends one run and not the experiment, and that training can
be started by `torchrun` or `accelerate launch`. The cost is a few seconds of imports per step.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import write_json

RECORD_FILE = "stages.json"
SECONDS_BETWEEN_LOOKS = 0.25
_TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, since little is safe after a fork


@dataclass(frozen=True)
class Stage:
    """A step with its own result.

    Attributes:
        place: directory of the result, below the experiment's output, with `/`.
        settings: values that identify the result, as JSON; no locations.
        result: a file in the directory that exists once the step is done.
    """

    place: str
    settings: dict[str, Any]
    result: str = "run.json"


class StageRecord:
    """Record of the settings of an experiment's started stages, in its `stages.json`.

    Raises:
        InputError: if that file can't be read.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output / RECORD_FILE
        self._settings: dict[str, Any] = _read_record(self._path) if self._path.exists() else {}

    def settings(self, place: str) -> dict[str, Any] | None:
        """Return the settings that the stage there was started with; None if it never was, or nothing is left."""
        directory = self._output / place
        left = directory.exists() or partial(directory).exists()
        return self._settings.get(place) if left else None

    def place(self, settings: dict[str, Any]) -> str | None:
        """Return the place of a stage that was started with these settings."""
        return next((place for place, begun in self._settings.items() if begun == settings), None)

    def check(self, stage: Stage) -> None:
        """Check that existing output of a stage was started with these settings.

        Raises:
            InputError: naming the directory and the settings that differ.
        """
        directory = self._output / stage.place
        found = [d for d in (directory, partial(directory)) if d.exists()]
        if not found:
            return
        before = self._settings.get(stage.place)
        if before is None:
            raise InputError(f"{found[0]}: not made by this experiment; choose another output or remove it")
        now = as_json(stage.settings)
        if before != now:
            differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
            raise InputError(
                f"{found[0]}: made with other settings or inputs ({_differences(differing, before, now)}); "
                "choose another output or remove it"
            )

    def begin(self, stage: Stage) -> None:
        """Record that work on a stage is about to start."""
        if self._settings.get(stage.place) != as_json(stage.settings):
            self._settings[stage.place] = as_json(stage.settings)
            write_json(self._path, self._settings)

    def finished(self, stage: Stage) -> bool:
        """Return True if the stage's result exists."""
        return (self._output / stage.place / stage.result).exists()


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in the form in which they are read back."""
    read: dict[str, Any] = json.loads(json.dumps(settings))
    return read


def partial(directory: Path) -> Path:
    """Return the directory in which a command works until all is done."""
    return directory.with_name(f"{directory.name}.partial")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); restore it, or choose another output") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: damaged (not a JSON object); restore it, or choose another output")
    return settings


def run_command(words: Sequence[str], log: Path, said: Callable[[str], None]) -> str | None:
    """Run a command to completion, with all its output in `log`.

    Args:
        words: the command.
        log: file to write.
        said: receives the last line of the log whenever it changes.

    Returns:
        None on success, else the reason for the failure in one line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                preexec_fn=None if _LIBC is None else _end_with_parent,
            )
        except OSError as error:
            return f"cannot start {words[0]}: {error.strerror or error}"
        try:
            last = ""
            while process.poll() is None:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                lines = _tail(log)
                if lines and lines[-1] != last:
                    last = lines[-1]
                    said(last)
        finally:
            if process.poll() is None:  # this process was interrupted, and so was the other if they share a terminal
                process.terminate()
                process.wait()
    if process.returncode == 0:
        return None
    return _why(process.returncode, _tail(log))


def _end_with_parent() -> None:
    """In the started process: have the kernel end it when its parent ends, even by SIGKILL.

    Otherwise it would continue alone, and the restarted experiment would find device and directory occupied.
    """
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _why(code: int, lines: Sequence[str]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", possibly out of memory" if name == "SIGKILL" else "")
    told = [line for line in lines if line.startswith("rolewise ")]  # torchrun prints more after it
    line = (told or list(lines) or [f"exit code {code}"])[-1]
    return line.partition(": ")[2] if line.startswith("rolewise ") else line


def _tail(log: Path) -> list[str]:
    """Return the last nonempty lines of a log."""
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        text = stream.read().decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _differences(names: Sequence[str], before: Any, now: Any) -> str:
    shown = []
    for name in names:
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = [key for key in {**a, **b} if a.get(key) != b.get(key)]
            shown.append(_differences(inner, a, b))
        else:
            shown.append(name)
    return ", ".join(shown)
