"""Options as dataclass fields with their own help texts, for Python, YAML and the command line alike.

Each value is declared once, in the dataclass that owns it. A command inherits the owners that it needs. To change a
default or a help text it uses `adapt` instead of declaring the value again.
"""

import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field
from typing import Any, ClassVar, Literal, TypeVar

from rolewise.core.components import Components
from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.core.option_fields import fields_of

Owner = TypeVar("Owner", bound=type)

Dtype = Literal["float32", "bfloat16", "float16"]


def option(default: Any, help: str, *, least: float | None = None, several: bool = False) -> Any:
    """Return a dataclass field with a help text.

    Args:
        default: `dataclasses.MISSING` for a required option.
        help: an imperative sentence or a noun phrase; two lines at most.
        least: minimum value.
        several: True if a text may name several things, in YAML as a list; see `split_list`.
    """
    return field(default=default, metadata={"help": help, "least": least, "several": several})


def required(help: str, *, several: bool = False) -> Any:
    """Return a dataclass field without a default."""
    return option(MISSING, help, several=several)


def adapt(name: str, *, default: Any = MISSING, help: str | None = None) -> Callable[[Owner], Owner]:
    """Give an inherited option another default or help text. Place the decorator below `@dataclass`."""

    def change(owner: Owner) -> Owner:
        inherited: Field[Any] = next(
            vars(kind)[_FIELDS][name] for kind in owner.__mro__[1:] if name in vars(kind).get(_FIELDS, ())
        )
        metadata = {**inherited.metadata, **({} if help is None else {"help": help})}
        new = field(default=inherited.default if default is MISSING else default, metadata=metadata)
        kind = typing.get_type_hints(owner)[name]
        kind = kind | None if default is None else kind
        owner.__annotations__ = {**vars(owner).get("__annotations__", {}), name: kind}
        setattr(owner, name, new)
        return owner

    return change


_FIELDS = "__dataclass_fields__"


class Options:
    """Base class of a command's options and of the groups that several commands share.

    Constructing an instance checks its values: allowed choices (`Literal`), minimum values, and each
    class's `validate`.
    """

    TITLE: ClassVar[str] = "options"
    """Heading in `--help` above the options that a class declares; `class Group(Options, title="…")` sets it."""
    PARTS: ClassVar[Mapping[str, tuple[Components[Any], ...]]] = {}
    """Options that name a part with its own parameters. The parameters are options too, collected in `NAME_args`."""

    def __init_subclass__(cls, title: str | None = None) -> None:
        cls.TITLE = title or cls.TITLE

    def __post_init__(self) -> None:
        for option_ in fields_of(type(self)).values():
            option_.check(getattr(self, option_.name))
        for kind in reversed(type(self).__mro__):
            validate = vars(kind).get("validate")
            if validate is not None:
                validate(self)


def values_of(options: Any, kind: type) -> dict[str, Any]:
    """Return the values of the options that another dataclass shares, for constructing it."""
    return {name: getattr(options, name) for name in fields_of(kind) if name in fields_of(type(options))}


def split_list(text: str | None) -> list[str]:
    """Split an option that may name several things: `a,b` on the command line, a list in YAML.

    A YAML list arrives as JSON text, which is also how to give an entry that contains a comma.
    """
    try:
        value = parse_json(text or "")
    except ValueError:
        value = None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def completed(options: Any) -> dict[str, dict[str, Any]]:
    """Return the arguments of each part that the options name, defaults included, by field name."""
    found = {}
    for part, components in parts_of(type(options)).items():
        name, given = getattr(options, part), getattr(options, f"{part}_args")
        component = next((c for c in components if name in c.names), components[0])
        found[f"{part}_args"] = component.complete(name, given)
    return found


def parts_of(owner: type) -> dict[str, tuple[Components[Any], ...]]:
    """Return the options of a class that name a part, with the available parts."""
    return {name: parts for kind in reversed(owner.__mro__) for name, parts in vars(kind).get("PARTS", {}).items()}


def check_kind(args: Any, kind: type, ours: type) -> None:
    """Check that a trainer's settings are a `kind`, which plain TrainingArguments are not; `ours` is the class to pass.

    Raises:
        InputError: if they are not.
    """
    if not isinstance(args, kind):
        raise InputError(f"args is of type {type(args).__name__}; pass a {ours.__name__}, which has all of its fields")


def refuse_arguments(args: Any) -> None:
    """Refuse a part's arguments in the settings of a trainer that is given the part itself.

    Raises:
        InputError: if there are any.
    """
    if getattr(args, "weighting_args", None):
        raise InputError(
            f"weighting_args is {args.weighting_args!r}, but weighting is an object, which has its parameters already; "
            "leave one of them out"
        )
