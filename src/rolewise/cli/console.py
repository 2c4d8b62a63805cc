"""What commands print: notes and tables to standard output, progress to standard error."""

from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from rolewise.reporting.html import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def progress() -> AbstractContextManager[Progress] | Progress:
    """A progress display for long work."""
    return Progress(
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
