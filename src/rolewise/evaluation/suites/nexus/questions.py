"""NexusRaven's questions as they stand in its tables, and the rule by which a call is right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.data.tool_calls import ParsedCall, parse_response
from rolewise.evaluation.examples import Verdict
from rolewise.evaluation.sources import DataFile
from rolewise.evaluation.suites.nexus.functions import Function, by_position, function_of_row, function_of_source

_Row = dict[str, Any]
_Read = TypeVar("_Read")

COMMIT = "85c7c326fcfb9c6587daabd9582e7cfaddcc65bd"
_HUB = f"https://huggingface.co/datasets/Nexusflow/NexusRaven_API_evaluation/resolve/{COMMIT}"
_TABLES = {
    "standardized_queries": "train-00000-of-00001-d684f6975efdea5b.parquet",
    "standardized_api_list": "train-00000-of-00001-16cfa01b84238b38.parquet",
    "raw_queries": "train-00000-of-00001-2a5b5a9af01aeaaa.parquet",
}
DATA_FILES = {
    table: DataFile(
        name=f"{table}.parquet", url=f"{_HUB}/{table}/{name}", sha256=None, local=f"eval_nexus/{table}.parquet"
    )
    for table, name in _TABLES.items()
}


@dataclass(frozen=True)
class Question:
    """A task: the question, the available functions, and the right call."""

    prompt: str
    functions: tuple[Function, ...]
    reference: str
    arguments: dict[str, Any]


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
        arguments = function.bind(*by_position(call.arguments))
    except TypeError as error:
        return Verdict(0.0, str(error), detail)
    wrong = [name for name, value in question.arguments.items() if arguments[name] != value]
    if wrong:
        return Verdict(0.0, f"wrong arguments: {', '.join(wrong)}", detail)
    return Verdict(1.0, "", detail)


def read_questions(tables: Mapping[str, Path]) -> list[tuple[str, Question]]:
    """Return the questions of all tasks, each after its task's name, from the tables of `DATA_FILES`.

    Raises:
        InputError: naming file and row.
    """
    functions: dict[tuple[str, str], Function] = {}

    def keep_function(row: _Row) -> None:
        function = function_of_row(row)
        functions[row["dataset"], function.name] = function

    def standardized(row: _Row) -> tuple[str, Question]:
        task = row["dataset"]
        offered = tuple(functions[task, name] for name in row["context_functions"])
        reference = functions[task, row["python_function_name"]]
        arguments = reference.bind((), parse_json(row["python_args_dict"]))
        return task, Question(row["prompt"], offered, reference.name, arguments)

    _read_rows(tables["standardized_api_list"], "function", keep_function)
    questions = _read_rows(tables["standardized_queries"], "question", standardized)
    return questions + [found for found in _read_rows(tables["raw_queries"], "question", _toolllm) if found]


def _toolllm(row: _Row) -> tuple[str, Question] | None:
    """Return ToolLLM's question in a row of `raw_queries`, which includes its functions; None for other tasks."""
    if row["dataset"] != "toolllm":
        return None
    record = parse_json(row["query_dict"])
    offered = tuple(function_of_source(source) for source in record["context"])
    [call] = parse_response(record["Output"], "python").calls
    reference = next(function for function in offered if function.name == call.name)
    arguments = reference.bind(*by_position(call.arguments or {}))
    return "toolllm", Question(record["Input"], offered, reference.name, arguments)


def _read_rows(path: Path, what: str, read: Callable[[_Row], _Read]) -> list[_Read]:
    try:
        rows: list[_Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(f"{path}: can't be read as a Parquet table: {reason}; remove it and try again") from error
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(read(row))
        except (KeyError, TypeError, ValueError, AttributeError, SyntaxError, StopIteration) as error:
            raise InputError(
                f"{path}: row {number} is not a {what} of NexusRaven's evaluation ({type(error).__name__}: {error})"
            ) from error
    return found
