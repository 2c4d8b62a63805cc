"""The steps of an experiment, each in a process of its own, and the record of what each was made with.

A process each, rather than calls in this one: whatever a run held, on the device as well, is free before the next, a
crash or the kernel's out-of-memory killer ends one run and not the experiment, and training can be started by
`torchrun` or `accelerate launch`. The price is some seconds of imports per step.
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
_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, since little may be done after a fork


@dataclass(frozen=True)
class Stage:
    """A step with a result of its own.

    Attributes:
        place: directory of the result, below the experiment's output, with `/`.
        settings: what makes it this result and no other, as JSON values; not where things lie.
        result: a file in the directory that is there once the step is done.
    """

    place: str
    settings: dict[str, Any]
    result: str = "run.json"


class StageRecord:
    """What the stages of an experiment were begun with, in its `stages.json`.

    Raises:
        InputError: if that file can't be read.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output / RECORD_FILE
        self._settings: dict[str, Any] = _read_record(self._path) if self._path.exists() else {}

    def settings(self, place: str) -> dict[str, Any] | None:
        """What the stage of that place was begun with; None if it was not, or nothing of it is left."""
        directory = self._output / place
        left = directory.exists() or partial(directory).exists()
        return self._settings.get(place) if left else None

    def place(self, settings: dict[str, Any]) -> str | None:
        """The place of a stage that was begun with these settings."""
        return next((place for place, begun in self._settings.items() if begun == settings), None)

    def check(self, stage: Stage) -> None:
        """See that what is there of a stage was begun with these settings.

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
        """Note that a stage is about to be worked on."""
        if self._settings.get(stage.place) != as_json(stage.settings):
            self._settings[stage.place] = as_json(stage.settings)
            write_json(self._path, self._settings)

    def finished(self, stage: Stage) -> bool:
        """Whether its result is there."""
        return (self._output / stage.place / stage.result).exists()


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are read back."""
    read: dict[str, Any] = json.loads(json.dumps(settings))
    return read


def partial(directory: Path) -> Path:
    """Where a command works until all is done."""
    return directory.with_name(f"{directory.name}.partial")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); put it back, or choose another output") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: damaged (no JSON object); put it back, or choose another output")
    return settings


def run_command(words: Sequence[str], log: Path, said: Callable[[str], None]) -> str | None:
    """Run a command to its end with all that it prints in `log`.

    Args:
        words: the command.
        log: file to write.
        said: is given the last line of the log whenever it is another one.

    Returns:
        None if it succeeded, else one line that says why not.
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
            if process.poll() is None:  # this process was interrupted, and so was that one if they share a terminal
                process.terminate()
                process.wait()
    if process.returncode == 0:
        return None
    return _why(process.returncode, _tail(log))


def _end_with_parent() -> None:
    """In the started process: have the kernel end it when this one is gone, by SIGKILL as well.

    Else it would go on alone, and the experiment, started again, would find device and directory taken.
    """
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _why(code: int, lines: Sequence[str]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    told = [line for line in lines if line.startswith("rolewise ")]  # torchrun says more after it
    line = (told or list(lines) or [f"exit code {code}"])[-1]
    return line.partition(": ")[2] if line.startswith("rolewise ") else line


def _tail(log: Path) -> list[str]:
    """The last lines of a log that are not empty."""
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
