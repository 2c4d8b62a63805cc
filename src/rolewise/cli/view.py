"""`rolewise view`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import ViewOptions

DESCRIPTION = """Show a labelled data set, or search trees, as one HTML page that needs nothing else.

Tokens are coloured by role; pointing at one shows its losses and weight; a slider moves the
threshold and recolours at once. Roles can be corrected by hand on the page and saved as a patch.
With --compare two labellings of the same tokens stand side by side, with their agreement.

Of trees every step can be opened: its text, value, visits and log-probability, the path to the
answer marked. What is to be shown is then a file of trees or the directory of a search.

  rolewise view --data labelled --output labelled.html
  rolewise view --data labelled --compare labelled-by-regex --output agreement.html
  rolewise view trees.jsonl
"""


def run(argv: Sequence[str]) -> None:
    """Parse, write the page, say where it is."""
    if argv and not argv[0].startswith("-"):  # what is to be shown may stand by itself
        argv = ["--data", *argv]
    options, _ = parse(build_parser("rolewise view", DESCRIPTION, ViewOptions), ViewOptions, argv)

    from rolewise.cli.console import out
    from rolewise.jobs.view import view

    out.print(f"page: {view(options)}", soft_wrap=True)
