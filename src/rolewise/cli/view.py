"""`rolewise view`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import ViewOptions

DESCRIPTION = """Show a labelled data set as one HTML page that needs nothing else.

Tokens are coloured by role; pointing at one shows its losses and weight; a slider moves the
threshold and recolours at once. Roles can be corrected by hand on the page and saved as a patch.
With --compare two labellings of the same tokens stand side by side, with their agreement.

  rolewise view --data labelled --output labelled.html
  rolewise view --data labelled --compare labelled-by-regex --output agreement.html
"""


def run(argv: Sequence[str]) -> None:
    """Parse, write the page, say where it is."""
    options, _ = parse(build_parser("rolewise view", DESCRIPTION, ViewOptions), ViewOptions, argv)

    from rolewise.cli.console import out
    from rolewise.jobs.view import view

    out.print(f"page: {view(options)}", soft_wrap=True)
