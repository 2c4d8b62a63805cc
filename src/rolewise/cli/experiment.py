"""`rolewise experiment`."""

import argparse
from collections.abc import Sequence

from rolewise.cli.parser import Parser
from rolewise.core.errors import InputError

DESCRIPTION = """Run a matrix of models, methods, settings, seeds and suites, and write one table.

The file specifies the comparison (see docs/experiments.md). Every run has its own directory and is
skipped once it is done. Rerun the command to resume an interrupted run or to retry a failed one.
Exit code: 0 if all is done, 1 if a run failed, 2 if nothing could be run.

  rolewise experiment examples/experiments/small.yaml --plan
  rolewise experiment examples/experiments/small.yaml
"""


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="rolewise experiment",
        usage="rolewise experiment FILE [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    group = parser.add_argument_group("options")
    group.add_argument("file", nargs="?", metavar="FILE", help="YAML file with the experiment.")
    group.add_argument("--config", metavar="FILE", help="The same file, given as for the other commands.")
    group.add_argument("--output", metavar="DIR", help="Output directory. Default: the file's own.")
    group.add_argument("--plan", action="store_true", help="Show the planned runs, then stop.")
    group.add_argument("-h", "--help", action="help", help="Show this help.")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line: `file`, `plan`, `output`.

    Raises:
        InputError: for an unknown option, or if there is no file.
    """
    options = build_parser().parse_args(list(argv))
    if (options.file is None) == (options.config is None):
        raise InputError("give one experiment file, as FILE or as --config FILE")
    options.file = options.file or options.config
    return options


def run(argv: Sequence[str]) -> int:
    """Parse, plan, run, print; return 1 if something failed."""
    options = parse_arguments(argv)

    from rolewise.cli.console import note, out, progress, quieten_libraries, show
    from rolewise.experiment_runner.config import read_experiment
    from rolewise.experiment_runner.inputs import missing_inputs
    from rolewise.experiment_runner.plan import plan_experiment, plan_table
    from rolewise.experiment_runner.run import run_experiment

    quieten_libraries()
    experiment = read_experiment(options.file, options.output)
    plan = plan_experiment(experiment)
    if options.plan:
        show(plan_table(experiment, plan))
        for line in missing_inputs(experiment):
            note(f"not there yet: {line}")
        return 0
    with progress() as bars:
        result = run_experiment(experiment, bars, plan)
    for table in result.tables:
        show(table)
    if not result.worked:
        note(f"{result.path}: already done with these settings and data; nothing was run")
    out.print(f"table:  {result.path / 'table.md'}\nreport: {result.path / 'report.html'}", soft_wrap=True)
    return 1 if result.failures else 0
