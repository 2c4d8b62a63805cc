"""Front end of the training commands: a command's own options beside those of its trainer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from rolewise.cli.parser import Command, build_parser, parse
from rolewise.core.errors import InputError
from rolewise.core.launch import launched
from rolewise.core.options import split_list
from rolewise.options.table import OptionTable
from rolewise.options.training import WITHOUT_EFFECT

if TYPE_CHECKING:
    from rolewise.jobs.training_run import TrainingJob


@dataclass(frozen=True, kw_only=True)
class TrainingCommand(Command[Any]):
    """A command that trains.

    Attributes:
        settings: the trainer's settings beside TRL's fields; light, for `--help`.
        config: the trainer's config dataclass, as `module:name`; its import takes seconds.
        job: the `TrainingJob`, as `module:name`.
        defaults: the command's defaults for the trainer's fields, where they differ from the trainer's.
    """

    settings: type
    config: str
    job: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> OptionTable:
        """Return the table of its own options and every trainer field that has an effect."""
        return OptionTable(f"rolewise {self.name}", [self.options, self.trainer_config()], WITHOUT_EFFECT)

    def light_table(self) -> OptionTable:
        """Return the table of its own options and its trainer's settings beside TRL's fields."""
        return OptionTable(f"rolewise {self.name}", [self.options, self.settings])

    def trainer_config(self) -> Any:
        """Import the trainer's config dataclass."""
        return resolve_name(self.config)

    def run(self, argv: Sequence[str]) -> None:
        """Parse, train, print."""
        if self.shows_help(argv):
            return

        from rolewise.cli.console import quieten_libraries

        quieten_libraries()  # before the trainer's options: TRL's own defaults already raise a warning
        finish(resolve_name(self.job), *self.read(argv))

    def shows_help(self, argv: Sequence[str]) -> bool:
        """Show help if it was requested, and return True if so."""
        if {"-h", "--help"} & set(argv):
            build_parser(self.light_table(), self.description, self.epilog, self.defaults).print_help()
        elif "--help-all" in argv:
            build_parser(self.table(), self.description, "", self.defaults).print_help()
        else:
            return False
        return True

    def read(self, argv: Sequence[str]) -> tuple[Any, Any]:
        """Read the command's own options and the trainer's config. Load the plugins, which register their parts.

        Raises:
            InputError: for an unknown, missing or invalid option, or processes that can't meet.
        """
        from rolewise.core.plugins import load_plugins

        table = self.table()
        by_owner = table.distributed(parse(table, build_parser(table, self.description), argv))
        options = table.make(self.options, by_owner[self.options])
        load_plugins(split_list(options.plugin))
        return options, self.training(options, by_owner[self.trainer_config()])

    def training(self, options: Any, given: Mapping[str, Any]) -> Any:
        """Make the trainer's config from the command's defaults and the given values, which take precedence.

        Raises:
            InputError: for incompatible values, or processes that can't meet.
        """
        measured = getattr(options, "eval_data", None) or getattr(options, "eval_share", None)
        values = {**self.defaults, **({"eval_strategy": "epoch"} if measured else {}), **given}
        config = self.trainer_config()
        if launched() > 1:
            _join(values)
        try:
            return config(**values, output_dir=options.output)
        except (ValueError, ImportError) as error:  # raised by TrainingArguments for incompatible values
            raise InputError(str(error)) from error
        except OSError as error:  # a file that an option names, such as accelerator_config
            if error.filename is None:
                raise
            raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error


def finish(job: "TrainingJob", options: Any, training: Any) -> None:
    """Train with these options, and print the results."""
    from rolewise.cli.console import note, note_if_finished, notes, out, progress, show

    job.check(options, training)
    data = job.load(options, training)
    notes(data.notes)
    with progress() as bars:
        result = job.train(options, training, bars, data, lambda text: note(f"note: {text}"))
    for table in job.tables(result.log):
        show(table)
    note_if_finished(result, "trained with these settings and data")
    out.print(f"model:  {result.path}\nreport: {result.path / 'report.html'}", soft_wrap=True)


def _join(values: Mapping[str, Any]) -> None:
    """Join the other processes as the options say, before the config is made: it would join in its own way."""
    from rolewise.training import processes

    # Transformers' half an hour is less than a large model's results may take; another value is the user's own.
    given = values.get("ddp_timeout")
    timeout = processes.TIMEOUT if given is None else timedelta(seconds=given)
    processes.start(cpu=values.get("use_cpu", False), timeout=timeout)
