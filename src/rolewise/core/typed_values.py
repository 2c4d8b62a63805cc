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
_NAMES: dict[Any, str] = {
    **{bool: "true or false", int: "a whole number", float: "a number", str: "text"},
    **{dict: "a mapping", list: "a list", tuple: "a list"},
}
_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""Spelling of a truth value in a flag, in lower case → the value."""
_NOTHING = ("none", "null")


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return what an annotation allows: classes, `Literal`s and None's type; generic classes without arguments."""
    return tuple(_class_of(part) for part in _parts(annotation))


def _parts(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin in _UNIONS:
        return tuple(part for alternative in typing.get_args(annotation) for part in _parts(alternative))
    return (annotation,)


def _class_of(part: Any) -> Any:
    origin = typing.get_origin(part)
    if origin is Literal:
        return part
    kind = origin or part
    is_class = isinstance(kind, type) and kind is not Any  # Any is a class since Python 3.11
    return type(None) if kind is None else kind if is_class else object


def _item(annotation: Any) -> Any:
    """Return the annotation of a tuple's items."""
    return next((args[0] for part in _parts(annotation) if (args := typing.get_args(part))), object)


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
    if members:
        value = "no" if value is False else value  # YAML reads `no` as false
        if value in members or isinstance(value, enum.Enum):
            return value
        raise InputError(f"{value!r} is not known; choose one of {', '.join(map(str, members))}")
    if isinstance(value, Sequence) and not isinstance(value, str) and {list, tuple} & set(kinds):
        if tuple not in kinds:
            return list(value)
        item = _item(annotation)
        try:
            entries = tuple(read_value(item, entry) for entry in value)
        except InputError:
            entries = None
        if entries is None or (item is str and entries != tuple(value)):  # a number among texts is a slip
            raise InputError(f"is {value!r}; expected {_expected(alternatives(item))}, or a list of them")
        return entries
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            if value in typing.get_args(kind):
                return value
        elif kind is object or _fits(kind, value):
            return value
    if float in kinds and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    if int in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if str in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if several and str in kinds and isinstance(value, list | dict):
        if not all(isinstance(entry, str) for entry in value):
            raise InputError(f"is {value!r}; expected text, or a list of texts")
        return json.dumps(value)  # an option that may name several things; see `split_list`
    if tuple in kinds and not isinstance(value, Mapping):
        return read_value(annotation, [value])
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
    """Return the JSON Schema of what `read_value` accepts for an annotation; `{}` allows anything."""
    kinds = alternatives(annotation)
    members = [member.value for kind in kinds if is_enum(kind) for member in kind]
    if members:
        kinds = tuple(kind for kind in kinds if kind is type(None))  # a text beside an enumeration is one of its values
    parts: list[dict[str, Any]] = [{"enum": [*members, *([False] if "no" in members else [])]}] if members else []
    for kind in kinds:
        if kind is object:
            return {}
        if typing.get_origin(kind) is Literal:
            parts.append({"enum": list(typing.get_args(kind))})
        elif kind is str:
            parts.append({"type": ["string", "number"]})
        elif kind in _TYPES:
            parts.append({"type": _TYPES[kind]})
        elif issubclass(kind, Mapping):
            parts.append({"type": "object"})
        elif issubclass(kind, tuple):
            item = {"type": "string"} if _item(annotation) is str else schema(_item(annotation))
            parts += [{"type": "array", "items": item}, item]
        elif issubclass(kind, list):
            parts.append({"type": "array"})
    if float in kinds and str not in kinds:
        parts.append({"type": "string", "pattern": _NUMBER})
    if several:
        parts += [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]
    unique = [part for number, part in enumerate(parts) if part not in parts[:number]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique} if unique else {}


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
