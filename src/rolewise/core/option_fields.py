"""The options that a dataclass declares, as used by `--help`, the option readers and the schemas."""

import dataclasses
import functools
import typing
from collections.abc import Hashable
from dataclasses import MISSING, dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.typed_values import choices


@dataclass(frozen=True)
class OptionField:
    """An option as its dataclass declares it.

    Attributes:
        name: field name.
        annotation: field type.
        default: `dataclasses.MISSING` if there is none.
        help: help text; "" if the dataclass gives none.
        group: heading in `--help`.
        choices: allowed texts; () for any.
        least: minimum allowed value.
        several: True if a text may name several things, in YAML as a list; see `split_list`.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    group: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    several: bool = False

    def check(self, value: Any, where: str = "") -> None:
        """Check a value against the allowed choices and the minimum.

        Raises:
            InputError: the message starts with `where`, by default the name.
        """
        name = where or self.name
        if self.choices and value is not None and value not in self.choices:
            raise InputError(f"{name} {value!r} is not known; choose one of {', '.join(self.choices)}")
        if self.least is not None and value is not None and not value >= self.least:
            raise InputError(f"{name} is {value}; it must be at least {self.least:g}")


def fields_of(owner: type) -> dict[str, OptionField]:
    """Return the options of a dataclass by name: the fields that its constructor accepts."""
    return _fields_of(owner)


@functools.cache
def _fields_of(owner: Hashable) -> dict[str, OptionField]:
    assert isinstance(owner, type)
    assert dataclasses.is_dataclass(owner)
    hints = typing.get_type_hints(owner, include_extras=True)
    found = {}
    for declared in dataclasses.fields(owner):
        if not declared.init:
            continue
        factory = declared.default_factory
        default = declared.default if factory is MISSING else factory()
        annotation = hints[declared.name]
        found[declared.name] = OptionField(
            declared.name,
            annotation,
            default,
            str(declared.metadata.get("help", "")),
            getattr(declaring(owner, declared.name), "TITLE", "options"),
            choices(annotation) or tuple(map(str, declared.metadata.get("choices") or ())),
            declared.metadata.get("least"),
            declared.metadata.get("several", False),
        )
    return found


def declaring(owner: type, name: str) -> type:
    """Return the class that first declared an option."""
    declared = [kind for kind in owner.__mro__ if name in vars(kind).get("__annotations__", ())]
    return declared[-1] if declared else owner
