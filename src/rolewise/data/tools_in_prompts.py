"""Tools that a prompt describes in its own notation, extracted from it: Seal-Tools, OpenFunctions, ToolACE.

Such prompts also prescribe the notation of calls. A policy that must use another notation must not read that.
"""

import ast
import re
from dataclasses import replace
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.strict_json import read_json
from rolewise.data.tool_calls import calls_to_openai, parse_response

# Plain searches split the text: patterns with several `.*` take time cubic in the length of a hostile text.
_SEAL_HEAD, _SEAL_QUERY, _SEAL_END = "\napi_list = [", ']\ntask_instruction = "', '"\nOutput:'
_OPEN_HEADS = ("\nQuestion: ", "\nFunction to be used: ", "\nDescription: ", "\nParameters:")
_TOOLACE_HEAD = "\nHere is a list of functions in JSON format that you can invoke:"
_TOOLACE_FORM = "You should only return the function call"
_TOOLACE_END = "\nShould you decide to return the function call(s)."
_OPEN_FUNCTIONS_PARAMETER = re.compile(r"^\d+\. (?P<name>\S+) - (?P<description>.*)$", re.MULTILINE)


def with_tools_apart(conversation: Conversation, call_format: str) -> Conversation:
    """Return a conversation with its tools extracted if its first message is of one of these sets, else unchanged.

    Seal-Tools and OpenFunctions have one user message, which becomes the query. ToolACE has a system message, which
    keeps only the task, and calls in Python's notation in earlier turns, which become tool calls.

    Args:
        conversation: the conversation as read.
        call_format: call format of the responses to sample; a set that prescribes this format stays unchanged.

    Raises:
        InputError: for unreadable tools.
    """
    messages = conversation.messages
    if conversation.tools or not messages:
        return conversation
    text = str(messages[0]["content"])
    if messages[0]["role"] == "system" and call_format != "python" and (toolace := _toolace_parts(text)):
        task, listed = toolace
        system = [{"role": "system", "content": task}] if task else []
        rest = [*system, *map(_with_calls, messages[1:])]
        tools = _toolace_tools(listed, conversation.source)
        return replace(conversation, messages=rest, tools=tools, role_spans=None)
    if messages[0]["role"] != "user":
        return conversation
    found: tuple[str, list[dict[str, Any]]] | None = None
    if seal := _seal_parts(text):
        found = seal[0], _seal_tools(seal[1], conversation.source)
    elif parts := _open_parts(text):
        found = parts["query"].strip(), [_open_function(parts)]
    if found is None:
        return conversation
    query, tools = found
    rest = [{"role": "user", "content": query}, *messages[1:]]
    return replace(conversation, messages=rest, tools=tools, role_spans=None)


def _seal_parts(text: str) -> tuple[str, str] | None:
    """Return the query and the list of tools of a Seal-Tools prompt."""
    body = text.rstrip()
    head, query = body.find(_SEAL_HEAD), body.rfind(_SEAL_QUERY)
    if head < 0 or query < head + len(_SEAL_HEAD) or not body.endswith(_SEAL_END):
        return None
    start, end = query + len(_SEAL_QUERY), len(body) - len(_SEAL_END)
    return (body[start:end], body[head + len(_SEAL_HEAD) - 1 : query + 1]) if start <= end else None


def _open_parts(text: str) -> dict[str, str] | None:
    """Return the text under each heading of an OpenFunctions prompt."""
    places: list[int] = []
    position = 0
    for head in _OPEN_HEADS:
        place = text.find(head, position)
        if place < 0:
            return None
        places.append(place)
        position = place + len(head)
    ends = [*places[1:], len(text)]
    query, name, description, rest = (
        text[place + len(head) : end] for place, head, end in zip(places, _OPEN_HEADS, ends, strict=True)
    )
    name = name.strip()
    if not name or any(character.isspace() for character in name):
        return None
    rest = rest.partition("\nFormat your response")[0].rstrip()
    parameters, _, required = rest.partition("\nRequired: [")
    parts = {"query": query, "name": name, "description": description, "required": required.removesuffix("]")}
    return parts | {"parameters": parameters.lstrip(" \n")}


def _toolace_parts(text: str) -> tuple[str, str] | None:
    """Return the task and the list of tools of a ToolACE prompt."""
    head, end = text.find(_TOOLACE_HEAD), text.rfind(_TOOLACE_END)
    if head < 0 or end < head:
        return None
    tools = text[head + len(_TOOLACE_HEAD) : end].strip().removesuffix(".")
    if not (tools.startswith("[") and tools.endswith("]")):
        return None
    last_line = text.rfind("\n", 0, head) + 1
    form = text.find(_TOOLACE_FORM, last_line, head)
    return text[: form if form >= 0 else head].strip(), tools


def _seal_tools(text: str, source: str) -> list[dict[str, Any]]:
    try:
        entries = ast.literal_eval(text)
        return [
            function_schema(
                entry["api_name"], entry.get("api_description", ""), entry["parameters"], entry.get("required", [])
            )
            for entry in entries
        ]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{source}: message 1: `api_list` can't be read: {error}") from error


def _open_function(match: dict[str, str]) -> dict[str, Any]:
    parameters = {
        found["name"].rstrip(":"): {"description": found["description"].strip()}
        for found in _OPEN_FUNCTIONS_PARAMETER.finditer(match["parameters"])
    }
    required = [name.strip() for name in match["required"].split(",") if name.strip() in parameters]
    return function_schema(match["name"], match["description"].strip(), parameters, required)


def function_schema(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Return a function's schema in OpenAI's format."""
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
    return function_schema(
        entry["name"],
        entry.get("description", ""),
        parameters.get("properties", {}),
        parameters.get("required") or entry.get("required") or [],
    )


def _with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """Convert an assistant's message that is only a list of calls in Python's notation to one with tool calls."""
    content = str(message.get("content") or "").strip()
    if message["role"] != "assistant" or message.get("tool_calls") or not content.startswith("["):
        return message
    calls = parse_response(content, "python").calls
    if not calls or not all(call.valid for call in calls) or not content.endswith("]"):
        return message
    return {**message, "content": "", "tool_calls": calls_to_openai(calls)}
