"""Named parts with their own parameters, such as weightings, from the package and from plugins.

A part's factory is a class or a function. A part's parameters and defaults are those of its factory; the annotation
of a parameter carries its help text: `inv_tau: Annotated[float, "1/τ …"] = 0.3`.
"""

import contextlib
import difflib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from rolewise.core.errors import InputError
from rolewise.core.limits import one_line, parse_json
from rolewise.core.option_fields import OptionField, fields_of
from rolewise.core.typed_values import choices, read_value

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])

Arguments = Mapping[str, Any] | str | None
"""A part's arguments by name, or as JSON text if TRL's own parser read them."""


class Components(Generic[T]):
    """Registry of the parts of one kind, by name.

    Args:
        kind: name of the kind in messages, e.g. `weighting`.
        package: dotted name of the package whose modules register Rolewise's own parts on import. It is imported on
            first use.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._own: dict[str, Callable[..., T]] = {}
        self._added: dict[str, Callable[..., T]] = {}
        self._is_loaded = False

    def own(self, name: str) -> Callable[[Factory], Factory]:
        """Return a decorator that registers one of Rolewise's own parts."""

        def register(make: Factory) -> Factory:
            self._own[name] = make
            return make

        return register

    def register(self, name: str, make: Callable[..., T]) -> None:
        """Register a user's part; a second registration replaces the first.

        Raises:
            ValueError: if Rolewise already uses the name.
        """
        if name in self.own_names:
            raise ValueError(f"the name {name!r} is taken by one of Rolewise's own {self.kind}s; choose another")
        self._added[name] = make

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of Rolewise's own parts, in alphabetical order."""
        if not self._is_loaded:
            self._is_loaded = True
            for module in pkgutil.iter_modules(import_module(self._package).__path__):
                import_module(f"{self._package}.{module.name}")
        return tuple(sorted(self._own))

    def __iter__(self) -> Iterator[str]:
        return iter(self.own_names)

    def __len__(self) -> int:
        return len(self.own_names)

    @property
    def names(self) -> tuple[str, ...]:
        """All names: Rolewise's own, then the registered ones."""
        return (*self.own_names, *self._added)

    def parameters(self, name: str) -> dict[str, OptionField]:
        """Return the parameters of a part, by name.

        Raises:
            InputError: if no part has that name.
        """
        return _parameters(self._find(name))

    def summary(self, name: str) -> str:
        """Return the first sentence of a part's docstring, without its full stop."""
        return (inspect.getdoc(self._find(name)) or name).partition("\n")[0].partition(". ")[0].removesuffix(".")

    def parameters_of_all(self) -> dict[str, dict[str, OptionField]]:
        """Return a mapping: parameter name → names of Rolewise's own parts that take it → its OptionField there."""
        found: dict[str, dict[str, OptionField]] = {}
        for name in self.own_names:
            for parameter in self.parameters(name).values():
                found.setdefault(parameter.name, {})[name] = parameter
        return found

    def complete(self, name: str, arguments: Arguments) -> dict[str, Any]:
        """Return the arguments converted to the part's types, with defaults for all others.

        Raises:
            InputError: for an unknown part or parameter, a value of another type, or a missing one.
        """
        known, arguments = self.parameters(name), self.mapping(arguments)
        for argument in arguments:
            if argument not in known:
                raise InputError(self._unknown(name, argument, list(known)))
        values = {}
        for parameter in known.values():
            value = arguments.get(parameter.name, parameter.default)
            if value is MISSING:
                raise InputError(f"{self.kind} {name} needs {parameter.name}")
            if parameter.name in arguments and not (value is None and parameter.default is None):
                try:
                    value = read_value(parameter.annotation, value, several=parameter.several)
                except InputError as error:
                    raise InputError(f"{parameter.name} {error}") from error
            if name not in self._own and isinstance(value, float) and math.isnan(value):  # our own know their range
                raise InputError(f"{parameter.name} is nan; expected another value")
            values[parameter.name] = value
        return values

    def make(self, name: str, arguments: Arguments = None) -> T:
        """Make the part called `name` with these arguments.

        Raises:
            InputError: for an unknown part or parameter, an invalid value, or a part that can't be made.
        """
        make = self._find(name)
        values = self.complete(name, arguments)
        if name in self._own:
            return make(**values)
        try:
            return make(**values)
        except InputError:
            raise
        except Exception as error:  # a plugin is arbitrary code and can fail in any way
            given = one_line(", ".join(f"{key}={value!r}" for key, value in values.items()))
            made = f"made with {given}" if given else "made"
            raise InputError(
                f"{self.kind} {name} can't be {made} ({type(error).__name__}: {one_line(error)}); "
                f"{'give another value, or ' * bool(given)}fix its plugin"
            ) from error

    def _find(self, name: str) -> Callable[..., T]:
        names = self.names
        if name not in names:
            known = ", ".join(names)
            raise InputError(
                f"{self.kind} {name!r} is not known; choose one of {known}, or name the --plugin that adds it"
            )
        return self._own.get(name) or self._added[name]

    def mapping(self, arguments: Arguments) -> Mapping[str, Any]:
        """Return arguments as a mapping.

        Raises:
            InputError: if they are not one.
        """
        value: Any = arguments
        if isinstance(arguments, str):
            try:
                value = parse_json(arguments)
            except ValueError:
                value = None
        elif arguments is None:
            value = {}
        if not isinstance(value, Mapping):
            raise InputError(f"{self.kind}_args is {arguments!r}; expected a mapping of parameters to values")
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"{self.kind}_args names a parameter {name!r}; a name is text, see --{self.kind}-arg")
        return value

    def _unknown(self, name: str, argument: str, known: list[str]) -> str:
        owners = ", ".join(self.parameters_of_all().get(argument, ()))
        if owners:
            return f"{argument} would change nothing with {self.kind} {name}, only with {owners}; leave it out"
        near = difflib.get_close_matches(argument, known, n=1)
        takes = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
        return f"{self.kind} {name} has no parameter {argument!r}; {takes}"


def _parameters(make: Callable[..., Any]) -> dict[str, OptionField]:
    if isinstance(make, type) and is_dataclass(make):
        return fields_of(make)
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # a built-in without a signature has no known parameters
        return {}
    hints = hints_of(make)
    parameters = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        annotation = hints.get(parameter.name, Any)
        default = MISSING if parameter.default is parameter.empty else parameter.default
        texts = [text for text in getattr(annotation, "__metadata__", ()) if isinstance(text, str)]
        parameters[parameter.name] = OptionField(
            parameter.name, annotation, default, " ".join(texts), "", choices(annotation)
        )
    return parameters


def hints_of(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's or a class's parameters, by name, without those of undefined names."""
    function = make.__init__ if inspect.isclass(make) else make
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError, TypeError, AttributeError, SyntaxError):  # a plugin may hold anything
            hints |= typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)
    return hints
