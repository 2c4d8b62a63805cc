"""The one shape in which every reader returns a conversation: TRL's conversational format."""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rolewise.core.errors import InputError
from rolewise.core.role import Role

CALL_IN_TEXT = re.compile(r'<tool_call|<function|\[TOOL_CALLS\]|"name"\s*:|\bAction\s*:|\w\(')
"""Pattern of a call written as text inside an assistant turn; deliberately loose, to tell calls from plain talk."""

ROLES_OF_MESSAGES = ("system", "developer", "user", "assistant", "tool")


class RoleSpan(NamedTuple):
    """Characters `start` to `end` (half-open) of a message's content play `role`."""

    start: int
    end: int
    role: Role


@dataclass(frozen=True)
class Conversation:
    """One conversation. `messages` and `tools` are plain dictionaries in TRL's and OpenAI's shape.

    Attributes:
        messages: `role` (system, developer, user, assistant, tool), `content` (str), and for assistant turns optionally
            `tool_calls`: `[{"type": "function", "function": {"name": str, "arguments": dict}}]`.
        tools: JSON schemas of the available tools, or None.
        source: origin as `file:record`, for messages to users.
        role_spans: for data with known true roles (the generator's): per message, the true roles of its content's
            characters, in order, not overlapping. Characters in no span have no known role.
        notes: changes made by the reader, for the user; the wording is the same for every such record.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    source: str = ""
    role_spans: list[list[RoleSpan]] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def check(self) -> "Conversation":
        """Return self if it is valid training data.

        Raises:
            InputError: naming `source` and the message, for an empty conversation or turn, an unknown role, a message
                without text, a tool result without a preceding call, or a conversation without an assistant turn.
        """
        if not self.messages:
            raise InputError(f"{self.source}: the conversation has no messages")
        call_before = False
        has_assistant = False
        for number, message in enumerate(self.messages, start=1):
            where = f"{self.source}: message {number}"
            role = message.get("role")
            content = message.get("content")
            tool_calls = message.get("tool_calls")
            if role not in ROLES_OF_MESSAGES:
                raise InputError(f"{where} has role {role!r}; expected one of {', '.join(ROLES_OF_MESSAGES)}")
            if not isinstance(content, str) and not (role == "assistant" and content is None and tool_calls):
                raise InputError(f"{where} ({role}) has no text in `content`")
            if role == "assistant":
                has_assistant = True
                if not (content or "").strip() and not tool_calls:
                    raise InputError(f"{where}: empty assistant turn; drop it or give it content or tool_calls")
                call_before = call_before or bool(tool_calls) or bool(CALL_IN_TEXT.search(content or ""))
            elif role == "tool" and not call_before:
                raise InputError(f"{where}: a tool result, but no earlier assistant turn makes a call")
        if not has_assistant:
            raise InputError(f"{self.source}: no assistant turn, so there is nothing to train on")
        return self
