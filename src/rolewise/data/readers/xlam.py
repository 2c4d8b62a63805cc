"""xLAM's and APIGen's function-calling records, and Hammer's, whose query is a list of messages."""

from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import parse_if_text, read_functions, read_tool_calls
from rolewise.data.readers.messages import read_messages


def from_xlam(record: dict[str, Any], source: str) -> Conversation:
    """Read `query`, `tools` and `answers` (lists, the last two also as JSON text); answers become `tool_calls`."""
    query = record["query"]
    if not isinstance(query, str | list):
        raise InputError(f"{source}: `query` must be text or a list of messages, found {type(query).__name__}")
    given = [{"role": "user", "content": query}] if isinstance(query, str) else query
    messages, notes = read_messages(given, source, "query")
    answers = parse_if_text(record["answers"], f"{source}: `answers`")
    if not answers:
        raise InputError(f"{source}: `answers` is empty, so there is nothing to train on; leave the record out")
    calls = read_tool_calls(answers, f"{source}: `answers`")
    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    return Conversation(messages, read_functions(record["tools"], source), source, notes=notes)
