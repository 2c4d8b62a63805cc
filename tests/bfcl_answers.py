"""BFCL's published answers as what a model would say, and a model that says them."""

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Answer, Ask, Suite
from rolewise.evaluation.suites.bfcl.categories import OTHER_LANGUAGES

DONE = "That is all."


def play(suite: Suite, example: Example, answers: Sequence[str]) -> tuple[Verdict, list[Ask]]:
    """Play a task with a model that gives these answers, one after another, and then says it is done."""
    asks = []
    waiting = iter(answers)
    running = suite.play(example)
    try:
        ask = next(running)
        while True:
            asks.append(ask)
            ask = running.send(Answer([next(waiting, DONE)], []))
    except StopIteration as end:
        return end.value, asks


class PublishedAnswers:
    """The published answers of the unpacked wheel.

    Args:
        data: its folder `bfcl_eval/data`.
        native: write calls in Hermes' format instead of the official prompt's.
        rename: call every function by another name.
    """

    def __init__(self, data: Path, *, native: bool = False, rename: bool = False) -> None:
        self._data = data
        self._native = native
        self._rename = rename
        self._truths: dict[str, list[Any]] = {}
        self._parameters = {
            document["name"]: list(document["parameters"]["properties"])
            for path in (data / "multi_turn_func_doc").glob("*.json")
            for document in _lines(path)
        }

    def of(self, example: Example, index: int) -> list[str]:
        """What to answer to the task at `index` of its category, question by question."""
        name = example.category
        if "relevance" in name:
            return ["[]"] if "irrelevance" in name else [self._written([("any_function", {"a": 1})], name)]
        if name not in self._truths:
            truths = list(_lines(self._data / "possible_answer" / f"BFCL_v4_{name}.json"))
            self._truths[name] = [truth["ground_truth"] for truth in truths]
        truth = self._truths[name][index]
        if "multi_turn" not in name:
            calls = [(function, _chosen(arguments)) for call in truth for function, arguments in call.items()]
            return [self._written(calls, name)]
        answers = []
        for turn in truth:
            # Arguments without names are not read from an answer, so they get theirs.
            answers += [self._written([self._parsed(call) for call in turn], name)] if turn else []
            answers.append(DONE)
        return answers

    def _parsed(self, call: str) -> tuple[str, dict[str, Any]]:
        node = ast.parse(call, mode="eval").body
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        arguments = dict(zip(self._parameters[node.func.id], map(ast.literal_eval, node.args), strict=False))
        arguments |= {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        return node.func.id, arguments

    def _written(self, calls: Sequence[tuple[str, dict[str, Any]]], category: str) -> str:
        named = [(f"{name}_renamed" if self._rename else name, arguments) for name, arguments in calls]
        if self._native:
            if category in OTHER_LANGUAGES:  # values go as the text that would stand in the program
                named = [(name, {key: _program_text(value) for key, value in a.items()}) for name, a in named]
            objects = [{"name": name.replace(".", "_"), "arguments": arguments} for name, arguments in named]
            return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in objects)
        # Java and JavaScript have JSON's literals, but for numbers of some types.
        write = json.dumps if category in OTHER_LANGUAGES else repr
        written = (
            f"{name}({', '.join(f'{key}={write(value)}' for key, value in arguments.items())})"
            for name, arguments in named
        )
        return f"[{', '.join(written)}]"


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _chosen(arguments: dict[str, list[Any]]) -> dict[str, Any]:
    """The first acceptable value of each argument; one that may be left out is.

    In an object, and in a list's objects, every entry has acceptable values of its own; further inside it has not.
    """
    chosen = {}
    for name, values in arguments.items():
        if not values or values[0] == "":
            continue
        value = values[0]
        if isinstance(value, dict):
            value = _entries(value)
        elif isinstance(value, list):
            value = [_entries(element) if isinstance(element, dict) else element for element in value]
        chosen[name] = value
    return chosen


def _entries(entries: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values[0] for name, values in entries.items() if values and values[0] != ""}


def _program_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
