"""One namespace for the options of several owners; each value is converted to its type and goes to its owner."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, replace
from typing import Any, Literal, TypeVar

from rolewise.core.components import Components
from rolewise.core.errors import InputError
from rolewise.core.option_fields import OptionField, declaring, fields_of
from rolewise.core.options import parts_of
from rolewise.core.typed_values import alternatives, read_text, read_untyped, read_value, schema

T = TypeVar("T")

NEIGHBOURS = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "torch_dtype": "dtype",
    "model_name_or_path": "model",
    "dataset_name": "data",
    "dataset": "data",
    "lora_r": "rank",
    "lora_rank": "rank",
    "use_peft": "lora",
}
"""Name of an option in other tools → its name here."""
_ABLATION = (
    "is part of a reward now; as reward choose rest-constant or toolrl-finegrained, -intermediate, -coarse, "
    "-equal-max, -dynamic, -two-stage, -length or -length-dynamic, or leave it out"
)
RENAMED = {
    **dict.fromkeys(("format_rule", "granularity", "schedule", "correctness_max", "length_reward"), _ABLATION),
}
"""Option of an earlier version → its replacement."""


class UnknownOption(InputError):
    """An option that a command does not have.

    Attributes:
        name: with underscores.
        what: the message without the suggestion.
        is_translated: True if the message gives the option's name here.
    """

    def __init__(self, what: str, name: str, hint: str, *, is_translated: bool) -> None:
        super().__init__(f"{what} {hint}" if hint == RENAMED.get(name) else f"{what} is not known; {hint}")
        self.name, self.what, self.is_translated = name, f"{what} is not known", is_translated


class OptionTable:
    """The options of a command: the fields of its owners, and the parameters of the parts that they name.

    A parameter of a part, such as RFT's `inv_tau`, is an option like any other; its value goes to the part's
    arguments (`weighting_args`).

    Args:
        command: name of the command.
        owners: dataclasses; if several share a name, the first one takes precedence.
        left_out: names of other libraries' fields that are not offered.
    """

    def __init__(self, command: str, owners: Sequence[type], left_out: Collection[str] = ()) -> None:
        self.command = command
        self.owners = tuple(owners)
        self.fields: dict[str, OptionField] = {}
        self.owner_of: dict[str, type] = {}
        self.parts: dict[str, tuple[Components[Any], ...]] = {}
        for owner in owners:
            for name, option in _in_order(owner):
                is_ours = declaring(owner, name).__module__.startswith("rolewise.")
                if name not in self.fields and (is_ours or name not in left_out):
                    if name == "fsdp" and not is_ours:  # Transformers also accepts a truth value, but declares a text
                        option = replace(option, annotation=option.annotation | bool)
                    self.fields[name], self.owner_of[name] = option, owner
            self.parts |= parts_of(owner)
        self.parameters: dict[str, str] = {}
        """Name of a parameter → the option that names the part."""
        self.readers: dict[str, dict[str, OptionField]] = {}
        """Name of a parameter → the parts that read it → its description there."""
        for part, components in self.parts.items():
            for component in components:
                for name, readers in component.parameters_of_all().items():
                    if name not in self.fields and self.parameters.setdefault(name, part) == part:
                        self.readers[name] = {**self.readers.get(name, {}), **readers}

    def __contains__(self, name: object) -> bool:
        return name in self.fields or name in self.readers

    def names(self) -> list[str]:
        """Return the names of all options."""
        return [*self.fields, *self.readers]

    def described(self, name: str) -> OptionField:
        """Return the option of that name, or the parameter as described by the first part that reads it."""
        return self.fields[name] if name in self.fields else next(iter(self.readers[name].values()))

    def read(self, name: str, value: Any, where: str = "") -> Any:
        """Convert a value from a YAML file to the option's type.

        Raises:
            InputError: for a value of another type, or none of the option's choices; the message starts with `where`,
                by default the name.
        """
        option = self.described(name)
        try:
            read = read_value(option.annotation, value, several=option.several)
        except InputError as error:
            raise InputError(f"{where or name} {error}") from error
        option.check(read, where)
        components = self.parts.get(name.removesuffix("_args")) if name.endswith("_args") else None
        return read if components is None else dict(components[0].mapping(read))

    def read_flag(self, name: str, text: str) -> Any:
        """Convert a flag's text to the option's type.

        Raises:
            InputError: for a text that is no such value; the message starts with the flag.
        """
        kinds = alternatives(self.described(name).annotation)
        is_name = str in kinds and dict not in kinds  # beside a mapping, a text is JSON or a file
        if text.lower() == "none" and is_name and name in self.fields and not self._is_ours(name):
            return text  # for Transformers and TRL, none is a name
        try:
            value = read_text(self.described(name).annotation, text)
            if self.described(name).choices:
                self.described(name).check(value)
        except InputError as error:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} {str(error).removeprefix(f'{name} ')}") from error
        return value

    def distributed(self, values: Mapping[str, Any]) -> dict[type, dict[str, Any]]:
        """Distribute the values to their owners, with parameters collected in the arguments of their part.

        A parameter that the chosen part does not read is refused unless it has its default value, since files of
        earlier versions list all parameters.

        Raises:
            InputError: for such a parameter, or one that is given twice.
        """
        by_owner: dict[type, dict[str, Any]] = {owner: {} for owner in self.owners}
        for name, value in values.items():
            if name in self.fields:
                by_owner[self.owner_of[name]][name] = value
        for part, components in self.parts.items():
            if part not in self.fields:
                continue
            given = {name: values[name] for name, home in self.parameters.items() if home == part and name in values}
            own = by_owner[self.owner_of[part]]
            arguments = self._arguments(part, own.get(part, self.fields[part].default), components, given, own)
            if arguments or f"{part}_args" in own:
                own[f"{part}_args"] = arguments
        return by_owner

    def check_arguments(self, values: Mapping[str, Any]) -> None:
        """Check the arguments of Rolewise's own parts; a plugin's part is known only once the plugin is loaded.

        Raises:
            InputError: for an unknown argument or an invalid value.
        """
        for part, components in self.parts.items():
            if part not in self.fields:
                continue
            chosen, arguments = values.get(part, self.fields[part].default), values.get(f"{part}_args")
            component = next((c for c in components if chosen in c.own_names), None)
            if arguments and component is not None:
                component.make(chosen, arguments)

    def make(self, owner: type[T], values: Mapping[str, Any]) -> T:
        """Make an owner with its values.

        Raises:
            InputError: naming the missing options, or as raised by the owner.
        """
        owned = fields_of(owner)
        needed = [name for name in self.names() if name in owned and owned[name].default is MISSING]
        missing = [f"--{name.replace('_', '-')}" for name in needed if values.get(name) in (None, "", [])]
        if missing:
            raise InputError(f"missing: {', '.join(missing)}; see --help")
        return owner(**values)

    def unknown(self, what: str, name: str, also: Iterable[str] = (), prefix: str = "") -> UnknownOption:
        """Return the error for an option that does not exist, with the nearest match."""
        known = [*self.names(), *also]
        if name in RENAMED and "reward" in self:
            return UnknownOption(what, name, RENAMED[name], is_translated=True)
        if prefix and name in known and name.endswith("_args"):
            hint = f"give each parameter as --{name.removesuffix('s').replace('_', '-')} NAME=VALUE"
            return UnknownOption(what, name, hint, is_translated=True)
        is_translated = NEIGHBOURS.get(name) in known
        near = [NEIGHBOURS[name]] if is_translated else difflib.get_close_matches(name, known, n=1)
        shown = prefix + (near[0].replace("_", "-") if prefix else near[0]) if near else ""
        return UnknownOption(
            what, name, f"did you mean {shown}?" if near else "see --help", is_translated=is_translated
        )

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the command's config file."""
        properties = {}
        for name in self.names():
            option = self.described(name)
            allowed = Literal[option.choices] if option.choices else option.annotation
            kind = allowed | None if type(None) in alternatives(option.annotation) else allowed
            entry = {**schema(kind, several=option.several), "description": self.help(name)}
            if isinstance(option.default, str | int | float | bool):
                entry["default"] = option.default
            if option.least is not None:
                entry["minimum"] = option.least
            properties[name] = entry
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.command,
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
        }

    def help(self, name: str) -> str:
        """Return the help text of an option; for a parameter with the parts that read it, for a part with all names."""
        option = self.described(name)
        if name in self.parts:
            return f"{option.help.removesuffix('.')}: {', '.join(self.names_of_parts(name))} or a plugin's."
        if name in self.fields or option.group:
            return option.help
        return f"{', '.join(self.readers[name])}: {option.help}"

    def names_of_parts(self, name: str) -> list[str]:
        """Return the names of Rolewise's own parts that an option can name; none if it names no part."""
        return list(dict.fromkeys(own for component in self.parts.get(name, ()) for own in component.own_names))

    def _is_ours(self, name: str) -> bool:
        return declaring(self.owner_of[name], name).__module__.startswith("rolewise.")

    def _arguments(
        self,
        part: str,
        chosen: str,
        components: Sequence[Components[Any]],
        given: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> dict[str, Any] | None:
        arguments = dict(own.get(f"{part}_args") or {})
        component = next((c for c in components if chosen in c.own_names), None)
        for name, value in given.items():
            is_read = component is None or name in component.parameters(chosen)
            is_default = any(value == option.default for option in self.readers[name].values())
            if name in arguments and arguments[name] != value:
                raise InputError(f"{name} is {value!r}, and in {part}_args {arguments[name]!r}; leave one of them out")
            if not is_default and not is_read:
                readers = ", ".join(self.readers[name])
                raise InputError(f"{name} would change nothing with {part} {chosen}, only with {readers}; leave it out")
            if is_read and not (is_default and component is None):
                arguments[name] = value
        return arguments or None


def read_arguments(part: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` flags as a part's arguments; a value is parsed as JSON if it is JSON, else taken as text.

    Raises:
        InputError: for a flag without a name or a value.
    """
    arguments = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise InputError(f"--{part}-arg is {pair!r}; expected NAME=VALUE")
        arguments[name.strip().replace("-", "_")] = read_untyped(text)
    return arguments


def is_flag(annotation: Any) -> bool:
    """Return True if an option is given as `--name` and `--no-name`."""
    kinds = alternatives(annotation)
    return bool in kinds and not {str, list, dict} & set(kinds)


def _in_order(owner: type) -> list[tuple[str, OptionField]]:
    """Return an owner's options: its own first, then those of its groups in the order of its bases."""
    order = {kind: number for number, kind in enumerate(owner.__mro__)}
    return sorted(fields_of(owner).items(), key=lambda item: order[declaring(owner, item[0])])
