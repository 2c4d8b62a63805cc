"""From conversations to token ids: schema, readers, rendering, shuffling, the labelled data set, the generator."""

from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.readers import Format, iter_conversations, read_conversations, register_format, write_conversations

__all__ = [
    "Conversation",
    "Format",
    "RoleSpan",
    "iter_conversations",
    "read_conversations",
    "register_format",
    "write_conversations",
]
