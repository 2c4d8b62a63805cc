"""Convert values from YAML files and flags to the type annotation of a dataclass field or a parameter."""

import enum
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json

_UNIONS = (types.UnionType, typing.Union)
_NAMES: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""Spelling of a truth value in a flag, in lower case → the value."""
_NOTHING = ("none", "null")


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return what an annotation allows: classes, `Literal`s and None's type; generic classes without arguments."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if origin in _UNIONS:
        return tuple(kind for part in typing.get_args(annotation) for kind in alternatives(part))
    if origin is Literal:
        return (annotation,)
    kind = origin or annotation
    return (type(None) if kind is None else kind if isinstance(kind, type) else object,)


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the texts that an annotation allows if it allows only `Literal`s (and None)."""
    kinds = [kind for kind in alternatives(annotation) if kind is not type(None)]
    if not all(typing.get_origin(kind) is Literal for kind in kinds):
        return ()
    return tuple(value for kind in kinds for value in typing.get_args(kind))


def read_value(annotation: Any, value: Any, *, several: bool = False) -> Any:
    """Convert a value from a YAML file or from Python to the annotation's type.

    Numbers written as text (YAML reads `1e-4`, without a point, as text) become numbers, whole numbers are accepted as
    decimals and as text, and a list becomes a tuple if the annotation asks for one. With `several`, for a text that may
    name several things, a list becomes JSON text (see `split_list`). Nothing else is converted.

    Raises:
        InputError: for a value of another type; its message ends a sentence, e.g. "is 'a'; expected a number".
    """
    kinds = alternatives(annotation)
    if value is None and type(None) in kinds:
        return None
    if value is None and object not in kinds:
        raise InputError("has no value; give one, or leave the line out")
    members = [member.value for kind in kinds if is_enum(kind) for member in kind]
    if value is False and "no" in members:
        return "no"  # as a bare `no` of YAML is read
    if members and value not in members and not isinstance(value, enum.Enum):
        raise InputError(f"{value!r} is not known; choose one of {', '.join(map(str, members))}")
    if isinstance(value, Sequence) and not isinstance(value, str) and {list, tuple} & set(kinds):
        items = tuple in kinds and [kind for kind in typing.get_args(annotation) if kind is not Ellipsis]
        if items and not all(isinstance(entry, items[0]) for entry in value):
            raise InputError(f"is {value!r}; expected {_NAMES.get(items[0], 'values')}, or a list of them")
        return tuple(value) if tuple in kinds else list(value)
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            if value in typing.get_args(kind):
                return value
        elif kind is object or issubclass(kind, enum.Enum) or _fits(kind, value):
            return value
    if float in kinds and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if int in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if str in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if several and str in kinds and isinstance(value, list | dict):
        return json.dumps(value)  # an option that may name several things; see `split_list`
    if tuple in kinds and isinstance(value, str):
        return (value,)
    allowed = choices(annotation)
    if allowed and isinstance(value, str):
        raise InputError(f"{value!r} is not known; choose one of {', '.join(allowed)}")
    raise InputError(f"is {value!r}; expected {_expected(kinds)}")


def read_text(annotation: Any, text: str) -> Any:
    """Convert a flag's text to the annotation's type; `none` and `null` become None where None is allowed.

    Raises:
        InputError: as for `read_value`.
    """
    kinds = alternatives(annotation)
    if type(None) in kinds and text.lower() in _NOTHING:
        return None
    if bool in kinds and text.lower() in TRUTH:
        return TRUTH[text.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                pass
    if dict in kinds and text.lstrip().startswith("{"):
        try:
            return parse_json(text)
        except ValueError:
            pass
    return read_value(annotation, text)


def read_untyped(text: str) -> Any:
    """Read a text without an annotation as JSON if it is JSON, else leave it as it is: `0.5` is a number."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def schema(annotation: Any, *, several: bool = False) -> dict[str, Any]:
    """Return an annotation's JSON Schema; `{}` allows anything. With `several`, a text may also be a list of texts."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    parts: list[dict[str, Any]] = []
    for kind in alternatives(annotation):
        if typing.get_origin(kind) is Literal:
            parts.append({"enum": list(typing.get_args(kind))})
        elif kind in names:
            parts.append({"type": names[kind]})
        elif issubclass(kind, enum.Enum):
            parts.append({"enum": [member.value for member in kind]})
        elif issubclass(kind, Mapping):
            parts.append({"type": "object"})
        elif issubclass(kind, list | tuple):
            parts.append({"type": "array"})
        else:
            return {}
    if several:
        parts += [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]
    unique = [part for number, part in enumerate(parts) if part not in parts[:number]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def is_enum(kind: Any) -> bool:
    """Return True if an alternative is an enumeration, whose values stand for its members."""
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _fits(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _expected(kinds: Sequence[Any]) -> str:
    names = []
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            names.append(f"one of {', '.join(map(str, typing.get_args(kind)))}")
        elif kind is not type(None):
            names.append(_NAMES.get(kind, f"a {kind.__name__}"))
    return " or ".join(dict.fromkeys(names))
