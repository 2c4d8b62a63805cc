"""Command-line parsing of a command's options: `--config file.yaml`, any option also as a flag; flags win."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, NoReturn, TypeVar

from rolewise.core.errors import InputError
from rolewise.core.limits import read_yaml
from rolewise.core.option_fields import OptionField
from rolewise.core.typed_values import TRUTH, alternatives
from rolewise.options.table import RENAMED, OptionTable, is_flag, read_arguments

T = TypeVar("T")
FIRST_GROUPS = ("needed", "options")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports errors in one line, as `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


@dataclass(frozen=True)
class Command(Generic[T]):
    """A command: its name, the dataclass of its options, and the `--help` texts above and below them."""

    name: str
    options: type[T]
    description: str
    epilog: str = ""

    def table(self) -> OptionTable:
        """Return the table of all its options."""
        return OptionTable(f"rolewise {self.name}", [self.options])

    def light_table(self) -> OptionTable:
        """Return the table of the options that are known without importing a slow library."""
        return self.table()

    def read(self, argv: Sequence[str]) -> T:
        """Read the options from the command line and its `--config` file. `--help` ends the process.

        Raises:
            InputError: for an unknown, missing or invalid option.
        """
        table = self.table()
        values = parse(table, build_parser(table, self.description, self.epilog), argv)
        return table.make(self.options, table.distributed(values)[self.options])


def command_of(name: str) -> Command[Any] | None:
    """Return the command of that name, or None for one that reads no options from a config file."""
    found = getattr(import_module(f"rolewise.cli.{name}"), "COMMAND", None)
    return found if isinstance(found, Command) else None


def build_parser(table: OptionTable, description: str, epilog: str = "", defaults: Any = None) -> Parser:
    """Return a parser with a flag per option, which leaves the values as text.

    Args:
        table: table of the options.
        description: text above the options.
        epilog: text below the options.
        defaults: defaults that the command changes, by option name.
    """
    parser = Parser(
        prog=table.command,
        usage=f"{table.command} [options]",
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    placed = [(_group(table, name), name) for name in table.names()]
    titles = dict.fromkeys([*FIRST_GROUPS, *(title for title, _ in placed)])
    for title in titles:
        names = [name for group, name in placed if group == title]
        group = parser.add_argument_group(title)
        for name in names:
            part = name.removesuffix("_args")
            if part != name and part in table.parts:
                group.add_argument(
                    f"--{part}-arg",
                    dest=name,
                    action="append",
                    metavar="NAME=VALUE",
                    help=f"A parameter of a plugin's {part}. Repeatable.",
                )
            else:
                _add_flag(group, table, name, defaults or {})
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE", help="YAML file with any of these options; flags win.")
    general.add_argument("-h", "--help", action="help", help="Show this help.")
    return parser


def parse(table: OptionTable, parser: Parser, argv: Sequence[str]) -> dict[str, Any]:
    """Read the values from the command line and its `--config` file, converted to the options' types.

    Args:
        table: table of the options.
        parser: result of `build_parser`.
        argv: the command line.

    Raises:
        InputError: for an unknown option (with the nearest match), or an invalid value.
    """
    normal, unset = _normal(table, argv)
    given, rest = parser.parse_known_args(normal)
    for argument in rest:
        if not argument.startswith("--"):
            raise InputError(f"{argument!r} is not an option; see --help")
        name = argument.lstrip("-").split("=")[0].replace("-", "_")
        raise table.unknown(f"option {argument.split('=')[0]}", name, ["config"], "--")
    texts = vars(given)
    config = texts.pop("config", None)
    values = read_config(table, config) if config is not None else {}
    for name in texts.keys() & table.parameters.keys():
        arguments = values.get(f"{table.parameters[name]}_args") or {}
        arguments.pop(name, None)  # the command line's value replaces the file's
    if config is not None:
        try:
            table.check_arguments({**values, **{part: texts[part] for part in table.parts if part in texts}})
        except InputError as error:
            raise InputError(f"{config}: {error}") from error
    for name, text in texts.items():
        part = name.removesuffix("_args")
        if part != name and part in table.parts:
            values[name] = {**(values.get(name) or {}), **read_arguments(part, text)}
        elif isinstance(text, list):
            values[name] = table.read(name, text)
        else:
            values[name] = text if isinstance(text, bool) else table.read_flag(name, text)
    return values | dict.fromkeys(unset)


def read_config(table: OptionTable, path: str) -> dict[str, Any]:
    """Read the values of a config file.

    Raises:
        InputError: naming the file, if it can't be read, or for an unknown option or an invalid value.
    """
    content = read_yaml(path, "config file")
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: expected `option: value` lines, found a {type(content).__name__}")
    values = {}
    for key, value in (content or {}).items():
        name = str(key).replace("-", "_")
        if name in RENAMED and name not in table and value is None:
            continue  # config.yaml of an earlier version lists every option, also those that were not set
        if name not in table:
            raise table.unknown(f"{path}: option {key!r}", name)
        try:
            values[name] = table.read(name, value)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return values


def _group(table: OptionTable, name: str) -> str:
    if name in table.fields:
        return table.fields[name].group
    option = table.described(name)
    return option.group or table.fields[table.parameters[name]].group


def _add_flag(group: Any, table: OptionTable, name: str, defaults: Any) -> None:
    option = table.described(name)
    flag = "--" + name.replace("_", "-")
    default = defaults.get(name, option.default)
    shown = isinstance(default, str | int | float) and not isinstance(default, bool)
    text = table.help(name)
    common: dict[str, Any] = {"dest": name, "help": (f"{text} [{default}]" if shown else text).replace("%", "%%")}
    kinds = alternatives(option.annotation)
    if is_flag(option.annotation):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif tuple in kinds:
        group.add_argument(flag, action="append", metavar=_metavar(option), **common)
    elif list in kinds and str not in kinds:
        group.add_argument(flag, nargs="+", metavar=_metavar(option), **common)
    else:
        group.add_argument(flag, metavar=_metavar(option), **common)


def _metavar(option: OptionField) -> str:
    if option.choices:
        return "{" + ",".join(option.choices) + "}"
    kinds = alternatives(option.annotation)
    return "X" if float in kinds else "N" if int in kinds else "TEXT"


def _normal(table: OptionTable, argv: Sequence[str]) -> tuple[list[str], set[str]]:
    """Normalize the spelling of a command line: `--max_length=3` becomes `--max-length=3`, negative numbers are joined
    to their flags, and Boolean flags, which may carry a value as in Transformers (`--bf16 true`), lose it.

    Returns:
        The arguments, and the names of Boolean options that are set to none.
    """
    arguments = list(argv)
    normal: list[str] = []
    unset: set[str] = set()
    while arguments:
        argument = arguments.pop(0)
        if not argument.startswith("--"):
            normal.append(argument)
            continue
        flag, equals, value = argument.partition("=")
        flag = flag.replace("_", "-")
        name = flag.removeprefix("--").replace("-", "_")
        if name in table and is_flag(table.described(name).annotation):
            if not equals and arguments and not arguments[0].startswith("-"):
                equals, value = "=", arguments.pop(0)
            unset.discard(name)
            if equals and value.lower() == "none" and type(None) in alternatives(table.described(name).annotation):
                unset.add(name)
                continue
            if equals and value.lower() not in TRUTH:
                raise InputError(f"{flag} is {value!r}; expected true or false")
            normal.append(f"--no-{flag[2:]}" if equals and not TRUTH[value.lower()] else flag)
        elif not equals and arguments and _is_negative(arguments[0]):
            normal.append(f"{flag}={arguments.pop(0)}")
        else:
            normal.append(flag + equals + value)
    return normal, unset


def _is_negative(argument: str) -> bool:
    """Return True for a negative number; argparse knows `-1`, but takes `-1e-4` and `-inf` for options."""
    try:
        float(argument)
    except ValueError:
        return False
    return argument.startswith("-")
