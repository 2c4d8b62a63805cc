"""The outline of a conversation, a word of its own in each place, to see which places a chat template leaves out.

Templates drop whole messages and calls without a word: every system message but the first, every call of a turn but
one, the text beside a call. Which they drop depends on the conversation's outline, hardly on its words; and words may
stand in the text for another reason, be escaped, or come twice. So a word that is nowhere else stands for each text.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from rolewise.data.conversation import Conversation

Json = dict[str, Any]
_THINKING = ("<think>", "</think>")


class Place(NamedTuple):
    """A word of the outline, and what it stands for.

    Attributes:
        word: found in the rendered outline, or what it stands for is lost.
        what: for a message to people.
        until: the outline's messages up to here must show it; None where the whole outline must.
    """

    word: str
    what: str
    until: int | None = None


class Skeleton(NamedTuple):
    """The outline as a conversation, and its places in order."""

    conversation: Conversation
    places: list[Place]


def outline_key(conversation: Conversation) -> tuple[Any, ...]:
    """Equal for conversations of the same outline."""
    tools = tuple("function" in tool for tool in conversation.tools or [])
    return (tools, *(_message_key(message) for message in conversation.messages))


def _message_key(message: Json) -> tuple[Any, ...]:
    content = message.get("content") or ""
    calls = tuple(
        (tuple(call["function"]["arguments"] or ()), call.get("id") is None) for call in message.get("tool_calls") or []
    )
    return message["role"], bool(content.strip()), _thinks(content), calls, "tool_call_id" in message, "name" in message


def traits(messages: list[Json]) -> frozenset[Any]:
    """Which kinds of messages there are, and what is unusual in their order: what stands beside a system message, and
    which roles follow themselves. Few sets in all, even of long conversations."""
    kinds = {_kind(message) for message in messages}
    pairs = pairwise([None, *(message["role"] for message in messages)])
    return frozenset({*kinds, *(pair for pair in pairs if pair[0] == pair[1] or {"system", "developer"} & {*pair})})


def _kind(message: Json) -> tuple[Any, ...]:
    content = message.get("content") or ""
    return message["role"], bool(content.strip()), _thinks(content), min(len(message.get("tool_calls") or []), 2)


def skeleton_of(conversation: Conversation) -> Skeleton:
    """The outline: roles, ids, argument names and tools' descriptions stay, every other text becomes a word."""
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
                # Whether an answer is whole is seen in its own words; here only whether calls push it out.
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
