"""Glaive's function-calling data: a system prompt that lists the functions, and the chat as one text."""

import json
import re
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import read_functions, read_tool_calls, without_surrogates

_SPEAKER = re.compile(r"^(USER|ASSISTANT|FUNCTION RESPONSE):", re.MULTILINE)
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_END = "<|endoftext|>"
_CALL = "<functioncall>"
# Glaive writes the arguments as JSON between single quotes, so the call itself is not JSON.
_QUOTED_ARGUMENTS = re.compile(r"\{\s*\"name\"\s*:\s*(\"[^\"]+\")\s*,\s*\"arguments\"\s*:\s*'(.*)'\s*\}", re.DOTALL)


def from_glaive(record: dict[str, Any], source: str) -> Conversation:
    """Read `system` (`SYSTEM: … {function} {function}`) and `chat` (`USER: … ASSISTANT: … <|endoftext|> …`).

    A call is `<functioncall> {"name": …, "arguments": '{…}'}` at the end of an assistant's turn and becomes
    `tool_calls`. The functions move from the system prompt into `tools`; the rest of the prompt stays.
    """
    system, chat = record["system"] or "", record["chat"]
    for key, value in (("system", system), ("chat", chat)):
        if not isinstance(value, str):
            raise InputError(f"{source}: `{key}` must be text, found {type(value).__name__}")
    text, functions = _system(system, source)
    messages: list[dict[str, Any]] = [{"role": "system", "content": text}] if text else []
    marks = list(_SPEAKER.finditer(chat))
    if not marks or chat[: marks[0].start()].strip():
        raise InputError(f"{source}: `chat` doesn't start with USER:, ASSISTANT: or FUNCTION RESPONSE:")
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(chat)
        turn = chat[mark.end() : end].strip().removesuffix(_END).strip()
        messages.append(_message(_ROLES[mark.group(1)], turn, f"{source}: message {len(messages) + 1}"))
    return Conversation(messages, read_functions(functions, source), source)


def _message(role: str, text: str, where: str) -> dict[str, Any]:
    content, found, call = text.partition(_CALL)
    if role != "assistant" or not found:
        return {"role": role, "content": text}
    return {
        "role": role,
        "content": content.strip() or None,
        "tool_calls": read_tool_calls([_call(call, where)], where),
    }


def _call(text: str, where: str) -> Any:
    text = text.strip().removesuffix(_END).strip()
    quoted = _QUOTED_ARGUMENTS.fullmatch(text)
    try:
        if quoted is None:
            return without_surrogates(parse_json(text))
        arguments = quoted.group(2).replace("\\'", "'")
        return without_surrogates({"name": parse_json(quoted.group(1)), "arguments": parse_json(arguments)})
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: the call after {_CALL} is broken JSON: {error}") from error


def _system(system: str, source: str) -> tuple[str, list[Any]]:
    """Return the system prompt's text before the functions, and the functions."""
    text = system.strip().removeprefix("SYSTEM:").strip()
    start = text.find("{")
    if start < 0:
        return text, []
    functions, position, decoder = [], start, json.JSONDecoder()
    while position < len(text):
        try:
            function, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: a function in `system` is broken JSON: {error}") from error
        functions.append(without_surrogates(function))
        while position < len(text) and text[position] in " \r\n\t,":
            position += 1
    return text[:start].rstrip(), functions
