"""Which nulls of Arrow's structs the arguments of a call really had, as far as the tools on offer tell.

A struct has every key that any row's object had, so another call's keys are null in this one, and so are true nulls.
The schema of the call's own tool decides, at every depth:

- a key that it does not declare came of another call and goes;
- a null that it requires and allows is true and stays, as in OpenAI's strict schemas, which require every key;
- other nulls can't be told from missing keys and are taken for these, but for a key without any value in the whole
  column, whose nulls are true (see `arrow_values`).
"""

from collections.abc import Iterable
from typing import Any

from rolewise.data.conversation import Conversation


class Struct(dict[str, Any]):
    """An object that was a struct, without the keys whose null is in doubt; `fields` has all, in the struct's order."""

    def __init__(self, items: Iterable[tuple[str, Any]], fields: tuple[str, ...]) -> None:
        super().__init__(items)
        self.fields = fields


def settle_nulls(conversation: Conversation) -> Conversation:
    """Give the calls of a conversation just read the nulls that they had; structs become plain dictionaries.

    Arguments of a tool that is not described stay as they are.
    """
    tools = conversation.tools or []
    schemas = dict(filter(None, map(_schema, tools)))
    for message in conversation.messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), Struct):
                function["arguments"] = _settled(function["arguments"], schemas.get(str(function.get("name"))))
    tools[:] = [_settled(tool, None) for tool in tools]
    return conversation


def _schema(tool: Any) -> tuple[str, Any] | None:
    """A tool's name and the schema of its parameters, where it says them."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return (name, function.get("parameters")) if isinstance(function, dict) and isinstance(name, str) else None


def _settled(value: Any, schema: Any) -> Any:
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_settled(item, schema.get("items")) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties")
    if not isinstance(value, Struct) or not isinstance(properties, dict):
        return {key: _settled(item, None) for key, item in value.items()}
    required = schema.get("required")
    true_nulls = {key for key in required if _allows_null(properties.get(key))} if isinstance(required, list) else ()
    return {
        key: _settled(value.get(key), properties.get(key))
        for key in value.fields
        if value.get(key) is not None or (key in properties and (key in value or key in true_nulls))
    }


def _allows_null(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kinds, choices = schema.get("type"), schema.get("enum")
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or (isinstance(choices, list) and None in choices)
        or schema.get("nullable") is True
        or any(_allows_null(part) for key in ("anyOf", "oneOf") for part in _parts(schema.get(key)))
    )


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
