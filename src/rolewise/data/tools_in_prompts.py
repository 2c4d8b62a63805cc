"""Tools that a prompt tells of in a notation of its own, taken out of it: Seal-Tools, OpenFunctions, ToolACE.

Such prompts also say how calls are to be written. A policy that is to write them otherwise must not be told so.
"""

import ast
import re
from dataclasses import replace
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.json_text import read_json
from rolewise.data.tool_calls import calls_to_openai, parse_response

_SEAL_TOOLS = re.compile(r'\napi_list = (?P<tools>\[.*\])\ntask_instruction = "(?P<query>.*)"\nOutput:\s*\Z', re.DOTALL)
_OPEN_FUNCTIONS = re.compile(
    r"\nQuestion: (?P<query>.*?)\n+Function to be used: (?P<name>\S+)\n+Description: (?P<description>.*?)\n+"
    r"Parameters:[ \n]*(?P<parameters>.*?)(?:\nRequired: \[(?P<required>.*?)\])?\s*(?:\nFormat your response.*)?\Z",
    re.DOTALL,
)
_OPEN_FUNCTIONS_PARAMETER = re.compile(r"^\d+\. (?P<name>\S+) - (?P<description>.*)$", re.MULTILINE)
_TOOLACE = re.compile(
    r"(?P<task>.*?)(?:You should only return the function calls? in [^\n]*)?\n"
    r"Here is a list of functions in JSON format that you can invoke:\s*(?P<tools>\[.*\])\.?\s*\n"
    r"Should you decide to return the function call\(s\)\..*\Z",
    re.DOTALL,
)


def with_tools_apart(conversation: Conversation, call_format: str) -> Conversation:
    """A conversation whose first message is one of these sets' as one with tools; any other as it is.

    Seal-Tools and OpenFunctions have one user message, which becomes the query. ToolACE has a system message, which
    keeps the task alone, and calls in Python's notation in earlier turns, which become tool calls.

    Args:
        conversation: as it was read.
        call_format: of the responses that are to be sampled; a set that asks for just this stays as it is.

    Raises:
        InputError: for tools that can't be read.
    """
    messages = conversation.messages
    if conversation.tools or not messages:
        return conversation
    text = str(messages[0]["content"])
    if messages[0]["role"] == "system" and call_format != "python" and (match := _TOOLACE.match(text)):
        system = [{"role": "system", "content": match["task"].strip()}] if match["task"].strip() else []
        rest = [*system, *map(_with_calls, messages[1:])]
        tools = _toolace_tools(match["tools"], conversation.source)
        return replace(conversation, messages=rest, tools=tools, role_spans=None)
    if messages[0]["role"] != "user":
        return conversation
    found: tuple[str, list[dict[str, Any]]] | None = None
    if match := _SEAL_TOOLS.search(text):
        found = match["query"], _seal_tools(match["tools"], conversation.source)
    elif match := _OPEN_FUNCTIONS.search(text):
        found = match["query"].strip(), [_open_function(match)]
    if found is None:
        return conversation
    query, tools = found
    rest = [{"role": "user", "content": query}, *messages[1:]]
    return replace(conversation, messages=rest, tools=tools, role_spans=None)


def _seal_tools(text: str, source: str) -> list[dict[str, Any]]:
    try:
        entries = ast.literal_eval(text)
        return [
            _schema(entry["api_name"], entry.get("api_description", ""), entry["parameters"], entry.get("required", []))
            for entry in entries
        ]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{source}: message 1: `api_list` can't be read: {error}") from error


def _open_function(match: re.Match[str]) -> dict[str, Any]:
    parameters = {
        found["name"].rstrip(":"): {"description": found["description"].strip()}
        for found in _OPEN_FUNCTIONS_PARAMETER.finditer(match["parameters"])
    }
    required = [name.strip() for name in (match["required"] or "").split(",") if name.strip() in parameters]
    return _schema(match["name"], match["description"].strip(), parameters, required)


def _schema(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _toolace_tools(text: str, source: str) -> list[dict[str, Any]]:
    try:
        entries = read_json(text)
        return [_toolace_tool(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{source}: message 1: the list of functions can't be read: {error}") from error


def _toolace_tool(entry: dict[str, Any]) -> dict[str, Any]:
    parameters = entry.get("parameters") or {}
    return _schema(
        entry["name"],
        entry.get("description", ""),
        parameters.get("properties", {}),
        parameters.get("required") or entry.get("required") or [],
    )


def _with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """An assistant's message that is nothing but a list of calls in Python's notation, with tool calls instead."""
    content = str(message.get("content") or "").strip()
    if message["role"] != "assistant" or message.get("tool_calls") or not content.startswith("["):
        return message
    calls = parse_response(content, "python").calls
    if not calls or not all(call.valid for call in calls) or not content.endswith("]"):
        return message
    return {**message, "content": "", "tool_calls": calls_to_openai(calls)}
