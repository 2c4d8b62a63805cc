"""What commands print: notes and tables to standard output, progress to standard error."""

import logging
import os
import warnings
from typing import Any

import datasets
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

from rolewise.reporting.html import Table

# Of several processes one speaks; torchrun numbers them.
QUIET = os.environ.get("RANK", "0") != "0"
out = Console(highlight=False, quiet=QUIET)
err = Console(stderr=True, highlight=False, quiet=QUIET)


class Bars(Progress):
    """Appears with its first bar: an error before any work stands alone, without an empty line above it."""

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        if self.task_ids:
            self.stop()

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """Add a bar, as `Progress` does, and show it."""
        task = super().add_task(*args, **kwargs)
        self.start()
        return task


def progress() -> Bars:
    """A progress display for long work."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )


def note(text: str) -> None:
    """A line of explanation."""
    err.print(text, markup=False, soft_wrap=True)


def show(table: Table | None) -> None:
    """Print a summary table; None prints nothing."""
    if table is None:
        return
    grid = RichTable(title=table.title, title_justify="left", title_style="bold", caption=table.note or None)
    for number, column in enumerate(table.columns):
        grid.add_column(column, justify="left" if number == 0 else "right")
    for row in table.rows:
        grid.add_row(
            *(
                f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if isinstance(cell, float) else cell
                for cell in row
            )
        )
    out.print(grid)


def quieten_libraries() -> None:
    """Switch off what libraries print that tells a user nothing; their other warnings stay."""
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)  # addressed to programmers, and raised among libraries
    warnings.filterwarnings("ignore", message="'pin_memory' argument is set")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry; the error that ends them says it all
    logging.getLogger("transformers.trainer_utils").addFilter(
        # The trainer gives the model the tokenizer's end token, which is what everybody wants.
        lambda record: "new PAD/BOS/EOS tokens" not in record.getMessage()
    )
