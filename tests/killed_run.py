"""A command that kills its own process at a named point of its work, for tests of what a kill leaves behind."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked

from rolewise.cli.main import main
from rolewise.labelling import tuning


def run_killed(arguments: list[str], point: str, folder: Path) -> int:
    """The exit code of `rolewise ARGUMENTS` in a process of its own in `folder`, negative for a signal.

    Args:
        arguments: the command line.
        point: where it kills itself, as in `set_trap`; empty for nowhere.
        folder: where it works; its messages go to `forked.log_of(folder)`.
    """
    return forked.end_of(forked.start(_run, arguments, point, folder=folder))


def _run(arguments: list[str], point: str) -> int:
    tuning.SAVE_EVERY = 4  # a tuning here has few steps
    if point:
        set_trap(point)
    return main(arguments)


def set_trap(point: str) -> None:
    """Kill this process at a point of its work: a word, for some a number of steps, and, to choose among several, a
    part of the path of what is written.

    `taking N`: in the step after N; `saving N`: checkpoint N is there but for its last file; `half N`: half of that is
    written; `saved N`: it is whole; `evaluating N`: after N steps, in the midst of an evaluation; `result`: the
    result's weights are written; `placed`: a tuned model is in its place, and its checkpoints are still there;
    `scored`: a shard of losses is; `publishing`: all results are there, but not in their place; `published`: they are
    in their place.
    """
    from transformers import Trainer, TrainerState

    from rolewise.core.run_directory import RunDirectory
    from rolewise.labelling import history_grid, scoring

    what, *more = point.split()
    step = next((int(word) for word in more if word.isdigit()), 0)
    where = next((word for word in more if not word.isdigit()), "")

    def is_there(trainer: Any, *_: Any) -> bool:
        return bool(trainer.state.global_step == step and where in trainer.args.output_dir)

    if what in ("saving", "half"):

        def cut_short(original: Any, state: Any, path: str) -> None:
            if state.global_step == step and where in path:
                if what == "half":
                    original(state, path)
                    os.truncate(path, Path(path).stat().st_size // 2)
                _end()
            original(state, path)

        _wrap(TrainerState, "save_to_json", cut_short)
    elif what in ("taking", "saved", "evaluating"):
        names = {"taking": "training_step", "saved": "_save_checkpoint", "evaluating": "evaluation_loop"}
        _wrap(Trainer, names[what], _then_end(is_there))
    elif what == "result":
        ends = ("results", "finished")
        _wrap(Trainer, "save_model", _then_end(lambda _, path="", *__: Path(path).name in ends and where in path))
    elif what == "scored":
        _wrap(scoring, "write_arrays", _then_end(lambda *_: True))
        _wrap(history_grid, "write_arrays", _then_end(lambda *_: True))
    elif what == "publishing":
        _wrap(RunDirectory, "publish", _end_before(lambda run, *_: where in str(run.output)))
    elif what in ("placed", "published"):
        end = ".training" if what == "placed" else ".partial"
        _wrap(shutil, "rmtree", _end_before(lambda path, *_: str(path).endswith(end) and where in str(path)))
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


def _end_before(when: Callable[..., bool]) -> Callable[..., Any]:
    def instead(original: Any, *args: Any, **kwargs: Any) -> Any:
        if when(*args):
            _end()
        return original(*args, **kwargs)

    return instead


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
