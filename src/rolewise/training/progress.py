"""Training progress on a Rich bar instead of a log line per step."""

from typing import Any

from rich.progress import Progress, TaskID
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RichProgressCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Advances a task of a `rich.progress.Progress` per optimizer step and shows the latest value of a metric."""

    def __init__(self, progress: Progress, description: str, shown: str = "loss"):
        self.progress = progress
        self.description = description
        self.shown = shown
        self.task: TaskID | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.task = self.progress.add_task(self.description, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.task is not None:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        value = (logs or {}).get(self.shown)
        if value is not None and self.task is not None:
            self.progress.update(self.task, description=f"{self.description} · {self.shown} {float(value):.3f}")


class LogFirstAndLast(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Logs the first and the last step regardless of `logging_steps`, so that a short run has numbers too."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step in (1, state.max_steps):
            control.should_log = True
