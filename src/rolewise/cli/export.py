"""`rolewise export`."""

from collections.abc import Sequence

from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import ExportOptions

DESCRIPTION = """Write a labelled data set as weights for another trainer.

Parquet holds a float per token for whoever reads it. Axolotl's data can only switch tokens on
and off, ms-swift's whole turns; weightings that they can't express are refused.

  rolewise export --data labelled --output weighted.parquet --weighting rft
  rolewise export --data labelled --output train.jsonl --to axolotl --weighting alpha --alpha 0
"""


def run(argv: Sequence[str]) -> None:
    """Parse, export, say what was written."""
    options, _ = parse(build_parser("rolewise export", DESCRIPTION, ExportOptions), ExportOptions, argv)

    from rolewise.cli.console import note, out, quieten_libraries
    from rolewise.jobs.export import export

    quieten_libraries()
    result = export(options)
    for text in result.notes:
        note(f"note: {text}")
    out.print(f"{result.rows:,} rows: {result.path}", soft_wrap=True)
