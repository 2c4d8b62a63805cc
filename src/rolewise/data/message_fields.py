"""The fields of a message in the `messages` format, checked and brought into one shape."""

import json
import re
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair: legal in a Python string, but neither UTF-8 nor a tokenizer can take it."""

ROLE_BY_LABEL = {role.label: role for role in Role}
OTHER_TEXT_FIELDS = ("reasoning_content", "reasoning", "thinking", "function_call")


def without_surrogates(value: Any) -> Any:
    """A JSON value with each lone surrogate in its strings replaced by U+FFFD; lengths stay."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def read_content(message: dict[str, Any], where: str) -> str | None:
    """The message's text; a list of text parts is joined. What is not text is left to `Conversation.check`.

    Raises:
        InputError: for a part that is not text, and for text in a field that would be lost.
    """
    for field in OTHER_TEXT_FIELDS:
        if message.get(field):
            remedy = "`tool_calls`" if field == "function_call" else "`content`, for instance between <think> tags"
            raise InputError(f"{where} has `{field}`, which is not read; move it into {remedy}")
    content = message.get("content")
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise InputError(f"{where} has a content part of type {kind!r} without `text`; only text is supported")
        parts.append(text)
    return "".join(parts)


def read_tool_calls(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """`tool_calls` as `[{"type": "function", "function": {"name": str, "arguments": dict}}]`, `id` kept.

    OpenAI writes `arguments` as JSON text; it is parsed.

    Raises:
        InputError: for calls of another role than the assistant, without a name, or whose arguments are no object.
    """
    given = message["tool_calls"]
    if message.get("role") != "assistant":
        raise InputError(f"{where} ({message.get('role')}) has `tool_calls`; only an assistant turn makes calls")
    if not isinstance(given, list) or not all(isinstance(call, dict) for call in given):
        raise InputError(f"{where}: `tool_calls` must be a list of objects")
    calls = []
    for call in given:
        function = call.get("function", call)
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: a call in `tool_calls` has no function name")
        arguments = _parse_if_text(function.get("arguments"), f"{where}: `arguments` of the call {name!r}")
        arguments = arguments or {}
        if not isinstance(arguments, dict):
            raise InputError(f"{where}: `arguments` of the call {name!r} must be an object")
        kept = {"type": "function", "function": {"name": name, "arguments": arguments}}
        calls.append(kept if call.get("id") is None else {"id": call["id"], **kept})
    return calls


def read_tools(given: Any, source: str) -> list[dict[str, Any]] | None:
    """The tools on offer, from a list of JSON schemas or its JSON text; None where there are none.

    Raises:
        InputError: for anything else.
    """
    tools = _parse_if_text(given, f"{source}: `tools`")
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(f"{source}: `tools` must be a list of JSON schemas, or that list as JSON text")
    return tools


def read_role_spans(given: Any, content: str, where: str) -> list[RoleSpan]:
    """`[[start, end, "reasoning"], …]` over the characters of `content`, in order, not overlapping.

    Raises:
        InputError: for an unknown role or a span that is out of order or beyond the content.
    """
    if not isinstance(given, list):
        raise InputError(f"{where}: `role_spans` must be a list of [start, end, role]")
    spans: list[RoleSpan] = []
    for entry in given:
        match entry:
            case [int(start), int(end), str(label)] if label in ROLE_BY_LABEL:
                pass
            case _:
                roles = ", ".join(ROLE_BY_LABEL)
                raise InputError(f"{where}: role span {entry!r} is not [start, end, role] with a role of {roles}")
        if not (spans[-1].end if spans else 0) <= start < end <= len(content):
            raise InputError(
                f"{where}: role span {entry!r} overlaps the one before it, is empty, or ends beyond the "
                f"content's {len(content)} characters"
            )
        spans.append(RoleSpan(start, end, ROLE_BY_LABEL[label]))
    return spans


def _parse_if_text(value: Any, what: str) -> Any:
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is broken JSON text: {error}") from error
    # Escapes within this inner text were not seen when the record around it was read.
    return without_surrogates(parsed)
