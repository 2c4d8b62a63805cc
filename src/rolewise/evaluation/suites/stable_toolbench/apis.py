"""ToolBench's APIs as in StableToolBench: their names and schemas, and the source of answers to calls.

Names, schemas and the cache's layout follow zhichengg/StableToolBench (`toolbench/inference/Downstream_tasks/
rapidapi_multithread.py` and `server/main.py`, commit 69d3145a756b52fd80c5b936d755a648cd81462f). Its server also asks
the real APIs before it simulates them; most no longer exist, and they would make results depend on the day, so they
are not asked here. The simulator's prompt is our own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json
from rolewise.core.limits import parse_json
from rolewise.data.strict_json import read_json
from rolewise.data.tools_in_prompts import function_schema
from rolewise.engines.chat import Chat

Json = dict[str, Any]
AnsweredBy = Literal["cache", "simulator", "nobody"]

CACHE_FOLDER = "tool_response_cache"
TOOLS_FOLDER = "tools"

_NAME_LENGTH = 64
_DESCRIPTION_LENGTH = 256
_TOOL_DESCRIPTION_LENGTH = 512
_EXAMPLES = 5
_EXAMPLES_LENGTH = 2048
_TYPES = {"NUMBER": "integer", "STRING": "string", "BOOLEAN": "boolean"}
_PYTHON_WORDS = {"from", "class", "return", "false", "true", "id", "and"}
_SIMULATOR_TEMPERATURES = (0.0, 0.5, 1.0)
"""Temperatures of successive attempts until a reply is JSON; the first attempt is deterministic."""

_SIMULATOR_PROMPT = """\
You stand in for a web API. You are given its documentation, some calls to it with its answers, and a new call. Write \
the answer that the API would give.

Answer with one JSON object and nothing else:
{"error": "", "response": <what the API returns>}

- Leave "error" empty unless the call is one that the API would refuse.
- Make the response fit the call's input and the documentation, concrete and plausible, about 100 to 200 words.
- Use the examples for their form. Where they are errors or empty, go by the documentation alone."""


@dataclass(frozen=True)
class Api:
    """One API of a query.

    Attributes:
        function: name by which the model calls it.
        category, tool, name: its path in cache and documentation.
        record: its entry in the query's file.
    """

    function: str
    category: str
    tool: str
    name: str
    record: Json

    @classmethod
    def from_record(cls, record: Json) -> "Api":
        """Return the API of an entry of a query's `api_list`."""
        tool = standard_name(str(record["tool_name"]))
        name = python_name(str(record["api_name"]))
        category = standard_category(str(record["category_name"]))
        return cls(f"{name}_for_{tool}"[-_NAME_LENGTH:], category, tool, name, record)

    def schema(self) -> Json:
        """Return its function in OpenAI's format."""
        described = str(self.record.get("api_description") or "").strip()
        described = described.replace(str(self.record["api_name"]), self.function)[:_DESCRIPTION_LENGTH]
        text = f"A function of the tool {self.tool}." + (f" {described}" if described else "")
        required = self.record.get("required_parameters") or []
        optional = self.record.get("optional_parameters") or []
        properties = {python_name(str(parameter["name"])): _property(parameter) for parameter in [*required, *optional]}
        names = [python_name(str(parameter["name"])) for parameter in required]
        return function_schema(self.function, text, properties, names)


@dataclass(frozen=True)
class ApiAnswer:
    """Outcome of a call: the API's answer, in the server's form `{"error": …, "response": …}`, and its source."""

    content: Json
    answered_by: AnsweredBy


class ApiBackend:
    """Backend that answers calls from StableToolBench's cache, else by a simulator, else with an error.

    Args:
        folder: folder with `tool_response_cache` and `tools` in StableToolBench's layout; None if there is none.
        simulator: model that simulates calls missing from the cache; None for none.
        store: folder for simulated answers, so that a call has one answer in all runs.
    """

    def __init__(self, folder: Path | None, simulator: Chat | None, store: Path) -> None:
        self._folder = folder
        self._simulator = simulator
        self._store = store / digest(simulator.describe()) if simulator else store

    def call(self, api: Api, arguments: Json) -> ApiAnswer:
        """Return the answer to one call.

        Raises:
            InputError: if a file of the cache can't be read.
            EngineError: if the simulator can't be asked.
        """
        cached = self._cached(api)
        answer = cached.get(str(arguments))  # the format of the cache's keys
        if isinstance(answer, dict):
            return ApiAnswer(answer, "cache")
        if self._simulator is None:
            return ApiAnswer({"error": "This API is not available now.", "response": ""}, "nobody")
        return self._simulated(self._simulator, api, arguments, cached)

    def tool_description(self, api: Api) -> str:
        """Return the tool's description from its documentation; "None" if there is none."""
        text = str(self._read(f"{TOOLS_FOLDER}/{api.category}/{api.tool}.json").get("tool_description") or "")
        return text[:_TOOL_DESCRIPTION_LENGTH].replace("\n", "").strip() or "None"

    def _cached(self, api: Api) -> Json:
        # The server cuts API names there, because functions are called `api_for_tool`.
        name = api.name.split("_for_")[0]
        return self._read(f"{CACHE_FOLDER}/{api.category}/{api.tool}_for_{api.category}/{name}.json")

    def _read(self, path: str) -> Json:
        return {} if self._folder is None else _read_object(self._folder / path)

    def _simulated(self, simulator: Chat, api: Api, arguments: Json, cached: Json) -> ApiAnswer:
        kept = self._store / api.category / api.tool / api.name / f"{digest(arguments)}.json"
        if known := _read_object(kept):
            return ApiAnswer(known, "simulator")
        documentation = {
            "tool_description": self.tool_description(api),
            "api": {key: value for key, value in api.record.items() if key not in ("category_name", "method")},
        }
        question = (
            f"Documentation: {json.dumps(documentation, ensure_ascii=False)}\n"
            f"Examples: {_examples(cached)}\n"
            f"Call: {json.dumps(arguments, ensure_ascii=False)}"
        )
        messages = [{"role": "system", "content": _SIMULATOR_PROMPT}, {"role": "user", "content": question}]
        for temperature in _SIMULATOR_TEMPERATURES:
            [text] = simulator.ask(messages, temperature=temperature)
            if content := _object_in(text):
                write_json(kept, content)
                return ApiAnswer(content, "simulator")
        return ApiAnswer({"error": "The API gave no answer that can be read.", "response": ""}, "nobody")


def standard_category(category: str) -> str:
    """Return a category as a folder name."""
    return re.sub(r"[ ,/]", "_", category).replace("__", "_")


def standard_name(name: str) -> str:
    """Return a tool's or parameter's name as ToolBench spells it: lower-case letters, digits, single underscores."""
    # The ranges are the server's own, including `^`.
    spelled = re.sub(r"[^\u4e00-\u9fa5^a-zA-Z0-9_]", "_", name)
    spelled = re.sub(r"__+", "_", spelled).lower().strip("_")
    return f"get_{spelled}" if spelled[:1].isdigit() else spelled


def python_name(name: str) -> str:
    """Return a name that is not a Python keyword, as ToolBench's functions require."""
    spelled = standard_name(name)
    return f"is_{spelled}" if spelled in _PYTHON_WORDS else spelled


def _property(parameter: Mapping[str, Any]) -> Json:
    described: Json = {
        "type": _TYPES.get(str(parameter.get("type")), "string"),
        "description": str(parameter.get("description") or "")[:_DESCRIPTION_LENGTH],
    }
    default = parameter.get("default")
    return described if default is None or str(default) == "" else {**described, "example_value": default}


def _examples(cached: Json) -> str:
    """Return as many cached calls, with their answers, as fit."""
    number = _EXAMPLES
    entries = list(cached.items())
    while len(text := json.dumps(entries[:number], ensure_ascii=False)) > _EXAMPLES_LENGTH and number > 1:
        number -= 1
    return text[:_EXAMPLES_LENGTH]


def _object_in(text: str) -> Json | None:
    """Return the JSON object that a simulator wrote, with or without a fence around it; None for anything else."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = read_json(text[start : end + 1])
    except ValueError:
        return None
    if not isinstance(value, dict) or not value:
        return None
    return value if "response" in value else {"error": "", "response": value}


def _read_object(path: Path) -> Json:
    """Return the JSON object in a file; empty if the file does not exist."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: can't be read as JSON: {error}; fix or remove it") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object; fix or remove it")
    return value
