"""`rolewise export`."""

from collections.abc import Sequence

from rolewise.cli.parser import Command
from rolewise.options.labelling import ExportOptions

COMMAND = Command(
    "export",
    ExportOptions,
    """Write a labelled data set as weights for another trainer.

Parquet holds one float per token, for any trainer that reads it. Axolotl's data can only switch
tokens on and off, ms-swift's only whole turns; weightings that they can't express are rejected.

  rolewise export --data labelled --output weighted.parquet --weighting rft
  rolewise export --data labelled --output train.jsonl --to axolotl --weighting alpha --alpha 0
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, export, print the result."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import notes, out, quieten_libraries
    from rolewise.jobs.export import export

    quieten_libraries()
    result = export(options)
    notes(result.notes)
    out.print(f"{result.rows:,} rows: {result.path}", soft_wrap=True)
