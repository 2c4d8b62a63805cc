"""Options of other commands in an experiment file: known names, values of the right kind."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.typed_values import alternatives
from rolewise.options.table import RENAMED, OptionTable


class StepOptions:
    """The options of one of the experiment's steps, as given in an experiment file.

    Args:
        table: the options of the command.
        reserved: options that the experiment sets itself → the reason.
    """

    def __init__(self, table: OptionTable, reserved: Mapping[str, str]) -> None:
        self.table, self._reserved = table, reserved
        self.command = table.command

    def __contains__(self, name: str) -> bool:
        return name in self.table

    def reserves(self, name: str) -> bool:
        """Return True if the experiment sets that option itself."""
        return name in self._reserved

    def check(self, where: str, name: str, value: Any) -> Any:
        """Return the value converted to the option's type.

        Raises:
            InputError: naming the place in the file, for an unknown or reserved name, or an invalid value.
        """
        if name in self._reserved:
            raise InputError(f"{where}: {self._reserved[name]}")
        if name in RENAMED:
            raise InputError(f"{where} {RENAMED[name]}")
        if name not in self.table:
            raise InputError(f"{where}: {unknown(f'option of {self.command}', name, self.table.names())}")
        return self.table.read(name, value, where)

    def alternatives(self, where: str, name: str, value: Any) -> list[Any]:
        """Return the values of a list, or the single value; for an option that takes lists, a list is a single value.

        Raises:
            InputError: as for `check`, or for an empty list.
        """
        takes_lists = name in self.table and list in alternatives(self.table.described(name).annotation)
        if not isinstance(value, list) or takes_lists:
            return [self.check(where, name, value)]
        if not value:
            raise InputError(f"{where} is an empty list; give a value, or leave the line out")
        values = [self.check(f"{where}[{number}]", name, entry) for number, entry in enumerate(value)]
        if any(entry in values[:number] for number, entry in enumerate(values)):
            raise InputError(f"{where} lists a value twice")
        return values


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
    """Return the end of an error about a name: the nearest known one, or all if there are few."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"{name!r} is no {what}; did you mean {near[0]}?"
    return f"{name!r} is no {what}" + (f"; choose from {', '.join(known)}" if len(known) <= 20 else "; see its --help")


def mapping(where: str, value: Any, keys: Collection[str] | None = None) -> dict[str, Any]:
    """Read a section of the file; an empty section has no value.

    Raises:
        InputError: if it is something else, or has a key that is not among `keys`.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}; expected `name: value` lines")
    for key in value:
        if not isinstance(key, str) or (keys is not None and key not in keys):
            raise InputError(f"{where}.{key}: {unknown('key here', key, keys or ())}".removeprefix("."))
    return value


def text(where: str, value: Any) -> str:
    """Read a nonempty text of one line.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is {value!r}; expected text")
    if not value.isprintable():
        raise InputError(f"{where} is {value!r}; expected text without line breaks or control characters")
    return value
