"""The fields of a trainer's config as flags, beside a command's own options."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from rolewise.core.errors import InputError
from rolewise.core.launch import launched


def training_parser(config: type, command: str) -> Any:
    """A parser with a flag for every field of a config dataclass of Transformers' kind; its errors are one line."""
    from transformers import HfArgumentParser

    class TrainingParser(HfArgumentParser):  # type: ignore[misc]  # transformers is untyped
        def error(self, message: str) -> NoReturn:
            raise InputError(message)

    return TrainingParser(config, prog=command, allow_abbrev=False)


def read_training(parser: Any, flags: Sequence[str]) -> Any:
    """The config that the flags give; of two flags the later one wins.

    Raises:
        InputError: for a flag that is unknown, values that do not go together, or processes that can't meet.
    """
    if launched() > 1:
        _join(parser, flags)
    try:
        config, unknown = parser.parse_args_into_dataclasses(list(flags), return_remaining_strings=True)
    except (ValueError, ImportError) as error:  # raised by TrainingArguments for values that do not go together
        raise InputError(str(error)) from error
    if unknown:
        raise InputError(f"{unknown[0]!r} is not an option; see --help")
    return config


def _join(parser: Any, flags: Sequence[str]) -> None:
    """Join the other processes as the flags say, before the config is made: it would join in its own way."""
    from rolewise.training import processes

    given = vars(parser.parse_known_args(list(flags))[0])
    # Transformers' half an hour is less than a large model's results may take; another value is the user's own.
    timeout = given["ddp_timeout"]
    own = timeout != parser.get_default("ddp_timeout")
    processes.start(cpu=given["use_cpu"], timeout=timedelta(seconds=timeout) if own else processes.TIMEOUT)


def flag_names(config: type, decided: Collection[str]) -> list[str]:
    """Fields of a config dataclass that are flags of the command: all but those that it decides itself."""
    return [field.name for field in dataclasses.fields(config) if field.init and field.name not in decided]


def shown_help(argv: Sequence[str], parser: Any, training: Callable[[], Any]) -> bool:
    """Whether help was asked for; then it was shown.

    Args:
        argv: the command line.
        parser: of the command's own options, for `--help`.
        training: makes the parser of the trainer's, which takes seconds of imports, for `--help-all`.
    """
    if {"-h", "--help"} & set(argv):
        parser.print_help()
    elif "--help-all" in argv:
        training().print_help()
    else:
        return False
    return True


def say_trained(result: Any) -> None:
    """The last lines of a training command: where the result of `run_training` lies."""
    from rolewise.cli.console import note, out

    if result.was_finished:
        note(f"{result.path}: was trained already, with these settings and data; nothing was done")
    out.print(f"model:  {result.path}\nreport: {result.path / 'report.html'}", soft_wrap=True)
