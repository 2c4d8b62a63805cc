"""NexusRaven's API evaluation: a question and some Python functions, to be answered by one call.

Data: the hub's `Nexusflow/NexusRaven_API_evaluation`, at a pinned commit; its `standardized_queries` and
`standardized_api_list`, and ToolLLM's questions from `raw_queries`. The rule is that of `raven/eval/evaluator.py` and
`raven/utils.py` in nexusflowai/NexusRaven at commit f32882763bb3e220722883821919c14abdd3d156: the call is right if it
names the reference's function and, with defaults filled in, gives every argument the same value. There the functions
are executed; here calls and definitions are only parsed. JSON's `true` and `null`, and tuples for lists, are also
accepted. The prompt is our own. Untested on the hub's own files, whose SHA-256 was unavailable.
"""

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.data.tool_calls import ParsedCall, parse_response
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import DataFile, find_file
from rolewise.evaluation.suite import Ask, Play, Suite, SuiteSettings

TASKS = ("cve_cpe", "emailrep", "virustotal", "toolalpaca", "toolllm")

_COMMIT = "85c7c326fcfb9c6587daabd9582e7cfaddcc65bd"
_HUB = f"https://huggingface.co/datasets/Nexusflow/NexusRaven_API_evaluation/resolve/{_COMMIT}"
_TABLES = {
    "standardized_queries": "train-00000-of-00001-d684f6975efdea5b.parquet",
    "standardized_api_list": "train-00000-of-00001-16cfa01b84238b38.parquet",
    "raw_queries": "train-00000-of-00001-2a5b5a9af01aeaaa.parquet",
}

_MAX_NEW_TOKENS = 400  # evaluator.py, hf_params
_JSON_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "list": "array", "dict": "object"}

_SYSTEM = """\
You answer questions by calling Python functions. Write one call of the function that fits best and nothing else, its \
arguments by name and as literal values: function_name(argument="value", other=3)

The functions:

{functions}"""


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
        parameters = {"type": "object", "properties": properties, "required": required}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.doc.strip(), "parameters": parameters},
        }


@dataclass(frozen=True)
class Question:
    """A task: the question, the available functions, and the right call."""

    prompt: str
    functions: tuple[Function, ...]
    reference: str
    arguments: dict[str, Any]


def make(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite; tasks follow a colon, as in `nexus:virustotal+toolllm`.

    Raises:
        InputError: for an unknown task.
    """
    tasks = tuple(part for part in name.partition(":")[2].split("+") if part) or TASKS
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise InputError(f"nexus has no task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    return Nexus(settings, tasks)


class Nexus(Suite):
    """NexusRaven's API evaluation; see the module's docstring."""

    name = "nexus"
    title = "Nexus"
    untested = True

    def __init__(self, settings: SuiteSettings, tasks: Sequence[str] = TASKS) -> None:
        self._native_tools = settings.native_tools
        self._tasks = tasks
        self._files = {table: find_file(_data_file(table), settings) for table in _TABLES}

    def examples(self) -> Sequence[Example]:
        """See `Suite`."""
        questions = [
            *_standardized(self._files["standardized_queries"].path, self._files["standardized_api_list"].path),
            *_toolllm(self._files["raw_queries"].path),
        ]
        count = dict.fromkeys(TASKS, 0)
        examples = []
        for task, question in questions:
            number = count.get(task, 0)
            count[task] = number + 1
            if task in self._tasks:
                examples.append(Example(f"{task}/{number}", task, question))
        return examples

    def play(self, example: Example) -> Play:
        """See `Suite`."""
        question: Question = example.data
        if self._native_tools:
            schemas = [function.schema() for function in question.functions]
            messages = [{"role": "user", "content": question.prompt}]
            answer = yield Ask(messages=messages, tools=schemas, max_new_tokens=_MAX_NEW_TOKENS)
        else:
            functions = "\n\n".join(function.source() for function in question.functions)
            system = {"role": "system", "content": _SYSTEM.format(functions=functions)}
            messages = [system, {"role": "user", "content": question.prompt}]
            answer = yield Ask(messages=messages, max_new_tokens=_MAX_NEW_TOKENS)
        if answer.error is not None:
            return Verdict(0.0, answer.error)
        calls = parse_response(answer.text.strip("` \n"), None if self._native_tools else "python").calls
        return judge_call(question, calls[0] if calls else None)

    def version(self) -> dict[str, Any]:
        """See `Suite`."""
        return {"tables": {table: file.identity for table, file in self._files.items()}, "commit": _COMMIT}


def judge_call(question: Question, call: ParsedCall | None) -> Verdict:
    """Judge by the evaluation's rule if a call is the reference's; only the first call of an answer counts."""
    if call is None:
        return Verdict(0.0, "there is no call")
    detail = {"function": call.name, "arguments": call.arguments}
    if call.arguments is None:
        return Verdict(0.0, f"the call can't be read: {call.error}", detail)
    function = next((function for function in question.functions if function.name == call.name), None)
    if function is None:
        return Verdict(0.0, f"there is no function {call.name!r}", detail)
    if function.name != question.reference:
        return Verdict(0.0, f"the function should be {question.reference}", detail)
    try:
        arguments = function.bind(*_by_position(call.arguments))
    except TypeError as error:
        return Verdict(0.0, str(error), detail)
    wrong = [name for name, value in question.arguments.items() if arguments[name] != value]
    if wrong:
        return Verdict(0.0, f"wrong arguments: {', '.join(wrong)}", detail)
    return Verdict(1.0, "", detail)


def _by_position(arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Split arguments into positional ones, which parsed calls hold under "0", "1" …, and keyword arguments."""
    positional = [arguments[str(number)] for number in range(len(arguments)) if str(number) in arguments]
    return positional, {name: value for name, value in arguments.items() if not name.isdigit()}


def _truncated(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


def _data_file(table: str) -> DataFile:
    return DataFile(
        name=f"{table}.parquet",
        url=f"{_HUB}/{table}/{_TABLES[table]}",
        sha256=None,
        local=f"eval_nexus/{table}.parquet",
    )


def _standardized(queries: Path, api_list: Path) -> Iterable[tuple[str, Question]]:
    """Yield task and question of every row of `standardized_queries`."""
    functions: dict[tuple[str, str], Function] = {}
    for number, row in enumerate(_rows(api_list), start=1):
        try:
            function = _function_of_row(row)
            functions[row["dataset"], function.name] = function
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise _bad_row(api_list, number, "function", error) from error
    for number, row in enumerate(_rows(queries), start=1):
        try:
            task = row["dataset"]
            offered = tuple(functions[task, name] for name in row["context_functions"])
            reference = functions[task, row["python_function_name"]]
            arguments = reference.bind((), parse_json(row["python_args_dict"]))
            yield task, Question(row["prompt"], offered, reference.name, arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _bad_row(queries, number, "question", error) from error


def _toolllm(queries: Path) -> Iterable[tuple[str, Question]]:
    """Yield task and question of ToolLLM's rows of `raw_queries`, which include their functions."""
    for number, row in enumerate(_rows(queries), start=1):
        try:
            if row["dataset"] != "toolllm":
                continue
            record = parse_json(row["query_dict"])
            offered = tuple(_function_of_source(source) for source in record["context"])
            [call] = parse_response(record["Output"], "python").calls
            reference = next(function for function in offered if function.name == call.name)
            arguments = reference.bind(*_by_position(call.arguments or {}))
            yield "toolllm", Question(record["Input"], offered, reference.name, arguments)
        except (KeyError, TypeError, ValueError, AttributeError, SyntaxError, StopIteration) as error:
            raise _bad_row(queries, number, "question", error) from error


def _function_of_row(row: Mapping[str, Any]) -> Function:
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


def _function_of_source(source: str) -> Function:
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


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(f"{path}: can't be read as a Parquet table: {reason}; remove it and try again") from error
    return rows


def _bad_row(path: Path, number: int, what: str, error: Exception) -> InputError:
    return InputError(
        f"{path}: row {number} is not a {what} of NexusRaven's evaluation ({type(error).__name__}: {error})"
    )
