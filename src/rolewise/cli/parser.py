"""Options dataclasses on the command line: `--config file.yaml`, any field also as a flag, flags win."""

import argparse
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from rolewise.core.errors import InputError
from rolewise.core.limits import read_yaml

T = TypeVar("T")
Extra = Callable[[list[str]], tuple[Any, list[str]]]


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
"""What other tools call an option, and what it is called here."""


class UnknownOption(InputError):
    """An option that a command does not have.

    Attributes:
        name: with underscores.
        what: the message without what the user may have meant.
        is_translated: whether the message says what another tool's name for an option is here.
    """

    def __init__(self, what: str, name: str, hint: str, *, is_translated: bool) -> None:
        super().__init__(f"{what} is not known; {hint}")
        self.name, self.what, self.is_translated = name, f"{what} is not known", is_translated


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, as `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def build_parser(prog: str, description: str, options: type, epilog: str = "") -> Parser:
    """A parser with a flag per field of a dataclass whose fields were made by `rolewise.core.options`."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options]",
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        title = field.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title))
        _add_flag(group, field, typing.get_type_hints(options)[field.name])
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE", help="YAML file with any of these options; flags win over it.")
    general.add_argument("-h", "--help", action="help", help="Show this text.")
    return parser


def parse(
    parser: Parser, options: type[T], argv: Sequence[str], *, other_names: Iterable[str] = ()
) -> tuple[T, list[str]]:
    """Options from the command line and its `--config` file, and what of either belongs to others.

    Args:
        parser: of `build_parser`.
        options: the dataclass.
        argv: the command line.
        other_names: option names that somebody else understands; they come back as flags.

    Raises:
        InputError: for an option that nobody understands (with the nearest one), or a value that does not fit.
    """
    argv = [_dashed(argument) for argument in argv]
    config = _config_file(argv)
    own = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]  # a dataclass
    others = set(other_names)
    from_file: list[str] = []
    hints = typing.get_type_hints(options)
    for key, value in _read_config(config).items() if config else ():
        name = str(key).replace("-", "_")
        if name not in own and name not in others:
            raise _unknown(f"{config}: option {key!r}", name, [*own, *others])
        flag = f"--{name.replace('_', '-')}"
        if name in own and _is_repeatable(hints[name]) and any(argument.split("=")[0] == flag for argument in argv):
            continue  # such flags add up, but the command line's are to replace the file's
        try:
            flags = _as_flags(name, value, hints.get(name) if name in own else None)
            parser.parse_known_args(flags)
        except InputError as error:
            raise InputError(f"{config}: {error}") from error
        from_file += flags
    known, rest = parser.parse_known_args([*from_file, *argv])
    for argument in rest:
        name = argument.lstrip("-").split("=")[0].replace("-", "_")
        if argument.startswith("--") and name not in others:
            raise _unknown(f"option {argument.split('=')[0]}", name, [*own, "config", *others], "--")
        if not others:
            raise InputError(f"{argument!r} is not an option; see --help")
    values = {name: value for name, value in vars(known).items() if name in own}
    values.update({name: tuple(values[name] or ()) for name in own if _is_repeatable(hints[name])})
    missing = [f"--{name.replace('_', '-')}" for name, value in values.items() if value in (dataclasses.MISSING, "")]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}; see --help")
    return options(**values), rest


def _add_flag(group: Any, field: "dataclasses.Field[Any]", annotation: Any) -> None:
    flag = "--" + field.name.replace("_", "-")
    text = field.metadata["help"]
    if _is_repeatable(annotation):
        group.add_argument(flag, dest=field.name, action="append", metavar="TEXT", help=text)
        return
    kind, optional = _kind(annotation)
    shown = kind is not bool and field.default not in (None, dataclasses.MISSING)
    help_text = (f"{text} [{field.default}]" if shown else text).replace("%", "%%")
    common: dict[str, Any] = {"dest": field.name, "default": field.default, "help": help_text}
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        return
    choices = field.metadata["choices"]
    metavar = "{" + ",".join(choices) + "}" if choices else {int: "N", float: "X"}.get(kind, "TEXT")
    group.add_argument(flag, type=_reader(kind, optional), metavar=metavar, **common)


def _is_repeatable(annotation: Any) -> bool:
    """Whether an option may be given several times: a `tuple[str, ...]`."""
    return typing.get_origin(annotation) is tuple


def _kind(annotation: Any) -> tuple[type, bool]:
    if isinstance(annotation, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return kinds[0], True
    return annotation, False


def _reader(kind: type, optional: bool) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if optional and text.lower() in ("none", "null"):
            return None
        return kind(text)

    read.__name__ = kind.__name__  # argparse names it: "invalid int value"
    return read


def _dashed(argument: str) -> str:
    """`--max_length=3` as `--max-length=3`: both spellings are known from neighbouring tools."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _config_file(argv: Sequence[str]) -> str | None:
    finder = Parser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    found: str | None = finder.parse_known_args(argv)[0].config
    return found


def _read_config(path: str) -> dict[str, Any]:
    content = read_yaml(path, "config file")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `option: value` lines, found a {type(content).__name__}")
    return content


def _as_flags(name: str, value: Any, annotation: Any) -> list[str]:
    """A YAML value as the flags that would give it, so that both go through the same checks.

    `annotation` is None for an option of others.
    """
    flag = "--" + name.replace("_", "-")
    if _is_repeatable(annotation):
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise InputError(f"{name} is {value!r}; expected text, or a list of texts")
        return [f"{flag}={entry}" for entry in entries]
    kind, optional = _kind(annotation) if annotation is not None else (None, True)
    if value is not None and kind is not None and (kind is bool) != isinstance(value, bool):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
        raise InputError(f"{name} is {value!r}; expected {expected}")
    if isinstance(value, bool):
        if kind is None:
            return [f"{flag}={str(value).lower()}"]
        return [flag if value else f"--no-{flag[2:]}"]
    if value is None:
        if not optional:
            raise InputError(f"{name} has no value; give one, or leave the line out")
        return [f"{flag}=none"] if kind is not None else []
    if isinstance(value, list) and kind is None:
        return [flag, *map(str, value)]
    if isinstance(value, dict | list):
        return [f"{flag}={json.dumps(value)}"]
    return [f"{flag}={value}"]


def _unknown(what: str, name: str, known: Iterable[str], prefix: str = "") -> UnknownOption:
    known = list(known)
    is_translated = NEIGHBOURS.get(name) in known
    near = [NEIGHBOURS[name]] if is_translated else difflib.get_close_matches(name, known, n=1)
    shown = prefix + (near[0].replace("_", "-") if prefix else near[0]) if near else ""
    return UnknownOption(what, name, f"did you mean {shown}?" if near else "see --help", is_translated=is_translated)
