"""ShareGPT: `conversations` of `from` and `value`, used by LLaMA-Factory, ToolACE, Hermes and ToolLLaMA."""

from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import read_functions, read_tool_calls, without_surrogates
from rolewise.data.readers.messages import read_messages

_CALL = "call"
_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": _CALL,
    "tool_call": _CALL,
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
}
CALL_AS_TEXT = "Turns from `function_call` without JSON are kept as the assistant's text."


def from_sharegpt(record: dict[str, Any], source: str) -> Conversation:
    """Read `conversations`, optionally with `system` and `tools` (a list, or the list as JSON text).

    A `function_call` holds a JSON object, or a list of them, with `name` and `arguments`, and becomes `tool_calls`.
    Other text in it (a call in a model's own notation) stays text; broken JSON is rejected.
    """
    given = record["conversations"]
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise InputError(f"{source}: `conversations` must be a list of objects")
    messages: list[dict[str, Any]]
    notes: tuple[str, ...]
    if given and all("role" in turn and "from" not in turn for turn in given):
        messages, notes = read_messages(given, source, "conversations")
    else:
        messages = [_message(turn, f"{source}: message {number}") for number, turn in enumerate(given, start=1)]
        kept_as_text = any(
            _ROLES[turn["from"]] == _CALL and "tool_calls" not in message
            for turn, message in zip(given, messages, strict=True)
        )
        notes = (CALL_AS_TEXT,) if kept_as_text else ()
    system = record.get("system")
    if not isinstance(system, str | None):
        raise InputError(f"{source}: `system` must be text, found {type(system).__name__}")
    if system and system.strip() and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(messages, read_functions(record.get("tools"), source), source, notes=notes)


def _message(turn: dict[str, Any], where: str) -> dict[str, Any]:
    speaker, value = turn.get("from"), turn.get("value")
    role = _ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise InputError(f"{where} is from {speaker!r}; expected one of {', '.join(_ROLES)}")
    if not isinstance(value, str):
        raise InputError(f"{where} ({speaker}) has no text in `value`")
    if role != _CALL:
        return {"role": role, "content": value}
    calls = _calls(value, where)
    if calls is None:
        return {"role": "assistant", "content": value}
    return {"role": "assistant", "content": None, "tool_calls": read_tool_calls(calls, where)}


def _calls(value: str, where: str) -> list[Any] | None:
    """Return the calls in a turn's text; None if it neither is nor looks like JSON."""
    text = value.strip()
    try:
        parsed = without_surrogates(parse_json(text))
    except (ValueError, RecursionError) as error:
        if text.startswith("{") or text.removeprefix("[").lstrip().startswith("{"):
            raise InputError(f"{where} (function_call) is broken JSON: {error}") from error
        return None
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not calls:
        raise InputError(f"{where} (function_call) is an empty list; remove the turn or give it a call")
    return calls
