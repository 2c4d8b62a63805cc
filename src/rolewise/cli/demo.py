"""`rolewise demo`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import DemoOptions

COMMAND = Command(
    "demo",
    DemoOptions,
    """Run the whole pipeline on a small real model, in minutes.

Generates tool-use conversations with known true roles; labels them by contrast and with SHAD, both
held against the truth and against what costs nothing; fine-tunes SmolLM2-135M-Instruct with plain
SFT, with RFT on the labels of contrast and with RFT on the true roles; compares them on held-out
conversations and writes a report. After an interruption, rerun the command to resume.

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
