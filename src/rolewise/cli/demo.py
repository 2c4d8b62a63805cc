"""`rolewise demo`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import DemoOptions

COMMAND = Command(
    "demo",
    DemoOptions,
    """Run the whole pipeline on a small real model, in minutes.

Generates tool-use conversations with known true roles, labels them with SHAD, fine-tunes
SmolLM2-135M-Instruct with plain SFT and with RFT on equal budgets, evaluates both on held-out
conversations, prints one table and writes a report. After an interruption, rerun the command to
resume.

  rolewise demo --output demo-run
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, run, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import out, show, work
    from rolewise.jobs.demo import demo

    result = work(demo, options)
    for table in result.tables:
        show(table)
    out.print(f"report: {result.path}", soft_wrap=True)
