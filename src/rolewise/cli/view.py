"""`rolewise view`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import ViewOptions

COMMAND = Command(
    "view",
    ViewOptions,
    """Show a labelled data set, or search trees, as one self-contained HTML page.

Tokens are colored by role; hovering over one shows its losses and weight; a slider moves the
threshold and recolors at once. Roles can be corrected by hand on the page and saved as a patch.
With --compare, two labellings of the same tokens are shown side by side, with their agreement.

For trees, give a file of trees or the output directory of a search. Every step can be opened: its
text, value, visits and log-probability. The path to the answer is marked.

  rolewise view --data labelled --output labelled.html
  rolewise view --data labelled --compare labelled-by-regex --output agreement.html
  rolewise view trees.jsonl
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, write the page, print its location."""
    if argv and not argv[0].startswith("-"):  # the data may be given without --data
        argv = ["--data", *argv]
    options = COMMAND.read(argv)

    from rolewise.cli.console import out
    from rolewise.jobs.view import view

    out.print(f"page: {view(options)}", soft_wrap=True)
