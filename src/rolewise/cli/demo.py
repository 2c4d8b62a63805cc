"""`rolewise demo`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import DemoOptions

DESCRIPTION = """The whole path on a small real model, in minutes.

Makes tool-use conversations whose true roles are known, labels them with SHAD, fine-tunes
SmolLM2-135M-Instruct with plain SFT and with RFT on equal budgets, measures both on held-out
conversations, prints one table and writes a report. Stopped, it goes on where it was.

  rolewise demo --output demo-run
"""


def run(argv: Sequence[str]) -> None:
    """Parse, run, print."""
    options, _ = parse(build_parser("rolewise demo", DESCRIPTION, DemoOptions), DemoOptions, argv)

    from rolewise.cli.console import out, progress, quieten_libraries, show
    from rolewise.jobs.demo import demo

    quieten_libraries()
    with progress() as bars:
        result = demo(options, bars)
    for table in result.tables:
        show(table)
    out.print(f"report: {result.path}", soft_wrap=True)
