"""Options of other commands as they stand in an experiment file: known names, values of the right kind."""

import dataclasses
import difflib
import enum
import json
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rolewise.core.errors import InputError

_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_UNIONS = (types.UnionType, typing.Union)


class OptionKinds:
    """The options that some dataclasses take together; of a name that several have, the first one's counts.

    Args:
        command: whose they are, for errors.
        classes: dataclasses.
        reserved: names that the experiment gives itself, with the reason.
    """

    def __init__(self, command: str, classes: Sequence[type], reserved: Mapping[str, str]) -> None:
        self.command = command
        self._reserved = reserved
        self._kinds: dict[str, tuple[type, ...]] = {}
        for options in classes:
            hints = typing.get_type_hints(options)
            for field in dataclasses.fields(options):
                if field.init:
                    self._kinds.setdefault(field.name, _alternatives(hints[field.name]))

    def __contains__(self, name: str) -> bool:
        return name in self._kinds

    def check(self, where: str, name: str, value: Any) -> Any:
        """The value as the option takes it.

        Raises:
            InputError: naming the place in the file, for a name that is unknown or reserved, or an unfit value.
        """
        if name in self._reserved:
            raise InputError(f"{where}: {self._reserved[name]}")
        if name not in self._kinds:
            raise InputError(f"{where}: {unknown(f'option of {self.command}', name, self._kinds)}")
        return _fitting(where, self._kinds[name], value)

    def alternatives(self, where: str, name: str, value: Any) -> list[Any]:
        """The values that a list stands for, or the one that there is; a list of an option that takes lists is one.

        Raises:
            InputError: as `check`, or for an empty list.
        """
        if not isinstance(value, list) or list in self._kinds.get(name, ()):
            return [self.check(where, name, value)]
        if not value:
            raise InputError(f"{where} is an empty list; give a value, or leave the line out")
        values = [self.check(f"{where}[{number}]", name, entry) for number, entry in enumerate(value)]
        if any(entry in values[:number] for number, entry in enumerate(values)):
            raise InputError(f"{where} names one value twice")
        return values


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
    """The end of an error about a name: the nearest one, or all if there are few."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"{name!r} is no {what}; did you mean {near[0]}?"
    return f"{name!r} is no {what}" + (f"; choose from {', '.join(known)}" if len(known) <= 20 else "; see its --help")


def mapping(where: str, value: Any, keys: Collection[str] | None = None) -> dict[str, Any]:
    """A section of the file; an empty one is written as nothing.

    Raises:
        InputError: if it is something else, or holds a key that is not among `keys`.
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
    """A text that is not empty, of one line.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is {value!r}; expected text")
    if not value.isprintable():
        raise InputError(f"{where} is {value!r}; expected text without line breaks and control characters")
    return value


def _alternatives(annotation: Any) -> tuple[type, ...]:
    """The classes that an annotation allows; `object` for what is not judged here."""
    if typing.get_origin(annotation) in _UNIONS:
        return tuple(kind for part in typing.get_args(annotation) for kind in _alternatives(part))
    origin = typing.get_origin(annotation) or annotation
    return (origin,) if isinstance(origin, type) else (object,)


def _fitting(where: str, kinds: tuple[type, ...], value: Any) -> Any:
    if float in kinds and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4, without a point, as text
        except ValueError:
            pass
    if str in kinds and isinstance(value, list | dict) and type(value) not in kinds:
        return json.dumps(value)  # as in the commands' own config files
    if int in kinds and isinstance(value, float) and value.is_integer() and float not in kinds:
        value = int(value)
    for kind in kinds:
        if kind is object or issubclass(kind, enum.Enum) or dataclasses.is_dataclass(kind):
            return value
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    expected = [_EXPECTED.get(kind, "null" if kind is type(None) else f"a {kind.__name__}") for kind in kinds]
    raise InputError(f"{where} is {value!r}; expected {' or '.join(dict.fromkeys(expected))}")
