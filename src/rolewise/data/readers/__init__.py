"""Conversations from files and data sets, in any format of `FORMATS` or one registered by the user."""

from rolewise.data.readers.record_formats import FORMATS, Format, register_format
from rolewise.data.readers.rejects import Rejected, RejectReason, count_rejects, describe_rejects, write_rejected
from rolewise.data.readers.stream import ConversationStream, ReadResult, iter_conversations, read_conversations
from rolewise.data.readers.write import as_record, write_conversations

__all__ = [
    "FORMATS",
    "ConversationStream",
    "Format",
    "ReadResult",
    "RejectReason",
    "Rejected",
    "as_record",
    "count_rejects",
    "describe_rejects",
    "iter_conversations",
    "read_conversations",
    "register_format",
    "write_conversations",
    "write_rejected",
]
