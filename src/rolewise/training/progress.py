"""Training's progress on a Rich bar instead of a log line per step."""

from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RichProgressCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Moves a task of a `rich.progress.Progress` along with the optimizer steps, showing the latest loss."""

    def __init__(self, progress: Progress, description: str):
        self.progress = progress
        self.description = description
        self.task = progress.add_task(description, total=None)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.progress.update(self.task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.progress.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            self.progress.update(self.task, description=f"{self.description} · loss {float(logs['loss']):.3f}")
