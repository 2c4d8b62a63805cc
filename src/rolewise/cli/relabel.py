"""`rolewise relabel`."""

from collections.abc import Sequence

from rolewise.cli.label import show_result
from rolewise.cli.parser import build_parser, parse
from rolewise.jobs.options import RelabelOptions

DESCRIPTION = """Label a labelled data set anew: with another threshold on the losses it holds, or by hand.

No model is needed. The page of `rolewise view` has a slider that shows what a threshold does,
and saves corrections made by hand as a patch file. Corrections outlive a new threshold.

  rolewise relabel --data labelled --output relabelled --threshold 0.1
  rolewise relabel --data labelled --output relabelled --format-error 0.2
  rolewise relabel --data labelled --output corrected --patch patch.json
"""


def run(argv: Sequence[str]) -> None:
    """Parse, label anew, print."""
    options, _ = parse(build_parser("rolewise relabel", DESCRIPTION, RelabelOptions), RelabelOptions, argv)

    from rolewise.cli.console import quieten_libraries
    from rolewise.jobs.relabel import relabel

    quieten_libraries()
    result = relabel(
        options.data,
        options.output,
        threshold=options.threshold,
        format_error=options.format_error,
        format_quantile=options.quantile(),
        patches=options.patch,
    )
    show_result(result)
