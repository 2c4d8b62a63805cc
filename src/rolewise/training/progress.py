"""Training's progress on a Rich bar instead of a log line per step."""

from typing import Any

from rich.progress import Progress, TaskID
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RichProgressCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Moves a task of a `rich.progress.Progress` along with the optimizer steps, showing the latest loss."""

    def __init__(self, progress: Progress, description: str):
        self.progress = progress
        self.description = description
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
        if logs and "loss" in logs and self.task is not None:
            self.progress.update(self.task, description=f"{self.description} · loss {float(logs['loss']):.3f}")


class LogFirstAndLast(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Logs the first and the last step whatever `logging_steps` says, so that a short run has numbers too."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step in (1, state.max_steps):
            control.should_log = True
