"""Tools, calls and results written as plain text, for chat templates that do not support them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.tool_calls import CALL_FORMATS, ParsedCall

Json = dict[str, Any]


@dataclass(frozen=True)
class ToolFormat:
    """One way to write tools as text.

    Attributes:
        name: value for `--tool-format`.
        tools: JSON schemas of the tools → a passage for the system prompt.
        calls: functions of `tool_calls`, each `{"name": str, "arguments": dict}` → text that follows the content.
        result: a tool's result → the text of a user message, for templates without a role `tool`.
    """

    name: str
    tools: Callable[[Sequence[Json]], str]
    calls: Callable[[Sequence[Json]], str]
    result: Callable[[str], str]


def tool_format(name: str) -> ToolFormat:
    """Return the format called `name`.

    Raises:
        InputError: for an unknown name.
    """
    if name not in TOOL_FORMATS:
        raise InputError(f"unknown tool format {name!r}; choose one of {', '.join(TOOL_FORMATS)}")
    return TOOL_FORMATS[name]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _function(tool: Json) -> Json:
    """Return the function's own schema, without OpenAI's `{"type": "function", "function": …}` around it, if any."""
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _numbered(tools: Sequence[Json]) -> str:
    entries = []
    for number, function in enumerate(map(_function, tools), start=1):
        entries.append(
            f"{number}. Name: {function.get('name', '')}\n"
            f"Description: {function.get('description') or ''}\n"
            f"Parameters: {_json(function.get('parameters') or {})}"
        )
    return "\n".join(entries)


def _hermes_tools(tools: Sequence[Json]) -> str:
    schemas = "\n".join(map(_json, tools))
    return (
        "These functions can be called to answer the user; their JSON schemas stand between the tags:\n"
        f"<tools>\n{schemas}\n</tools>\n\n"
        "Write each call as a JSON object between tags of its own:\n"
        '<tool_call>\n{"name": "function name", "arguments": {"argument name": "value"}}\n</tool_call>'
    )


def _rlla_tools(tools: Sequence[Json]) -> str:
    return (
        f"**Available Tools**\n{_numbered(tools)}\n\n"
        "Write all calls of a turn, one JSON object a line, between one pair of tags:\n"
        '<tool_call>\n{"name": "tool name", "parameters": {"parameter name": "value"}}\n</tool_call>'
    )


def _react_tools(tools: Sequence[Json]) -> str:
    return (
        f"These tools can be used:\n{_numbered(tools)}\n\n"
        "Write a call as two lines; the tool answers in an observation:\n"
        'Action: tool name\nAction Input: {"parameter name": "value"}'
    )


def _calls(format_name: str) -> Callable[[Sequence[Json]], str]:
    """Return the writer of a tool-call format; it writes the data's arguments unchecked."""
    write = CALL_FORMATS[format_name].write
    return lambda calls: write([ParsedCall(call["name"], call["arguments"]) for call in calls])


TOOL_FORMATS = {
    entry.name: entry
    for entry in (
        # The tags of the Hermes models (NousResearch), which occur in most open models' training data.
        ToolFormat(
            "hermes", _hermes_tools, _calls("hermes"), lambda text: f"<tool_response>\n{text}\n</tool_response>"
        ),
        # ToolRL's data (arXiv 2504.13958, appendix): `parameters` instead of `arguments`, one pair of tags per turn.
        ToolFormat("rlla", _rlla_tools, _calls("rlla"), lambda text: f"<obs> {text} </obs>"),
        # ReAct (arXiv 2210.03629) with ToolBench's JSON action input.
        ToolFormat("react", _react_tools, _calls("react"), lambda text: f"Observation: {text}"),
    )
}
DEFAULT_TOOL_FORMAT = "hermes"
