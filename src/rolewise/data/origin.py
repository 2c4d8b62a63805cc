"""The conversation behind a sample, and the places of its turns in the sample's text, as one JSON string.

It makes labels portable: another model's chat template renders the same conversation, and each turn's characters are
matched with their roles. The text alone is not enough, since it holds the first template's headers, special tokens and
notation for calls; neither is rendering again with the first tokenizer, which may be unavailable where the labels are
used. It costs about a byte per character of text, in addition to some 25 bytes per token of the other columns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import read_role_spans, without_surrogates
from rolewise.data.turns import TurnText


@dataclass(frozen=True)
class Origin:
    """A sample's conversation, up to the last turn that carries loss, and those turns' places in the sample's text.

    A sample may have been cut: a turn then ends beyond its text.
    """

    conversation: Conversation
    turns: list[TurnText]


def write_origin(conversation: Conversation, turns: Sequence[TurnText]) -> str:
    """Return the conversation up to the last of `turns` (at least one) and the turns, as JSON; see `read_origin`."""
    left = turns[-1].number + 1
    kept = 0
    while left:
        left -= conversation.messages[kept]["role"] == "assistant"
        kept += 1
    record: dict[str, Any] = {"messages": conversation.messages[:kept], "tools": conversation.tools}
    if conversation.role_spans is not None:
        spans = conversation.role_spans[:kept]
        record["role_spans"] = [[[span.start, span.end, span.role.label] for span in of_one] for of_one in spans]
    record["turns"] = turns
    return json.dumps(without_surrogates(record), ensure_ascii=False)


def read_origin(text: str, source: str) -> Origin:
    """Read the output of `write_origin`; `source` is the conversation's.

    Raises:
        InputError: naming `source`, for any other text.
    """
    try:
        record = parse_json(text)
        spans = record.get("role_spans")
        if spans is not None:
            pairs = zip(record["messages"], spans, strict=True)
            spans = [read_role_spans(given, message["content"] or "", source) for message, given in pairs]
        conversation = Conversation(record["messages"], record["tools"], source, spans).check()
        return Origin(conversation, [TurnText(*map(int, turn)) for turn in record["turns"]])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{source}: the stored conversation can't be read ({error}); label the data again") from error
