"""Writing of conversations to a file, in the `messages` format."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rolewise.core.files import atomic_path
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import LONE_SURROGATE


def write_conversations(conversations: Iterable[Conversation], path: str | Path) -> None:
    """Write the `messages` format as JSON Lines, atomically, with the true roles if known.

    `read_conversations` returns equal conversations, except for `source`, which then names this file. Lone surrogates,
    which UTF-8 can't hold, become U+FFFD.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for conversation in conversations:
            line = json.dumps(as_record(conversation), ensure_ascii=False)
            stream.write(LONE_SURROGATE.sub("\ufffd", line) + "\n")


def as_record(conversation: Conversation) -> dict[str, Any]:
    """Return the conversation as a record of the `messages` format."""
    messages = [dict(message) for message in conversation.messages]
    if conversation.role_spans is not None:
        for message, spans in zip(messages, conversation.role_spans, strict=True):
            message["role_spans"] = [[span.start, span.end, span.role.label] for span in spans]
    record: dict[str, Any] = {"messages": messages}
    if conversation.tools is not None:
        record["tools"] = conversation.tools
    return record
