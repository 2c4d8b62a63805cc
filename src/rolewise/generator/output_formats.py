"""The output formats: every tag and label that the generator writes, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputFormat:
    """The fixed strings of a format, in the order of their use.

    A turn is `think_open` thought `think_close`, then either `calls_open`, for each call `call_open` name
    `call_middle` arguments `call_close`, and `calls_close`; or `answer_open` answer `answer_close`.
    """

    instructions: str
    think_open: str
    think_close: str
    calls_open: str
    call_open: str
    call_middle: str
    call_close: str
    calls_close: str
    answer_open: str
    answer_close: str
    observation_open: str
    observation_close: str
    one_call_a_turn: bool = False
    """Two calls become two turns, with an observation between them."""
    observation_role: str = "tool"
    """The message's role. Where `Conversation.check` sees no call, it takes no tool's result, but takes a user's."""
    argument_separator: str | None = None
    """What stands between arguments written as `key = value`; None for arguments as a JSON object."""


FORMATS: dict[str, OutputFormat] = {
    "rlla": OutputFormat(
        instructions='<think> </think>, then <tool_call> with one {"name", "parameters"} a line, or <response>.',
        think_open="<think> ",
        think_close=" </think>",
        calls_open="\n<tool_call>",
        call_open='\n{"name": "',
        call_middle='", "parameters": ',
        call_close="}",
        calls_close="\n</tool_call>",
        answer_open="\n<response> ",
        answer_close=" </response>",
        observation_open="<obs> ",
        observation_close=" </obs>",
    ),
    "hermes": OutputFormat(
        instructions='<think> </think>, then a <tool_call> of {"name", "arguments"} for each call, or plain text.',
        think_open="<think>\n",
        think_close="\n</think>",
        calls_open="",
        call_open='\n<tool_call>\n{"name": "',
        call_middle='", "arguments": ',
        call_close="}\n</tool_call>",
        calls_close="",
        answer_open="\n",
        answer_close="",
        observation_open="<tool_response>\n",
        observation_close="\n</tool_response>",
    ),
    "react": OutputFormat(
        instructions="Thought:, then Action: with Action Input: in JSON, or Final Answer:.",
        think_open="Thought: ",
        think_close="",
        calls_open="",
        call_open="\nAction: ",
        call_middle="\nAction Input: ",
        call_close="",
        calls_close="",
        answer_open="\nFinal Answer: ",
        answer_close="",
        observation_open="Observation: ",
        observation_close="",
        one_call_a_turn=True,
    ),
}
"""Formats that the package reads."""

MADE_UP_FORMATS: dict[str, OutputFormat] = {
    "minutes": OutputFormat(
        instructions="minutes: a line after ~, then @ and a tool with a line of key = value each, or a line after !.",
        think_open="~ ",
        think_close="",
        calls_open="",
        call_open="\n@ ",
        call_middle="\n",
        call_close="",
        calls_close="",
        answer_open="\n! ",
        answer_close="",
        observation_open="? ",
        observation_close="",
        observation_role="user",
        argument_separator="\n",
    ),
    "cards": OutputFormat(
        instructions="cards: ((mind: )), then ((use tool; key = value; key = value)) for each call, or ((say: )).",
        think_open="((mind: ",
        think_close="))",
        calls_open="",
        call_open="\n((use ",
        call_middle="; ",
        call_close="))",
        calls_close="",
        answer_open="\n((say: ",
        answer_close="))",
        observation_open="((heard: ",
        observation_close="))",
        observation_role="user",
        argument_separator="; ",
    ),
}
"""Formats of no other project, lines of `key = value`: to the rules of `rolewise.roles` they are plain text.

A labeller gets no help from the regex there. `parse_response` finds no calls in them either.
"""
