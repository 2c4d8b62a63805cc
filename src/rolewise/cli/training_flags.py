"""The fields of a trainer's config as flags, beside a command's own options."""

from collections.abc import Sequence
from typing import Any, NoReturn

from rolewise.core.errors import InputError


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
        InputError: for a flag that is unknown, or values that do not go together.
    """
    try:
        config, unknown = parser.parse_args_into_dataclasses(list(flags), return_remaining_strings=True)
    except (ValueError, ImportError) as error:  # raised by TrainingArguments for values that do not go together
        raise InputError(str(error)) from error
    if unknown:
        raise InputError(f"{unknown[0]!r} is not an option; see --help")
    return config
