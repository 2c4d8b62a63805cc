"""The functions that NexusRaven's questions offer: how they are read, shown to a model, and bound to a call."""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.core.limits import parse_json
from rolewise.data.tools_in_prompts import function_schema

_JSON_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "list": "array", "dict": "object"}


@dataclass(frozen=True)
class Parameter:
    """A function's parameter; `default` applies only if it is not required, `kind` is empty without a type."""

    name: str
    kind: str
    is_required: bool
    default: Any = None


@dataclass(frozen=True)
class Function:
    """A function that a question offers.

    Attributes:
        name: name in calls.
        doc: docstring.
        parameters: parameters in the order of positional arguments.
        truncates: True if all its numbers are truncated to integers, including positional ones and defaults; False if
            only keyword arguments are.
    """

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    truncates: bool = False

    def bind(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every parameter in a call.

        Raises:
            TypeError: with the reason, for a call that Python would refuse.
        """
        names = [parameter.name for parameter in self.parameters]
        if len(positional) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} arguments, but {len(positional)} are given")
        values = dict(zip(names, positional, strict=False))
        for name, value in keywords.items():
            if name not in names:
                raise TypeError(f"{self.name} has no argument {name}")
            if name in values:
                raise TypeError(f"{self.name} is given {name} twice")
            values[name] = _truncated(value)
        for parameter in self.parameters:
            if parameter.name not in values:
                if parameter.is_required:
                    raise TypeError(f"{self.name} lacks the argument {parameter.name}")
                values[parameter.name] = parameter.default
        return {name: _truncated(value) for name, value in values.items()} if self.truncates else values

    def source(self) -> str:
        """Return its definition without a body."""
        parameters = ", ".join(
            parameter.name
            + (f": {parameter.kind}" if parameter.kind else "")
            + ("" if parameter.is_required else f" = {parameter.default!r}")
            for parameter in self.parameters
        )
        return f'def {self.name}({parameters}):\n    """{self.doc}"""'

    def schema(self) -> dict[str, Any]:
        """Return its schema in OpenAI's format, for a chat template."""
        properties = {
            parameter.name: {"type": _JSON_TYPES[parameter.kind]} if parameter.kind in _JSON_TYPES else {}
            for parameter in self.parameters
        }
        required = [parameter.name for parameter in self.parameters if parameter.is_required]
        return function_schema(self.name, self.doc.strip(), properties, required)


def function_of_row(row: Mapping[str, Any]) -> Function:
    """Return a function from its row of `standardized_api_list`."""
    parameters = [
        Parameter(
            name=entry["name"],
            kind="" if entry["type"] == "None" else entry["type"],
            is_required=entry["required"],
            default=None if entry["required"] else _default(entry["default"]),
        )
        for entry in row["args_dicts"]
    ]
    # Like `build_functions`, because Python requires parameters without a default first.
    parameters.sort(key=lambda parameter: not parameter.is_required)
    return Function(row["name"], row["description"], tuple(parameters))


def function_of_source(source: str) -> Function:
    """Return a function from its definition, which is parsed but not executed."""
    definition = ast.parse(source).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise ValueError("it does not define a function")
    arguments = definition.args.args
    defaults = definition.args.defaults
    without = len(arguments) - len(defaults)
    parameters = tuple(
        Parameter(
            name=argument.arg,
            kind=ast.unparse(argument.annotation) if argument.annotation else "",
            is_required=number < without,
            default=None if number < without else _literal(defaults[number - without]),
        )
        for number, argument in enumerate(arguments)
    )
    return Function(definition.name, ast.get_docstring(definition) or "", parameters, truncates=True)


def by_position(arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Split arguments into positional ones, which parsed calls hold under "0", "1" …, and keyword arguments."""
    positional = [arguments[str(number)] for number in range(len(arguments)) if str(number) in arguments]
    return positional, {name: value for name, value in arguments.items() if not name.isdigit()}


def _default(written: Any) -> Any:
    """Return a default value, which is written as Python or, after `JSON:`, as JSON."""
    if not isinstance(written, str):
        return written
    return parse_json(written[5:]) if written.startswith("JSON:") else _literal(ast.parse(written, mode="eval").body)


def _literal(node: ast.expr) -> Any:
    """Return a literal's value, or the text of any other expression, such as the unquoted dates of some functions."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _truncated(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value
