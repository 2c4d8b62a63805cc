"""Options as dataclass fields that carry their own help, for Python, YAML and the command line alike."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def option(default: Any, help: str, *, choices: Sequence[str] | None = None, group: str = "options") -> Any:
    """A dataclass field with its help text, allowed values and the heading it stands under."""
    return field(default=default, metadata={"help": help, "choices": choices, "group": group})


def required(help: str, *, group: str = "needed") -> Any:
    """A dataclass field without a default."""
    return field(metadata={"help": help, "choices": None, "group": group})
