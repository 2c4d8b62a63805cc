"""The commands of an experiment in the process of the tests. A pytest plugin, named in `conftest.py`."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from rolewise.cli.main import main
from rolewise.experiment_runner import stages


class InProcess:
    """Does the commands of an experiment in this process, which is quicker, and counts them.

    Attributes:
        done: what was started, by its words after `-m`.
        stop_at: raise an interrupt before this one, counted from 1.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stop_at = 0

    def __call__(self, words: Sequence[str], log: Path, said: Callable[[str], None]) -> str | None:
        if len(self.done) + 1 == self.stop_at:
            raise KeyboardInterrupt
        module, *rest = words[words.index("-m") + 1 :]
        self.done.append(rest[0] if module == "rolewise" else module.rpartition(".")[2])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream, contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
            if module == "rolewise":
                code = main(rest)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sys, "argv", [module, *rest])
                    code = import_module(module).main() or 0
        said("finished")
        return None if code == 0 else stages._why(code, stages._tail(log))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Experiments of the test start nothing."""
    commands = InProcess()
    monkeypatch.setattr("rolewise.experiment_runner.run.run_command", commands)
    return commands
