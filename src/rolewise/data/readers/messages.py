"""Formats whose turns are messages: TRL's and OpenAI's, ToolBench's, tau-bench's, prompt and completion.

FireAct's data and every other conversation in ReAct text (`Thought: … Action: …`) are plain messages too.
"""

from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.message_fields import read_functions, read_message, read_role_spans, read_tools


def from_messages(record: dict[str, Any], source: str) -> Conversation:
    """Read `{"messages": […], "tools": […]}`, each message optionally with `role_spans` over its content's characters.

    ToolBench and OpenAI's old interface write `functions` for `tools`, `function_call` for `tool_calls` and the role
    `function` for `tool`.
    """
    given = record["messages"]
    messages, notes = read_messages(given, source)
    tools = read_tools(record.get("tools"), source) or read_functions(record.get("functions"), source, "functions")
    spans: list[list[RoleSpan]] | None = None
    if any(message.get("role_spans") is not None for message in given):
        spans = [
            read_role_spans(raw.get("role_spans") or [], read["content"] or "", f"{source}: message {number}")
            for number, (raw, read) in enumerate(zip(given, messages, strict=True), start=1)
        ]
    return Conversation(messages, tools, source, spans, notes)


def from_trajectory(record: dict[str, Any], source: str) -> Conversation:
    """Read tau-bench's `traj`: the messages of an episode in OpenAI's format."""
    messages, notes = read_messages(record["traj"], source, "traj")
    return Conversation(messages, read_tools(record.get("tools"), source), source, notes=notes)


def from_prompt_completion(record: dict[str, Any], source: str) -> Conversation:
    """Read TRL's `prompt` and `completion`, each a text or a list of messages.

    A text is the content of one turn, the user's or the assistant's: unlike in TRL, a chat template is applied to it.
    """
    turns: list[Any] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = record[key]
        if isinstance(value, list):
            turns += value
        elif isinstance(value, str):
            turns.append({"role": role, "content": value})
        else:
            raise InputError(f"{source}: `{key}` must be text or a list of messages, found {type(value).__name__}")
    messages, notes = read_messages(turns, source, "prompt` and `completion")
    return Conversation(messages, read_tools(record.get("tools"), source), source, notes=notes)


def read_messages(given: Any, source: str, key: str = "messages") -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return a list of messages in the shape of `Conversation`, and notes on the changes to them.

    Raises:
        InputError: if it is not a list of objects, or as `read_message`.
    """
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise InputError(f"{source}: `{key}` must be a list of objects")
    read = [read_message(message, f"{source}: message {number}") for number, message in enumerate(given, start=1)]
    notes = tuple(dict.fromkeys(note for _, note in read if note))
    return [message for message, _ in read], notes
