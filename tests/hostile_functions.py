r"""Foreign text that is all of one piece, given to whatever reads what models write; a process that tries it.

    python tests/hostile_functions.py LENGTH FORMS

prints a line `[name, piece]` of JSON before each call and `[name, piece, seconds, problem]` after it, with the time of
the processor. Some of it can't be interrupted: who started the process ends it, and knows what it was at.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.tool_calls import CALL_FORMATS, calls_from_openai, opened_thought, parse_response, recognise_format
from rolewise.data.tool_calls.python_literals import decode
from rolewise.data.tools_in_prompts import with_tools_apart
from rolewise.rewards import reference_calls, response_format
from rolewise.rewards.answer_grammar import clash, lists_of_unlike_length, read_answer, same_by_sight
from rolewise.rewards.answer_text import plain
from rolewise.rewards.answer_units import unit_name
from rolewise.rewards.math_answers import boxed_answer, final_answer
from rolewise.rewards.tool_calls import _last_thought
from rolewise.roles.json_format import scan_json
from rolewise.roles.regex import format_spans
from rolewise.roles.regions import region_spans

# fmt: off
PIECES = [
    "<tool_call>", "</tool_call>", "<tool_call>x", '<tool_call>\n{"name": "f"\n', "[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]",
    "<|python_tag|>", "<think>", "</think>", "[THINK]", "<think>\n<tool_call>", "<response>", "</s>", "<|im_end|>",
    "Thought:\n", "Action: f\n", "Action Input: ", "Action Input: {\n", "\nFinal Answer:", "\nQuestion: ", "```json\n",
    "```", "{", "[", "(", "}", "]", "[[", "((", "**{", '{"a":', '{"name": ', '{"name": "f", "arguments": {', "{'api': ",
    '"', "'", '"""', "'''", '\\"', "\\", "'a''b'", "r'a' ",
    "f(", "a=", "f(a=", "f(a,", "f(a=b,", "[f(", "[f(a=[", "[f(x), ", "[f(a='\n", "1+", "=", "=1", "1=",
    "\\boxed{", "\\boxed ", "\\fbox", "\\text{", "\\frac{", "\\le ", "\\cup", "\\circ", "answer is ", "#### ", "$",
    "a ", "a", "a.", "cm ", "or ", "(A)", "/", "^", "√(", "½", "x<", ":", "-", "−",
    "0", "1.", "1,", "1,000", "1 000 ", "{,}", "5 million ", " ", "\n", "\t", "\r", "\r\n", "\u2028",
    "\u202e", "\x1b[31m", "\x9b", "\x00", "\ud800",
]
# fmt: on


def _apart(*messages: tuple[str, str]) -> None:
    with_tools_apart(Conversation([{"role": role, "content": text} for role, text in messages]), "hermes")


def _compared(text: str) -> None:
    answer, other = read_answer(text), read_answer("5" + text)
    same_by_sight(answer, answer)
    same_by_sight(answer, other)
    clash(answer, answer)
    lists_of_unlike_length(answer.latex, answer.latex)
    lists_of_unlike_length(other.latex, answer.latex)


def functions() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Whatever reads foreign text, by name."""
    for form in (None, *CALL_FORMATS):
        yield f"parse_response {form}", partial(parse_response, format=form)
    for form in ("rlla", "hermes", "python", "react"):
        yield f"read_calls {form}", lambda text, form=form: reference_calls.read_calls(text, form)
        yield f"read_reference {form}", lambda text, form=form: reference_calls.read_reference(text, form)
        yield (
            f"has_format parts {form}",
            lambda text, form=form: response_format.has_format(text, ("think", "call"), "parts", form),
        )
        yield f"last thought {form}", lambda text, form=form: _last_thought(text, form)
    for rule in ("rest", "toolrl"):
        yield (
            f"has_format {rule}",
            lambda text, rule=rule: response_format.has_format(text, ("think", "call", "answer"), rule),
        )
    yield "recognise_format", recognise_format
    yield "opened_thought", opened_thought
    yield "calls_from_openai", lambda text: calls_from_openai([{"function": {"name": "f", "arguments": text}}])
    yield "Python's literals", lambda text: decode(text, 0)
    yield "rlla's block", lambda text: reference_calls.read_calls("<tool_call>" + text + "\n</tool_call>")
    yield "tools in a user's prompt", lambda text: _apart(("user", text), ("assistant", text))
    yield "tools in a system prompt", lambda text: _apart(("system", text), ("assistant", text))
    yield (
        "SEAL's prompt",
        lambda text: _apart(("user", f'\napi_list = [{text}]\ntask_instruction = "q"\nOutput:')),
    )
    yield (
        "ToolACE's prompt",
        lambda text: _apart(
            (
                "system",
                f"\nHere is a list of functions in JSON format that you can invoke:[{text}]\n"
                "Should you decide to return the function call(s).",
            ),
            ("user", "x"),
            ("assistant", text),
        ),
    )
    yield "regions", region_spans
    for form in ("rlla", "hermes"):
        yield f"closed regions {form}", lambda text, form=form: region_spans(text, form, closed=True)
    yield "format_spans", format_spans
    yield "scan_json", lambda text: scan_json("[" + text, 0, call_level=True)
    yield "answers compared", _compared
    yield "unit_name", unit_name
    yield "plain", lambda text: plain(text + "½")
    yield "boxed_answer", boxed_answer
    yield "final_answer", final_answer
    yield "final_answer numeric", lambda text: final_answer(text, numeric=True)


def texts(piece: str, length: int, forms: int) -> list[str]:
    """The piece over and over; in a call; between words."""
    run = piece * (length // len(piece))
    return [run, "\n<tool_call>\n" + run, f"x{run}x"][:forms]


def problem(function: Callable[[str], object], text: str) -> str:
    """What is wrong with how it ends; nothing, if it ends well: with a value, or one line for the user."""
    try:
        function(text)
    except InputError as error:
        said = str(error)
        return "" if said.isprintable() and len(said) < 600 else f"an error that is no clear line: {said[:80]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    return ""


def main() -> None:
    length, forms = map(int, sys.argv[1:])
    for name, function in functions():
        for piece in PIECES:
            print(json.dumps([name, piece]), flush=True)
            for text in texts(piece, length, forms):
                start = time.process_time()
                said = problem(function, text)
                print(json.dumps([name, piece, time.process_time() - start, said]), flush=True)


if __name__ == "__main__":
    main()
