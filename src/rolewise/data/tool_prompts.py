"""Prompts and their reference calls, taken from conversations: the data of reinforcement learning for tool use.

A conversation is decomposed into single-turn steps (arXiv 2509.21826): each assistant turn is a step; its prompt is
everything before the turn, and its reference is the turn itself.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.readers import Rejected
from rolewise.data.sources import SourceMix, parse_sources
from rolewise.data.tool_calls import calls_from_openai, parse_response, write_calls
from rolewise.data.tool_calls.parsed import ParsedCall
from rolewise.data.tools_in_prompts import with_tools_apart

THINK_FIRST = "Think first, between <think> and </think>."
INSTRUCTIONS = {
    "rlla": f"{THINK_FIRST} Then either call tools, or answer the user between <response> and </response>.",
    "react": "",  # its own description of a call has the thought in it
    "fireact": "",
}
"""Instructions on the form of a response, by call format; for others: think first, then call tools or answer."""

_CALL_TAGS = re.compile(r"<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|^Action(?: Input)?\s*:", re.MULTILINE)
# Calls written as Python prints dictionaries: no format has them, and as an answer they would reward nothing.
_PRINTED_CALL = re.compile(r"(?:\A|</think>)\s*(?:\[\s*)?\{\s*'(?:name|function|arguments|parameters|type)'\s*:")
FORMATS_WITHOUT_NAMES = ("react", "fireact")
"""Formats whose calls may have arguments without names."""


@dataclass(frozen=True)
class ToolPrompt:
    """One step.

    Attributes:
        messages: the policy's input, in TRL's conversational format.
        tools: JSON schemas of the available tools; None if the messages describe them, or there are none.
        calls: the right calls, `{"name": str, "arguments": dict}`, in order; empty if the turn answers.
        reference: input of the rewards: the calls as a JSON list, or, if the turn calls and answers, a text of both in
            rlla's format.
        source: origin, for messages to users.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    calls: list[dict[str, Any]]
    reference: str
    source: str


@dataclass(frozen=True)
class ToolPrompts:
    """The steps of one or several sources.

    Attributes:
        prompts: the prompts in order.
        rejected: records left out; empty unless invalid records are skipped.
        sha256: hash of the prompts, independent of the files they came from.
        conversations: number of conversations used.
        notes: changes made when reading, for the user.
    """

    prompts: list[ToolPrompt]
    rejected: list[Rejected]
    sha256: str
    conversations: int
    notes: list[str]


def read_tool_prompts(
    data: str,
    *,
    call_format: str = "rlla",
    format: str | None = None,
    limit: int | None = None,
    skip_invalid: bool = False,
    answers: bool = False,
) -> ToolPrompts:
    """Read the steps of conversations that call tools.

    Args:
        data: sources, in the form that `parse_sources` accepts.
        call_format: call format of the responses to sample; prompts without instructions on it get them.
        format: format of the data; None detects it.
        limit: maximum number of conversations.
        skip_invalid: leave out unusable records instead of stopping at the first.
        answers: also use the turns that answer without a call; their reward is that of the format alone.

    Raises:
        InputError: for an unusable record, or if no turn calls a tool.
    """
    mix = SourceMix(parse_sources(data), format=format, skip_invalid=skip_invalid, limit=limit)
    prompts: list[ToolPrompt] = []
    refused: list[Rejected] = []
    notes: dict[str, None] = {}
    hasher = hashlib.sha256()
    unknown: list[tuple[str, str]] = []
    conversations = 0
    for conversation in mix:
        source = mix.lasting_source(conversation)
        try:
            steps = list(single_turn_steps(conversation, answers=answers, call_format=call_format))
        except InputError as error:
            if not skip_invalid:
                raise
            refused.append(Rejected(conversation.source, str(error).removeprefix(f"{conversation.source}: ")))
            continue
        conversations += 1
        notes.update(dict.fromkeys(conversation.notes))
        for step in steps:
            prompt = replace(step, source=source, messages=with_instructions(step.messages, call_format))
            unknown += [(name, prompt.source) for name in tools_not_on_offer(prompt)[:1]]
            hasher.update(json.dumps([prompt.messages, prompt.tools, prompt.reference], default=str).encode() + b"\n")
            prompts.append(prompt)
    rejected = [*mix.rejected, *refused]
    if not any(prompt.calls for prompt in prompts):
        reason = f"; the first record left out: {rejected[0].source}: {rejected[0].reason}" if rejected else ""
        raise InputError(
            f"{data}: no assistant turn calls a tool, so there is no call to reward; give conversations with tool "
            f"calls{reason}"
        )
    if unknown:
        name, source = unknown[0]
        notes[
            f"{data}: {len(unknown)} of {len(prompts)} references call a tool that is not offered (first {name!r}, "
            f"{source}), so no response can be wholly right; fix the data or leave them out."
        ] = None
    return ToolPrompts(prompts, rejected, hasher.hexdigest(), conversations, list(notes))


def tools_not_on_offer(prompt: ToolPrompt) -> list[str]:
    """Return the names that the reference calls but the tools lack; empty if the messages describe the tools."""
    offered = {(tool.get("function") or tool).get("name") for tool in prompt.tools or []}
    return [call["name"] for call in prompt.calls if offered and call["name"] not in offered]


def single_turn_steps(
    conversation: Conversation, *, answers: bool = False, call_format: str = "rlla"
) -> Iterator[ToolPrompt]:
    """Yield the steps of a conversation, in order; with `answers` also those that answer without a call.

    Args:
        conversation: the conversation, with calls in any format.
        answers: True to include turns without a call.
        call_format: call format of the responses to sample. Only with rlla can a reference require a call and an
            answer, and only with ReAct's formats can a call's arguments lack names.

    Raises:
        InputError: naming the source and the turn, for a call that can't be read.
    """
    conversation = with_tools_apart(conversation, call_format)
    for number, message in enumerate(conversation.messages):
        if message["role"] != "assistant" or number == 0:
            continue
        where = f"{conversation.source}: message {number + 1}"
        content = str(message.get("content") or "")
        calls = _calls_of(message, content, call_format, where)
        if not calls and not answers:
            continue
        reference = json.dumps(calls, ensure_ascii=False)
        if (
            calls and "<response>" in content and call_format == "rlla"
        ):  # a list of calls can't ask for an answer beside them
            written = write_calls([ParsedCall(call["name"], call["arguments"]) for call in calls], "rlla")
            answer = content.partition("<response>")[2].partition("</response>")[0]
            reference = f"<think> </think>\n{written}\n<response>{answer}</response>"
        yield ToolPrompt(conversation.messages[:number], conversation.tools, calls, reference, conversation.source)


def check_reference(message: dict[str, Any], where: str) -> None:
    """Reject an assistant turn with unreadable calls, like a reference for training.

    Raises:
        InputError: starting with `where`.
    """
    _calls_of(message, str(message.get("content") or ""), FORMATS_WITHOUT_NAMES[0], where)


def with_instructions(messages: list[dict[str, Any]], call_format: str) -> list[dict[str, Any]]:
    """Return messages with instructions in the system message, unless it or the user mentions a thought's tags."""
    told = INSTRUCTIONS.get(call_format, f"{THINK_FIRST} Then either call tools, or answer the user.")
    # The assistant's turns don't count: an earlier thought is no instruction to think, and a template may drop it.
    asked = [str(message.get("content")) for message in messages if message["role"] in ("system", "user")]
    if not told or any("<think>" in text for text in asked):
        return messages
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": told}, *messages]
    return [{**messages[0], "content": f"{messages[0]['content']}\n\n{told}"}, *messages[1:]]


def _calls_of(message: dict[str, Any], content: str, call_format: str, where: str) -> list[dict[str, Any]]:
    if message.get("tool_calls"):
        found = calls_from_openai(message["tool_calls"])
    else:
        found = parse_response(content).calls
        if not found and _CALL_TAGS.search(content):
            raise InputError(f"{where}: the reference has a call's tag and no call after it; fix it, or skip it")
        if not found and _PRINTED_CALL.search(content):
            raise InputError(f"{where}: the reference has calls as Python prints them; write JSON, or skip it")
    return [_as_dictionary(call, call_format, where) for call in found]


def _as_dictionary(call: ParsedCall, call_format: str, where: str) -> dict[str, Any]:
    if not call.valid or call.arguments is None:
        raise InputError(
            f"{where}: the reference call of {call.name!r} can't be read: {call.error}; fix it, or skip it"
        )
    if call_format not in FORMATS_WITHOUT_NAMES and any(name.isdigit() for name in call.arguments):
        raise InputError(
            f"{where}: the reference call of {call.name!r} has arguments without names, which no reward can compare; "
            "name them, or skip it"
        )
    try:
        arguments = json.loads(json.dumps(call.arguments))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: the reference call of {call.name!r} is not JSON: {error}; skip it") from error
    return {"name": call.name, "arguments": arguments}
