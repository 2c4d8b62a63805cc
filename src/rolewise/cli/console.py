"""Output of the commands: tables to standard output, notes and progress to standard error."""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import transformers
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable

from rolewise.core.errors import RolewiseError
from rolewise.core.launch import is_first
from rolewise.core.limits import one_line, printable
from rolewise.reporting.html import Table

Result = TypeVar("Result")

# Only one of several processes prints; torchrun numbers them.
QUIET = not is_first()
out = Console(highlight=False, quiet=QUIET)
err = Console(stderr=True, highlight=False, quiet=QUIET)


SECONDS_BETWEEN_LINES = 30


class Bars(Progress):
    """Progress display that appears with its first bar, so that an earlier error has no empty line above it.

    In a log file or a pipe, where bars can't be redrawn, each task prints a line when it starts, every half minute,
    and when it ends.
    """

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._said: dict[TaskID, float] = {}
        self._finished: set[TaskID] = set()

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        if self.task_ids and self.console.is_terminal:
            self.stop()

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """Add a bar, as `Progress` does, and show it."""
        task = super().add_task(*args, **kwargs)
        if self.console.is_terminal:
            self.start()
        else:
            self._say(task)
        return task

    def update(self, task_id: TaskID, **kwargs: Any) -> None:
        """Move a bar, as `Progress` does; print a line at intervals where nothing can be redrawn."""
        super().update(task_id, **kwargs)
        self._say_now_and_then(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a bar, as `Progress` does; print a line at intervals where nothing can be redrawn."""
        super().advance(task_id, advance)
        self._say_now_and_then(task_id)

    def _say_now_and_then(self, task_id: TaskID) -> None:
        due = time.monotonic() - self._said.get(task_id, -math.inf) > SECONDS_BETWEEN_LINES
        if not self.console.is_terminal and (due or self._tasks[task_id].finished != (task_id in self._finished)):
            self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        self._said[task_id] = time.monotonic()
        if task.finished:
            self._finished.add(task_id)
        done = f": {task.completed:,.0f} of {task.total:,.0f}" if task.total else ""
        self.console.print(printable(f"{task.description}{done}"), markup=False, soft_wrap=True)


def progress() -> Bars:
    """Return a progress display for long work."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )


def note(text: str) -> None:
    """Print a line of explanation."""
    err.print(printable(text), markup=False, soft_wrap=True)


def notes(texts: Iterable[str]) -> None:
    """Print the notes of a result."""
    for text in texts:
        note(f"note: {text}")


def work(job: Callable[[Any, Progress], Result], options: Any) -> Result:
    """Do a command's job with a progress display, and return its result."""
    quieten_libraries()
    with progress() as bars:
        return job(options, bars)


def note_if_finished(result: Any, done: str) -> None:
    """Print a note if the result was there already; `done` says how it was made."""
    if result.was_finished:
        note(f"{result.path}: already {done}; nothing was done")


def show(table: Table | None) -> None:
    """Print a summary table; None prints nothing."""
    if table is None:
        return
    grid = RichTable(title=table.title, title_justify="left", title_style="bold", caption=table.note or None)
    for number, column in enumerate(table.columns):
        grid.add_column(printable(column), justify="left" if number == 0 else "right")
    for row in table.rows:
        grid.add_row(
            *(
                f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if isinstance(cell, float) else printable(cell)
                for cell in row
            )
        )
    out.print(grid)


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main` as a command: an error that the user can fix prints one line on stderr; exit code 2."""
    quieten_libraries()
    try:
        main()
    except RolewiseError as error:
        err.print(f"{Path(sys.argv[0]).name}: {one_line(error, None)}", soft_wrap=True, markup=False)
        sys.exit(2)


def quieten_libraries() -> None:
    """Silence library output that is of no use to users; other warnings stay."""
    transformers.utils.logging.disable_progress_bar()
    # Read when datasets is imported; importing it here would delay the commands that do not need it.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)  # meant for programmers, and raised between libraries
    warnings.filterwarnings("ignore", message="'pin_memory' argument is set")
    warnings.filterwarnings("ignore", message="You are using 'rollout_func'")  # experimental in TRL, which is pinned
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # one per retry; the final error says it all
    logging.getLogger("transformers.trainer_utils").addFilter(
        # The trainer gives the model the tokenizer's end token, as desired.
        lambda record: "new PAD/BOS/EOS tokens" not in record.getMessage()
    )
