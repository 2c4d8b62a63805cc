"""Prompts with the calls that answer them, out of conversations: what reinforcement learning for tool use samples from.

A conversation is decomposed into single-turn steps (arXiv 2509.21826): each assistant turn is a step, whose prompt is
everything before it and whose reference is the turn itself.
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
"""How a response is to look, by the format of its calls; the others are told to think first, then to call or answer."""

_CALL_TAGS = re.compile(r"<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|^Action(?: Input)?\s*:", re.MULTILINE)
# Calls as Python prints dictionaries: no format has them, and as an answer they would reward nothing.
_PRINTED_CALL = re.compile(r"(?:\A|</think>)\s*(?:\[\s*)?\{\s*'(?:name|function|arguments|parameters|type)'\s*:")
FORMATS_WITHOUT_NAMES = ("react", "fireact")
"""Formats whose calls may have arguments without names."""


@dataclass(frozen=True)
class ToolPrompt:
    """One step.

    Attributes:
        messages: what the policy sees, in TRL's conversational format.
        tools: JSON schemas of the tools on offer; None where the messages tell of them, or there are none.
        calls: the right calls, `{"name": str, "arguments": dict}`, in order; empty where the turn answers.
        reference: what rewards read: the calls as a JSON list, or, if the turn calls and answers, a text of both in
            rlla's format.
        source: where it came from, for messages to people.
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
        prompts: in order.
        rejected: records that were left out; empty unless invalid ones were to be skipped.
        sha256: over the prompts, whatever files they came from.
        conversations: how many there were.
        notes: what was read differently, for the user.
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
        data: sources, as `parse_sources` takes them.
        call_format: of the responses that are to be sampled; prompts that do not say how to respond are told.
        format: of the data; None recognises it.
        limit: conversations at most.
        skip_invalid: leave out records that can't be used instead of stopping at the first.
        answers: also take the turns that answer without a call; their reward is that of the format alone.

    Raises:
        InputError: for a record that can't be used, or if no turn calls a tool.
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
            f"{data}: {len(unknown)} of {len(prompts)} references call a tool that is not on offer (first {name!r}, "
            f"{source}), so that no response can be wholly right; mend the data or leave them out."
        ] = None
    return ToolPrompts(prompts, rejected, hasher.hexdigest(), conversations, list(notes))


def tools_not_on_offer(prompt: ToolPrompt) -> list[str]:
    """Names that the reference calls though the tools do not have them; empty where the messages tell of the tools."""
    offered = {(tool.get("function") or tool).get("name") for tool in prompt.tools or []}
    return [call["name"] for call in prompt.calls if offered and call["name"] not in offered]


def single_turn_steps(
    conversation: Conversation, *, answers: bool = False, call_format: str = "rlla"
) -> Iterator[ToolPrompt]:
    """The steps of a conversation, in order; with `answers` also those that answer without a call.

    Args:
        conversation: its calls in any format.
        answers: whether turns without a call are steps too.
        call_format: of the responses that are to be sampled. In rlla's alone a reference can ask for a call and an
            answer, and in ReAct's alone a call's arguments need no names.

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
    """Refuse an assistant turn whose calls can't be read, as a reference of training is refused.

    Raises:
        InputError: starting with `where`.
    """
    _calls_of(message, str(message.get("content") or ""), FORMATS_WITHOUT_NAMES[0], where)


def with_instructions(messages: list[dict[str, Any]], call_format: str) -> list[dict[str, Any]]:
    """Messages that say how to respond: in the system message, unless it or the user speaks of a thought's tags."""
    told = INSTRUCTIONS.get(call_format, f"{THINK_FIRST} Then either call tools, or answer the user.")
    # Not by the assistant's turns: that an earlier one thought does not tell the model to, and a template may drop it.
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
            raise InputError(f"{where}: the reference has a call's tag and no call behind it; mend it, or skip it")
        if not found and _PRINTED_CALL.search(content):
            raise InputError(f"{where}: the reference is calls as Python prints them; write JSON, or skip it")
    return [_as_dictionary(call, call_format, where) for call in found]


def _as_dictionary(call: ParsedCall, call_format: str, where: str) -> dict[str, Any]:
    if not call.valid or call.arguments is None:
        raise InputError(
            f"{where}: the reference call of {call.name!r} can't be read: {call.error}; mend it, or skip it"
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
