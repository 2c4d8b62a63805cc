"""A command that kills its own process at a named point of its work, for tests of what a kill leaves behind."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked

from rolewise.cli.main import main


def run_killed(arguments: list[str], point: str, folder: Path) -> int:
    """The exit code of `rolewise ARGUMENTS` in a process of its own in `folder`, negative for a signal.

    Args:
        arguments: the command line.
        point: where it kills itself, as in `set_trap`; empty for nowhere.
        folder: where it works; its messages go to `forked.log_of(folder)`.
    """
    return forked.end_of(forked.start(_run, arguments, point, folder=folder))


def _run(arguments: list[str], point: str) -> int:
    if point:
        set_trap(point)
    return main(arguments)


def set_trap(point: str) -> None:
    """Kill this process at a point of its work.

    `saving N`: checkpoint N is there but for its last file; `half N`: half of that is written; `saved N`: it is whole;
    `evaluating N`: after N steps, in the midst of an evaluation; `result`: the result's weights are written;
    `publishing`: all results are, but not in their place; `published`: they are in their place.
    """
    from transformers import Trainer, TrainerState

    from rolewise.core.run_directory import RunDirectory

    what, _, number = point.partition(" ")
    step = int(number or 0)
    if what in ("saving", "half"):

        def cut_short(original: Any, state: Any, path: str) -> None:
            if state.global_step == step:
                if what == "half":
                    original(state, path)
                    os.truncate(path, Path(path).stat().st_size // 2)
                _end()
            original(state, path)

        _wrap(TrainerState, "save_to_json", cut_short)
    elif what == "saved":
        _wrap(Trainer, "_save_checkpoint", _then_end(lambda trainer, *_: trainer.state.global_step == step))
    elif what == "evaluating":
        _wrap(Trainer, "evaluation_loop", _then_end(lambda trainer, *_: trainer.state.global_step == step))
    elif what == "result":
        _wrap(Trainer, "save_model", _then_end(lambda trainer, path=None, *_: Path(path or "").name == "results"))
    elif what == "publishing":
        _wrap(RunDirectory, "publish", lambda *_: _end())
    elif what == "published":

        def remove(original: Any, path: Any, *more: Any, **options: Any) -> None:
            if str(path).endswith(".partial"):
                _end()
            original(path, *more, **options)

        _wrap(shutil, "rmtree", remove)
    else:
        raise ValueError(point)


def _wrap(owner: Any, name: str, instead: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: instead(original, *args, **kwargs))


def _then_end(when: Callable[..., bool]) -> Callable[..., Any]:
    def instead(original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if when(*args):
            _end()
        return result

    return instead


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
