"""Options as dataclass fields that carry their own help, for Python, YAML and the command line alike."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json


def option(default: Any, help: str, *, choices: Sequence[str] | None = None, group: str = "options") -> Any:
    """A dataclass field with its help text, allowed values and the heading it stands under."""
    return field(default=default, metadata={"help": help, "choices": choices, "group": group})


def required(help: str, *, group: str = "needed") -> Any:
    """A dataclass field without a default."""
    return field(metadata={"help": help, "choices": None, "group": group})


def split_list(text: str) -> list[str]:
    """The entries of an option that may name several things: `a,b` on the command line, a list in YAML.

    A list in YAML arrives as JSON text, which is also the way to give an entry that holds a comma.
    """
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return [item.strip() for item in text.split(",") if item.strip()]


def check_kind(args: Any, kind: type, ours: type) -> None:
    """Refuse a trainer's settings that are no `kind`, as TrainingArguments are none; `ours` is what to pass instead.

    Raises:
        InputError: then.
    """
    if not isinstance(args, kind):
        raise InputError(f"args is of type {type(args).__name__}; pass a {ours.__name__}, which has all its fields")
