"""OpenAI's `tool_calls`: convert the call objects of a message to calls and back."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.tool_calls.json_scan import JSON, decode, scan_value, skip_space
from rolewise.data.tool_calls.parsed import ParsedCall


def calls_from_openai(tool_calls: Iterable[Any]) -> list[ParsedCall]:
    """Read call objects: `{"type": "function", "function": {"name": …, "arguments": …}}`, or the function alone.

    `arguments` may be JSON text, as OpenAI sends it, or an object, as TRL and Transformers keep it. Invalid input gives
    a call that is not valid.
    """
    return [_call_from(entry) for entry in tool_calls]


def calls_to_openai(calls: Sequence[ParsedCall], *, arguments_as_text: bool = False) -> list[dict[str, Any]]:
    """Write call objects; with `arguments_as_text` the arguments are JSON text, as OpenAI's own service sends them.

    Raises:
        InputError: for a call that is not valid.
    """
    entries = []
    for number, call in enumerate(calls, start=1):
        if not call.valid:
            raise InputError(f"call {number} ({call.name!r}) can't be written: {call.error}; drop it or fix it")
        arguments: Any = call.arguments
        if arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        entries.append({"type": "function", "function": {"name": call.name, "arguments": arguments}})
    return entries


def _call_from(entry: Any) -> ParsedCall:
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    if not isinstance(function, dict):
        return ParsedCall(None, None, error="a call must be an object")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        return ParsedCall(None, None, error="the call has no name")
    if isinstance(arguments, str):
        depth = scan_value(arguments, skip_space(arguments, 0), JSON.quotes).depth
        arguments, error = decode(arguments, depth)
        if error is not None:
            return ParsedCall(name, None, error=error)
    if not isinstance(arguments, dict):
        return ParsedCall(name, None, error="the arguments are not an object")
    return ParsedCall(name, arguments)
