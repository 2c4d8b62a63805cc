"""The fields of a message in the `messages` format, checked and converted to one shape."""

import math
import re
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import check_depth
from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan
from rolewise.data.strict_json import read_json

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair: legal in a Python string, but neither UTF-8 nor a tokenizer accepts it."""

ROLE_BY_LABEL = {role.label: role for role in Role}
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_REASONING_PARTS = ("reasoning", "thinking")
_ROLES = {"function": "tool"}  # OpenAI's name before tools existed
REASONING_NOTE = "Reasoning stored apart from the content is written before it, between <think> tags."


def without_surrogates(value: Any) -> Any:
    """Return a JSON value with each lone surrogate in its strings replaced by U+FFFD; lengths stay the same."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def read_message(message: dict[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """Return a message in the shape of `Conversation`, and a note if its reasoning was moved.

    Content in parts is joined. Reasoning in a separate field or part goes before the content, as
    `<think>\\n…\\n</think>\\n\\n`: most chat templates either know this notation or pass it on, and a template that
    drops it from a turn is rejected when the turn is rendered. `Conversation.check` checks that the role is known and
    that there is text.

    Raises:
        InputError: for a part that is neither text, reasoning nor a call (images), and as `read_tool_calls`.
    """
    role = message.get("role")
    content, reasoning, calls = _read_parts(message.get("content"), where)
    reasoning = [*_read_reasoning_fields(message, where), *reasoning]
    calls = [*calls, *_read_call_fields(message, where)]
    if (reasoning or calls) and role != "assistant":
        what = "`tool_calls`; only an assistant turn makes calls" if calls else "reasoning; only an assistant reasons"
        raise InputError(f"{where} ({role}) has {what}")
    if reasoning:
        content = "<think>\n" + "\n\n".join(reasoning).strip("\n") + "\n</think>\n\n" + (content or "")
    kept = {"role": _ROLES.get(role, role) if isinstance(role, str) else role, "content": content}
    kept.update({key: message[key] for key in ("name", "tool_call_id") if message.get(key) is not None})
    if calls:
        kept["tool_calls"] = calls
    return kept, REASONING_NOTE if reasoning else ""


def _read_parts(content: Any, where: str) -> tuple[Any, list[str], list[dict[str, Any]]]:
    """Return text, reasoning and calls of a content; anything but a list of parts is returned unchanged."""
    if not isinstance(content, list):
        return content, [], []
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
        value = part
        if isinstance(part, dict):
            # LLaMA-Factory puts every part's text under `value`, others under the name of its type.
            value = next((part[key] for key in ("value", "text", "thinking", "reasoning") if key in part), None)
        if not isinstance(value, str) or kind not in ("text", "str", "tool_call", *_REASONING_PARTS):
            raise InputError(f"{where} has a content part of type {kind!r}; only text, reasoning and calls can be read")
        if kind in _REASONING_PARTS:
            reasoning.append(value)
        elif kind == "tool_call":
            call = parse_if_text(value, f"{where}: the call in a content part")
            calls += read_tool_calls(call if isinstance(call, list) else [call], where)
        else:
            texts.append(value)
    return "".join(texts) if texts or not (calls or reasoning) else None, [r for r in reasoning if r.strip()], calls


def _read_reasoning_fields(message: dict[str, Any], where: str) -> list[str]:
    """Return the reasoning in separate fields; servers may give the same text under two names."""
    found: list[str] = []
    for field in REASONING_FIELDS:
        value = message.get(field)
        if not value:
            continue
        if not isinstance(value, str):
            raise InputError(f"{where}: `{field}` must be text, found {type(value).__name__}")
        if value.strip() and value not in found:
            found.append(value)
    return found


def _read_call_fields(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    given, old = message.get("tool_calls"), message.get("function_call")
    if given and old:
        raise InputError(f"{where} has both `tool_calls` and `function_call`; keep one")
    if not given and not old:
        return []
    return read_tool_calls(given or [old], where)


def read_tool_calls(given: Any, where: str) -> list[dict[str, Any]]:
    """Return calls as `[{"type": "function", "function": {"name": str, "arguments": dict}}]`, `id` kept.

    OpenAI writes `arguments` as JSON text; it is parsed.

    Raises:
        InputError: for calls without a name, or with arguments that are not an object.
    """
    given = parse_if_text(given, f"{where}: `tool_calls`")
    if isinstance(given, list):
        given = [parse_if_text(call, f"{where}: a call") for call in given]
    if not isinstance(given, list) or not all(isinstance(call, dict) for call in given):
        raise InputError(f"{where}: calls must be a list of objects")
    calls = []
    for call in given:
        function = call.get("function", call)
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: a call has no function name")
        arguments = parse_if_text(function.get("arguments"), f"{where}: `arguments` of the call {name!r}")
        # An object stays itself, even an empty one: it may be a struct, whose keys are yet to be settled.
        arguments = arguments if isinstance(arguments, dict) else arguments or {}
        if not isinstance(arguments, dict):
            raise InputError(f"{where}: `arguments` of the call {name!r} must be an object")
        check_json(arguments, f"{where}: `arguments` of the call {name!r}")
        kept = {"type": "function", "function": {"name": name, "arguments": arguments}}
        calls.append(kept if call.get("id") is None else {"id": call["id"], **kept})
    return calls


def read_tools(given: Any, source: str, key: str = "tools") -> list[dict[str, Any]] | None:
    """Return the available tools, from a list of JSON schemas or its JSON text; None if there are none.

    Raises:
        InputError: for anything else.
    """
    tools = parse_if_text(given, f"{source}: `{key}`")
    if not tools:
        return None
    if isinstance(tools, list):
        tools = [parse_if_text(tool, f"{source}: an entry of `{key}`") for tool in tools]
        check_json(tools, f"{source}: `{key}`")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(f"{source}: `{key}` must be a list of JSON schemas, or that list as JSON text")
    return tools


def read_functions(given: Any, source: str, key: str = "tools") -> list[dict[str, Any]] | None:
    """Return the available tools, written in any of several ways, each as OpenAI's `{"type": "function", …}`.

    A bare `{"name", "description", "parameters"}` is wrapped. Parameters that are only the properties of a JSON schema
    (xLAM) become a schema; their own types (`str`, `dict`) stay as written.

    Raises:
        InputError: as `read_tools`.
    """
    tools = read_tools(given, source, key)
    return None if tools is None else [_as_tool(tool) for tool in tools]


def _as_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool or "name" not in tool:
        return tool
    parameters = tool.get("parameters")
    if isinstance(parameters, dict) and "properties" not in parameters and not isinstance(parameters.get("type"), str):
        tool = {**tool, "parameters": {"type": "object", "properties": parameters}}
    return {"type": "function", "function": tool}


def read_role_spans(given: Any, content: str, where: str) -> list[RoleSpan]:
    """Read `[[start, end, "reasoning"], …]` over the characters of `content`, in order, not overlapping.

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


def check_json(value: Any, where: str) -> None:
    """Reject values that JSON can't hold but Arrow's columns can.

    Raises:
        InputError: starting with `where`, for bytes that are not text, NaN and infinite numbers, and values nested too
            deeply.
    """
    try:
        check_depth(value)
    except ValueError as error:
        raise InputError(f"{where} is {error}") from error
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, bytes):
            raise InputError(f"{where} holds bytes that are not UTF-8 text; store text")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InputError(f"{where} holds {item}, which is not a JSON number; store null or remove the key")


def parse_if_text(value: Any, what: str) -> Any:
    """Return a JSON value, parsed if it is JSON text; blank text stays unchanged.

    Raises:
        InputError: starting with `what`, for broken JSON.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        parsed = read_json(value)
    except ValueError as error:
        raise InputError(f"{what} is broken JSON text: {error}") from error
    # Escapes within this inner text were not decoded when the record around it was read.
    return without_surrogates(parsed)
