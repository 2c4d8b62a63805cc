"""`rolewise relabel`."""

from collections.abc import Sequence

from rolewise.cli.label import show_result
from rolewise.cli.parser import Command
from rolewise.options.labelling import RelabelOptions

COMMAND = Command(
    "relabel",
    RelabelOptions,
    """Relabel a labelled data set: with another threshold on its stored losses, or by hand.

No model is needed. The page of `rolewise view` has a slider that shows the effect of a threshold,
and saves manual corrections as a patch file. Corrections survive a new threshold.

  rolewise relabel --data labelled --output relabelled --threshold 0.1
  rolewise relabel --data labelled --output relabelled --format-error 0.2
  rolewise relabel --data labelled --output corrected --patch patch.json
""",
)


def run(argv: Sequence[str]) -> None:
    """Parse, relabel, print."""
    options = COMMAND.read(argv)

    from rolewise.cli.console import quieten_libraries
    from rolewise.jobs.relabel import relabel

    quieten_libraries()
    result = relabel(
        options.data,
        options.output,
        threshold=options.threshold,
        format_error=options.format_error,
        format_quantile=options.format_quantile,
        patches=options.patch,
    )
    show_result(result)
