"""API-Bank (arXiv 2304.08244) as ToolRL prepared it and ResT reports it: one tool call per dialogue, levels 1 to 3.

The prompts are the files' own; they write the tools into the system prompt, so `SuiteSettings.native_tools` has no
effect. The rule is ToolRL's, including its oddities, because published numbers are based on it. Not reproduced: there,
a response that holds an escaped lone surrogate can't be saved and counts as wrong.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.limits import parse_json
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.sources import DataFile, FoundFile, find_file, read_records
from rolewise.evaluation.suite import Ask, Play, Suite, SuiteSettings

_COMMIT = "8cee13ec0ca72f0461da372a93a6fd8140dbb840"
_MAX_NEW_TOKENS = 2048  # ToolRL gives prompt and response 4096 together; the prompts take up to half of that


def _level(number: int, sha256: str, local_sha256: str) -> DataFile:
    name = f"level-{number}-api_processed.json"
    return DataFile(
        name=name,
        url=f"https://raw.githubusercontent.com/qiancheng0/ToolRL/{_COMMIT}/benchmarks/API-Bank/{name}",
        sha256=sha256,
        local=f"eval_apibank/{name}l",
        local_sha256=local_sha256,
    )


_FILES = {
    1: _level(
        1,
        "51ebc8209ba467ce4cc1854d23b2cfd89759f3c45ff2aaf90de4f003162ea98f",
        "6aad7e671db2b52f2cbb6e9f8a6857648704cf8cf6899224227be310bde93be6",
    ),
    2: _level(
        2,
        "75c8097b3127d1f7aec13edb6b7a8428565d753b107f2b1e20daa3d0cfda51db",
        "9b62d4258e8ff6c6ed869753134b90a216826749464494b0cfbf6accde7348a5",
    ),
    3: _level(
        3,
        "57228427976f05725d9cf2f0ab03ac16487efaed67d5a929b28e974b9b27ef05",
        "8f623443879f3d761de3ad36dcdd4b113b282e9a82d5f1e52e151eae4c8df246",
    ),
}


def make(name: str, settings: SuiteSettings) -> "ApiBank":
    """Create the suite `api_bank`.

    Raises:
        InputError: if anything follows the name.
    """
    if name != "api_bank":
        raise InputError(f"suite {name!r}: api_bank takes nothing after its name; all three levels are run")
    return ApiBank(settings)


class ApiBank(Suite):
    """API-Bank, levels 1 to 3; accuracy per level, and over all examples together."""

    name = "api_bank"
    title = "API-Bank"

    def __init__(self, settings: SuiteSettings) -> None:
        self._settings = settings

    @cached_property
    def _files(self) -> dict[int, FoundFile]:
        return {level: find_file(file, self._settings) for level, file in _FILES.items()}

    def examples(self) -> Sequence[Example]:
        return [
            Example(f"Level{level}_{index}", f"level-{level}", _checked(record, f"{file.path}: record {index + 1}"))
            for level, file in self._files.items()
            for index, record in enumerate(read_records(file.path))
        ]

    def version(self) -> dict[str, Any]:
        return {
            "data": {f"level-{level}": file.identity for level, file in self._files.items()},
            "rule": f"ToolRL {_COMMIT}, benchmarks/API-Bank",
        }

    def play(self, example: Example) -> Play:
        record = example.data
        messages = [{"role": "system", "content": record["system"]}, {"role": "user", "content": record["user"]}]
        answer = yield Ask(messages=messages, max_new_tokens=_MAX_NEW_TOKENS)
        lines = call_lines(answer.text)
        right = has_call([json.loads(line) for line in lines], reference_call(record))
        return Verdict(float(right), answer.error or _reason(right, lines), {"lines": lines})

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
        """Write `result.json`, which ToolRL's `evaluate.py` scores."""
        records = {
            example.id: {
                "data": example.data,
                "tool_calls": [json.loads(line) for line in verdict.detail["lines"]],
            }
            for example, verdict in results
        }
        write_json(folder / "result.json", records)


def call_lines(text: str) -> list[str]:
    """Return the lines of a response's last `<tool_call>` block that hold JSON of any kind, skipping others.

    The block ends at `</tool_call>` or with the response. A response without the tag counts as one block.
    """
    block = text.split("<tool_call>")[-1].split("</tool_call>")[0]
    return [line for line in block.strip().split("\n") if _is_json(line)]


def has_call(values: Sequence[Any], reference: dict[str, Any]) -> bool:
    """Return True if one of the values of a block is the reference call, by ToolRL's rule.

    An object must have the reference's `name` and `parameters`, equal as Python values. An object that lacks either
    key is taken as the parameters, and its name counts as right. A string is parsed as JSON once more. Values are
    checked in order, and one that can't be checked in this way (a number, null, a string that is not JSON) ends the
    search: calls after it don't count.
    """
    for value in values:
        try:
            call = parse_json(value) if isinstance(value, str) else value
            if "name" in call and "parameters" in call:
                name, parameters = call["name"], call["parameters"]
            else:
                name, parameters = reference["name"], call
        except (TypeError, ValueError, RecursionError):
            return False
        if name == reference["name"] and parameters == reference["parameters"]:
            return True
    return False


def reference_call(record: dict[str, Any]) -> dict[str, Any]:
    """Return the call that a record expects: its answer, or the first of its answers."""
    answer = record["answer"]
    call: dict[str, Any] = answer[0] if isinstance(answer, list) else answer
    return call


def _is_json(line: str) -> bool:
    try:
        json.loads(line)  # Python's own JSON, including NaN, as in the rule
    except (ValueError, RecursionError):
        return False
    return True


def _reason(right: bool, lines: Sequence[str]) -> str:
    if right:
        return ""
    return "no line equals the reference call" if lines else "no line of JSON where the call should be"


def _checked(record: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the record after checking that it is one of API-Bank's as ToolRL prepared them."""
    texts = all(isinstance(record.get(key), str) for key in ("system", "user"))
    call = reference_call(record) if record.get("answer") else None
    if not texts or not isinstance(call, dict) or not {"name", "parameters"} <= call.keys():
        raise InputError(
            f"{source}: expected system and user texts and an answer with name and parameters; use the files "
            f"benchmarks/API-Bank/level-*-api_processed.json of ToolRL"
        )
    return record
