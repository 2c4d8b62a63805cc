"""ToolBench's loop for one query: the model thinks, calls, receives results, and ends with the function `Finish`.

It follows ToolBench's CoT@1 (`toolbench/inference/Algorithms/single_chain.py` and
`Downstream_tasks/rapidapi_multithread.py` of zhichengg/StableToolBench, commit
69d3145a756b52fd80c5b936d755a648cd81462f): one chain without backtracking. The prompt says the same in our own words, so
a model trained on ToolBench's text sees another wording here.
"""

import json
import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

from rolewise.data.tool_calls import ParsedCall, ParsedResponse, parse_response
from rolewise.data.tools_in_prompts import function_schema
from rolewise.evaluation.suite import Answer, Ask, Messages
from rolewise.evaluation.suites.stable_toolbench.apis import Api, ApiBackend, Json

MAX_TURNS = 17
"""ToolBench ends a chain at a depth of 50 nodes; a thought, a call and its input count as three."""

_MAX_NEW_TOKENS = 1024
_MAX_OBSERVATION = 1024  # characters, the value of `--max_observation_length`

FINISH = function_schema(
    "Finish",
    "Ends the task. Call it with give_answer once you can answer the query, or with give_up_and_restart if you can't "
    "go on. The user sees nothing but final_answer.",
    {
        "return_type": {"type": "string", "enum": ["give_answer", "give_up_and_restart"]},
        "final_answer": {"type": "string", "description": "The whole answer, for return_type give_answer."},
    },
    ["return_type"],
)

_TASK = """\
You solve a user's query by calling functions. At each step think in a few short sentences about where you stand and \
what to do next, then call a function; you will be given its result. What is done can't be undone.
Once you can answer, or see that you can't go on because the functions fail, call Finish; every task ends with that \
call. The user reads only the final answer given to Finish, so put everything that is needed into it.
Call the functions by the names of their schemas, not by the names of the tools.

Tools:
{tools}"""

_REACT = """

Write each step in this form, the input as a JSON object on one line:
Thought: what you think
Action: name of a function
Action Input: {"name of an argument": "value"}

Functions:
"""

_NO_CALL = "There is no call that can be read; call a function, or end with Finish."

# ToolBench's way to read a Finish call with broken JSON, which is most often due to quotes in the answer.
_RETURN_TYPE = re.compile(r'"return_type":\s*"(\w+)')
_FINAL_ANSWER = re.compile(r'"final_answer":\s*"(.*)', re.DOTALL)


@dataclass
class Chain:
    """The state of a query while the model solves it.

    Attributes:
        steps: calls so far: `name`, `arguments`, and the `response` shown to the model.
        answered: number of calls by source of the answer: `cache`, `simulator`, `nobody`, `unknown function` or
            `unreadable input`.
        final_answer: the model's answer to the user; None if there is none.
        end: reason why the chain ended without an answer; empty otherwise.
    """

    steps: list[Json] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    final_answer: str | None = None
    end: str = ""


def run_chain(query: str, apis: list[Api], backend: ApiBackend, *, native_tools: bool) -> Generator[Ask, Answer, Chain]:
    """Ask the model step by step until it finishes, gives up or has taken all its turns.

    Args:
        query: query of the user.
        apis: available APIs.
        backend: backend that answers the calls.
        native_tools: True to pass functions through the chat template and read calls in the model's own format, False
            for ToolBench's labelled lines.

    Raises:
        InputError, EngineError: see `ApiBackend.call`.
    """
    chain = Chain()
    functions = [*(api.schema() for api in apis), FINISH]
    system = {"role": "system", "content": _system_prompt(apis, functions, backend, native_tools)}
    messages: Messages = [system, {"role": "user", "content": query}]
    for turn in range(MAX_TURNS):
        answer = yield Ask(
            messages=messages,
            tools=functions if native_tools else None,
            max_new_tokens=_MAX_NEW_TOKENS,
            stop=() if native_tools else ("\nObservation:",),
        )
        if answer.error is not None:
            chain.end = answer.error
            break
        parsed = parse_response(answer.text, None if native_tools else "react")
        observations = []
        for call in parsed.calls:
            observations.append(_carry_out(call, answer.text, chain, apis, backend))
            if chain.final_answer is not None or chain.end:
                return chain
        if native_tools:
            messages = [*messages, *_native_turn(answer.text, parsed, observations, turn)]
        else:
            messages = [*messages, *_written_turn(answer.text, observations)]
    chain.end = chain.end or f"no call of Finish in {MAX_TURNS} turns"
    return chain


def _system_prompt(apis: list[Api], functions: list[Json], backend: ApiBackend, native_tools: bool) -> str:
    tools = {api.tool: backend.tool_description(api) for api in apis}
    text = _TASK.format(tools="\n".join(f"{n}. {tool}: {said}" for n, (tool, said) in enumerate(tools.items(), 1)))
    if native_tools:
        return text
    return text + _REACT + "\n".join(json.dumps(entry["function"], ensure_ascii=False) for entry in functions)


def _carry_out(call: ParsedCall, text: str, chain: Chain, apis: list[Api], backend: ApiBackend) -> str:
    """Execute a call, record it in the chain, and return the response for the model."""
    written = text[slice(*call.arguments_span)] if call.arguments_span else ""
    if call.name == "Finish":
        observation = _finish(call, written, chain)
    else:
        observation = _call_api(call, written, chain, apis, backend)
    if len(observation) > _MAX_OBSERVATION:
        observation = observation[:_MAX_OBSERVATION] + "..."
    arguments = written if call.arguments is None else call.arguments
    chain.steps.append({"name": call.name, "arguments": arguments, "response": observation})
    return observation


def _call_api(call: ParsedCall, written: str, chain: Chain, apis: list[Api], backend: ApiBackend) -> str:
    # Models omit the beginning of a long name, and ToolBench accepts that.
    api = next((api for api in apis if call.name and api.function.endswith(call.name)), None)
    arguments = call.arguments if written else {}
    if api is None:
        chain.answered["unknown function"] += 1
        return _error(f"There is no function {call.name!r}.")
    # Text that is no object is stored as an unnamed argument.
    if arguments is None or not all(span.name_span for span in call.argument_spans):
        chain.answered["unreadable input"] += 1
        return _error("The input is no JSON object.")
    answer = backend.call(api, arguments)
    chain.answered[answer.answered_by] += 1
    return json.dumps(answer.content, ensure_ascii=False)


def _finish(call: ParsedCall, written: str, chain: Chain) -> str:
    """End the chain, or return the reason why this call does not."""
    arguments = call.arguments or {}
    if "return_type" not in arguments and (kind := _RETURN_TYPE.search(written)):
        arguments = {"return_type": kind[1]}
        if text := _FINAL_ANSWER.search(written):
            arguments["final_answer"] = text[1].rstrip("} \n").removesuffix('"')
    if arguments.get("return_type") == "give_up_and_restart":
        chain.end = "the model gave up"
        return ""
    if arguments.get("return_type") != "give_answer":
        return _error("Finish needs return_type: give_answer or give_up_and_restart.")
    if "final_answer" not in arguments:
        return _error("Finish needs final_answer when return_type is give_answer.")
    answer = arguments["final_answer"]
    chain.final_answer = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return ""


def _written_turn(text: str, observations: list[str]) -> Messages:
    told = "\n".join(f"Observation: {observation}" for observation in observations or [_error(_NO_CALL)])
    return [{"role": "assistant", "content": text.strip()}, {"role": "user", "content": told}]


def _native_turn(text: str, parsed: ParsedResponse, observations: list[str], turn: int) -> Messages:
    sound = [(call, told) for call, told in zip(parsed.calls, observations, strict=True) if call.valid]
    if not sound:
        # The template can't write a call that can't be parsed.
        told = observations[0] if observations else _error(_NO_CALL)
        return [{"role": "assistant", "content": text.strip()}, {"role": "user", "content": told}]
    prose = [text[part.start : part.end] for part in parsed.segments if part.kind in ("thought", "text")]
    tool_calls, results = [], []
    for number, (call, told) in enumerate(sound):
        # Mistral's templates require ids of nine characters.
        identity = f"call{turn:02d}{number:03d}"
        function = {"name": call.name, "arguments": call.arguments}
        tool_calls.append({"id": identity, "type": "function", "function": function})
        results.append({"role": "tool", "name": call.name, "tool_call_id": identity, "content": told})
    return [{"role": "assistant", "content": "".join(prose).strip(), "tool_calls": tool_calls}, *results]


def _error(text: str) -> str:
    return json.dumps({"error": text, "response": ""}, ensure_ascii=False)
