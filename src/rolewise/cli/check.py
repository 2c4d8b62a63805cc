"""`rolewise check`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import CheckOptions

COMMAND = Command(
    "check",
    CheckOptions,
    """Judge the labels of a data set and say what to do: train, relabel, or use a larger model or none.

No model and no annotation is needed. The labels are held against tokens whose role is beyond doubt:
words that an answer takes from its own input are reasoning; format found by rules, and phrases that
several other answers share, are boilerplate. Beside them stand labels that cost nothing. Where the
data knows its true roles, the labels are held against them too.

  rolewise check labelled
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, check, print."""
    if argv and not argv[0].startswith("-"):  # the data may be given without --data
        argv = ["--data", *argv]
    options = COMMAND.read(argv)

    from rolewise.cli.console import out, show
    from rolewise.data.labelled import load_labelled
    from rolewise.labelling.checks import check_labels
    from rolewise.reporting.views import check_tables

    checks = check_labels(load_labelled(options.data))
    for table in check_tables(checks):
        show(table)
    if checks.verdict is not None:
        out.print(f"verdict: {checks.verdict.line}", soft_wrap=True)
