"""Command lines as documents and config files give them, read by the parsers of the commands themselves."""

import importlib
from collections.abc import Sequence
from typing import Any, TypeVar

from rolewise.cli.main import COMMANDS
from rolewise.options.table import OptionTable

T = TypeVar("T")


def read_command(arguments: Sequence[str]) -> Any:
    """The options of `rolewise ARGUMENTS`, without running it; for those that train the trainer's too, checked as
    before a run, for experiment its plan.

    Raises:
        InputError: as the command itself, for an option that is unknown or does not fit.
    """
    command, *rest = arguments
    if command == "experiment":
        from rolewise.cli.experiment import parse_arguments
        from rolewise.experiment_runner.config import read_experiment
        from rolewise.experiment_runner.plan import plan_experiment

        given = parse_arguments(rest)
        return plan_experiment(read_experiment(given.file, given.output))
    assert command in COMMANDS
    read = importlib.import_module(f"rolewise.cli.{command}").COMMAND.read(rest)
    if isinstance(read, tuple):
        job = importlib.import_module(f"rolewise.jobs.{'sft' if command == 'warmup' else command}").JOB
        job.check(*read)
    return read


def options_of(owner: type[T], **values: Any) -> T:
    """An owner of options, parameters of its parts given like any other option."""
    return owner(**OptionTable("test", [owner]).distributed(values)[owner])
