"""The outline of a conversation, with a unique word in each place, to find the places that a chat template leaves out.

Templates silently drop whole messages and calls: every system message but the first, every call of a turn but one, the
text beside a call. The loss depends on the conversation's outline and hardly on its words; and words may be in the text
for another reason, be escaped, or occur twice. So a unique word stands for each text.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from rolewise.data.conversation import Conversation

Json = dict[str, Any]
_THINKING = ("<think>", "</think>")


class Place(NamedTuple):
    """A word of the outline, and the part of the conversation that it stands for.

    Attributes:
        word: unique word; if the rendered outline lacks it, the template loses the part.
        what: name of the part, for messages to users.
        until: the outline's messages up to here must show the word; None: the whole outline must.
    """

    word: str
    what: str
    until: int | None = None


class Skeleton(NamedTuple):
    """The outline as a conversation, and its places in order."""

    conversation: Conversation
    places: list[Place]


def outline_key(conversation: Conversation) -> tuple[Any, ...]:
    """Return a key that is equal for conversations of the same outline."""
    tools = tuple("function" in tool for tool in conversation.tools or [])
    return (tools, *(_message_key(message) for message in conversation.messages))


def _message_key(message: Json) -> tuple[Any, ...]:
    content = message.get("content") or ""
    calls = tuple(
        (tuple(call["function"]["arguments"] or ()), call.get("id") is None) for call in message.get("tool_calls") or []
    )
    return message["role"], bool(content.strip()), _thinks(content), calls, "tool_call_id" in message, "name" in message


def traits(messages: list[Json]) -> frozenset[Any]:
    """Return the kinds of messages and the unusual pairs of neighbors: with a system message, or with one role twice.
    There are few different sets in all, even for long conversations."""
    kinds = {_kind(message) for message in messages}
    pairs = pairwise([None, *(message["role"] for message in messages)])
    return frozenset({*kinds, *(pair for pair in pairs if pair[0] == pair[1] or {"system", "developer"} & {*pair})})


def _kind(message: Json) -> tuple[Any, ...]:
    content = message.get("content") or ""
    return message["role"], bool(content.strip()), _thinks(content), min(len(message.get("tool_calls") or []), 2)


def skeleton_of(conversation: Conversation) -> Skeleton:
    """Return the outline: roles, ids, argument names and tool descriptions stay, every other text becomes a word."""
    places: list[Place] = []

    def word(what: str, until: int | None = None) -> str:
        places.append(Place(f"probeplace{len(places)}end", what, until))
        return places[-1].word

    tools = [_with_name(tool, word(f"tool {n}")) for n, tool in enumerate(conversation.tools or [], start=1)]
    messages: list[Json] = []
    names: dict[Any, str] = {}
    for number, message in enumerate(conversation.messages, start=1):
        changed = dict(message)
        where = f"message {number} ({message['role']})"
        content = message.get("content") or ""
        if message["role"] == "assistant":
            if message.get("tool_calls"):
                changed["tool_calls"] = []
                for k, call in enumerate(message["tool_calls"], start=1):
                    name = word(f"call {k} of {where}")
                    names[call.get("id")] = name
                    values = {
                        key: word(f"an argument of call {k} of {where}") for key in call["function"]["arguments"] or {}
                    }
                    changed["tool_calls"].append({**call, "function": {"name": name, "arguments": values}})
            if content.strip():
                # `has_words` checks later that an answer is complete; here, only that calls do not push it out.
                beside = f"the text beside the calls of {where}" if message.get("tool_calls") else None
                changed["content"] = _answer(content, word(beside, number) if beside else "probeplaceanswer")
        elif content.strip():
            changed["content"] = word(where)
            if "name" in message:
                changed["name"] = names.get(message.get("tool_call_id"), message["name"])
        messages.append(changed)
    return Skeleton(Conversation(messages, tools or None), places)


def _thinks(content: str) -> tuple[bool, bool]:
    opening, closing = _THINKING
    return opening in content and closing in content, bool(content.rpartition(closing)[2].strip())


def _answer(content: str, word: str) -> str:
    thinks, speaks = _thinks(content)
    if not thinks:
        return word
    return f"<think>\nprobeplacethought\n</think>\n\n{word}" if speaks else f"<think>\n{word}\n</think>\n\n"


def _with_name(tool: Json, name: str) -> Json:
    function = tool.get("function")
    return {**tool, "function": {**function, "name": name}} if isinstance(function, dict) else {**tool, "name": name}
