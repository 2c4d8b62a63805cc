"""Checkpoints of an interrupted run: finding a complete one, and resuming so that the result is always the same."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rolewise.core.limits import parse_json


def last_checkpoint(directory: Path, processes: int = 1) -> str | None:
    """Return the newest complete checkpoint in a trainer's output directory, or None.

    The trainer's main process writes `trainer_state.json` last, so an interrupted checkpoint lacks it or holds part of
    it; each process writes the state of its random numbers, without which the resumed run would differ.

    Args:
        directory: the trainer's output directory.
        processes: number of processes that train together.
    """
    complete = []
    for path in directory.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _state_of(path) is not None and _has_random_states(path, processes):
            complete.append((int(match[1]), str(path)))
    return max(complete)[1] if complete else None


def train_to_end(trainer: Trainer, checkpoint: str | None) -> None:
    """Train from a checkpoint or from the start; the result is the same, and a finished training takes no more steps.

    Args:
        trainer: any trainer of Transformers or TRL. If it has a method `is_between_rollouts`, a checkpoint waits until
            that returns True, since a rollout's samples are not kept.
        checkpoint: result of `last_checkpoint`.
    """
    trainer.add_callback(_WholeCheckpoints(getattr(trainer, "is_between_rollouts", lambda: True)))
    if checkpoint is not None and _is_finished(_state_of(Path(checkpoint)) or {}):
        _without_steps(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)


class _WholeCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Postpones a checkpoint until it can hold everything in progress.

    Work that a checkpoint would not hold: a window of steps for one logged mean loss (logged early instead), the
    evaluation and log at an epoch's end (they follow the step's checkpoint, so a run resumed from it would lack them),
    and a rollout.
    """

    def __init__(self, is_between_rollouts: Callable[[], bool]) -> None:
        self._is_between_rollouts = is_between_rollouts
        self._is_due = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._is_due = self._is_due or control.should_save
        control.should_save = False
        ends_epoch = control.should_training_stop or float(state.epoch or 0).is_integer()
        if not ends_epoch and self._is_between_rollouts():
            self._save(args, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save(args, control)

    def _save(self, args: TrainingArguments, control: TrainerControl) -> None:
        if not self._is_due:
            return
        self._is_due = False
        control.should_save = True
        control.should_log = control.should_log or args.logging_strategy != "no"


def _without_steps(trainer: Trainer) -> None:
    """Let the trainer load its checkpoint and finish without a step: Transformers' loop only checks after a step if it
    was one too many, so it gets no epoch to run."""
    planned = trainer.set_initial_training_values

    def values(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        _, *others = planned(*args, **kwargs)
        return (0, *others)

    trainer.set_initial_training_values = values


def _state_of(checkpoint: Path) -> dict[str, Any] | None:
    """Return the trainer's state in a checkpoint; None if it is missing or incomplete."""
    try:
        state = parse_json((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _is_finished(state: dict[str, Any]) -> bool:
    return int(state.get("global_step", 0)) >= int(state.get("max_steps", 0)) > 0


def _has_random_states(checkpoint: Path, processes: int) -> bool:
    states = list(checkpoint.glob("rng_state*.pth"))
    # torch saves zip files, and the list of contents comes last in them.
    return len(states) == processes and all(zipfile.is_zipfile(path) for path in states)
