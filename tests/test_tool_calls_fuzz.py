"""Tool calls under hostile text: no exception, spans that cover, round trips, and work linear in the length."""

import random
import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tool_calls import RESPONSES, check_cover

import rolewise.data.tool_calls.call_formats
from rolewise.core.errors import InputError
from rolewise.data.tool_calls import CALL_FORMATS, ParsedCall, parse_response, recognise_format, write_calls

PARTS = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<response>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    *("<|python_tag|>", "<|im_end|>", "\nThought:", "\nAction:", "\nAction Input:", "\nFinal Answer:", "[THINK]"),
    *('{"name": "f", ', '"arguments": ', '"parameters": ', "{'api': 'f', 'parameters': {", '"function": {', "f(", "a="),
    *("{", "}", "[", "]", "(", ")", '"', "'", '"""', "\\", ",", ":", ";", "\n", " ", "**", "=", "1e9", "-", "é", "😀"),
    *("\x00", "\ud800", "\u2028", "null", "True", "NaN", "f'", 'b"', "name", "9" * 5000),
]
NAMES = st.from_regex(r"[a-z_][a-z_0-9]{0,8}(\.[a-z]{1,4})?", fullmatch=True)
TEXTS = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=12),
    st.lists(st.sampled_from([part for part in PARTS if part != "\ud800"]), max_size=4).map("".join),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ARGUMENT_NAMES = (
    st.sampled_from(["name", "arguments", "parameters", "function", "0", "1", "first name", "class"]) | TEXTS
)
CALLS = st.lists(
    st.builds(ParsedCall, NAMES, st.dictionaries(ARGUMENT_NAMES, VALUES, max_size=4)), min_size=1, max_size=3
)


def pairs(calls):
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("format", [name for name in CALL_FORMATS if name != "fireact"])
@settings(max_examples=25, deadline=None)
@given(calls=CALLS)
@example(calls=[ParsedCall("f", {"a ": None, "b\n": 1})])
def test_what_is_written_reads_back(format, calls):
    text = write_calls(calls, format)
    response = parse_response(text, format)
    check_cover(text, response)
    assert repr(pairs(response.calls)) == repr(pairs(calls))  # repr tells True from 1
    for call in response.calls:
        assert text[slice(*call.name_span)] == call.name
    if format != "rlla" or "arguments" not in calls[0].arguments:
        assert recognise_format(text) == format


@settings(max_examples=25, deadline=None)
@given(name=NAMES, query=TEXTS)
def test_fireact_reads_back_or_is_refused(name, query):
    call = ParsedCall(name, {"0": query})
    try:
        text = write_calls([call], "fireact")
    except InputError:
        assert not query.isprintable() or "\n" in query
        return
    assert pairs(parse_response(text, "fireact").calls) == pairs([call])


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.sampled_from(PARTS), max_size=25).map("".join), format=st.sampled_from([None, *CALL_FORMATS]))
def test_any_text_is_covered(text, format):
    response = parse_response(text, format)
    check_cover(text, response)
    assert all(0 <= part.start <= part.end <= len(text) for part in response.segments)


def mutated(text, rng):
    """The text with one to six characters or stretches cut out, doubled, swapped or put in."""
    for _ in range(rng.randint(1, 6)):
        a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        b = min(b, a + rng.choice([1, 1, 5, 30]))
        choice = rng.randrange(5)
        if choice == 0:
            text = text[:a] + text[b:]
        elif choice == 1:
            text = text[:b] + text[a:]
        elif choice == 2:
            text = text[:a] + rng.choice(PARTS[:-1]) + text[a:]
        elif choice == 3:
            text = text[:a] + text[a:b][::-1] + text[b:]
        else:
            text = text[:a]
    return text


def valid_calls_of_mutations(count, seed):
    """Calls that are still valid in so many mutated responses, each of which is checked for what its spans cover."""
    rng = random.Random(seed)
    texts = [text for text, _ in RESPONSES.values()]
    formats = [None, *CALL_FORMATS]
    valid = 0
    for _ in range(count):
        text = mutated(rng.choice(texts) + rng.choice(["", "\n"]) + rng.choice(["", *texts]), rng)
        response = parse_response(text, rng.choice(formats))
        check_cover(text, response)
        valid += sum(call.valid for call in response.calls)
    return valid


def test_mutated_responses():
    assert valid_calls_of_mutations(1_000, seed=1) > 50, "the mutations leave too little to parse"


@pytest.mark.slow
def test_a_hundred_thousand_mutated_responses():
    assert valid_calls_of_mutations(100_000, seed=2) > 5_000, "the mutations leave too little to parse"


class CountingPattern:
    """A compiled pattern that counts the characters between where it was asked to begin and where it came to."""

    def __init__(self, pattern, counter):
        self.pattern, self._counter, self._compiled = pattern.pattern, counter, pattern

    def __getattr__(self, name):
        method = getattr(self._compiled, name)

        def counted(text, position=0, end=sys.maxsize):
            match = method(text, position, end)
            reached = match.end() if match else min(end, len(text)) if name == "search" else position
            self._counter[0] += reached - position + 1
            return match

        return counted


@pytest.fixture
def visited(monkeypatch):
    """A counter of the characters that the parsers' patterns and decoders went over."""
    counter = [0]
    prefix = "rolewise.data.tool_calls."
    for name, module in list(sys.modules.items()):
        if not name.startswith(prefix):
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, attribute, CountingPattern(value, counter))
            elif attribute in ("_STRING_STOP", "_ESCAPES"):
                for quote, pattern in list(value.items()):
                    if isinstance(pattern, re.Pattern):
                        monkeypatch.setitem(value, quote, CountingPattern(pattern, counter))
    return counter


HOSTILE = {
    "openers": lambda n: "<tool_call>" * n,
    "open strings": lambda n: '<tool_call>{"a' * n,
    "open strings on lines": lambda n: '<tool_call>{"name": "a\n' * n,
    "strings that hold tags": lambda n: '<tool_call>["' + '</tool_call><tool_call>["' * n,
    "escapes": lambda n: '<tool_call>{"name": "' + '\\"' * n,
    "open brackets": lambda n: '<tool_call>{"name": "f", "arguments": ' + "[" * n,
    "deep and closed": lambda n: '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * n + "]" * n + "}}",
    "bare openers on lines": lambda n: "[{\n" * n,
    "bare objects": lambda n: '{"name": 1}\n' * n,
    "array of broken calls": lambda n: "[" + '{"name": "f", "arguments": {}, ' * n,
    "python": lambda n: "[f(" * n,
    "python on lines": lambda n: "[f(a='\n" * n,
    "python quotes": lambda n: "[f(a=" + "'\\" * n,
    "python three quotes": lambda n: "[f(" + "a='''\\" * n,
    "python sums": lambda n: "[f(a=" + "1+" * n + "1)]",
    "python signs": lambda n: "[f(a=" + "-" * n + "1)]",
    "python attributes": lambda n: "[f(a=b" + ".c" * n + ")]",
    "python depth": lambda n: "[f(a=" + "(" * n + "1" + ")" * n + ")]",
    "python arguments": lambda n: "[f(" + "a=x, " * n + ")]",
    "labels": lambda n: "Action:\n" * n,
    "inputs": lambda n: "Action: a\nAction Input: b\n" * n,
    "mistral": lambda n: "[TOOL_CALLS]f[ARGS]{" * n,
    "spaces": lambda n: "<tool_call>" + " " * n,
    "blank lines": lambda n: "x" + "\n" * n + "[",
    "thoughts": lambda n: "<think></think>" * n,
    "seal": lambda n: "[{'api': 'f', 'parameters': {'a\n" * n,
    "digits": lambda n: '<tool_call>{"name": "f", "arguments": {"a": ' + "9" * n + "}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_linear(name, visited):
    sizes = (300, 600, 1_200)
    for format in (None, *CALL_FORMATS):
        work = []
        for size in sizes:
            text = HOSTILE[name](size)
            visited[0] = 0
            check_cover(text, parse_response(text, format))
            work.append(visited[0] / len(text))
        assert work[-1] <= 20, f"{work[-1]:.0f} characters visited for each of {name} as {format}"
        assert work[-1] <= 1.2 * work[0] + 0.1, f"visited per character grow with the length: {work}, {format}"


def test_the_counter_sees_a_scan_from_every_place(visited):
    text = "x" * 500
    for position in range(len(text)):
        rolewise.data.tool_calls.call_formats._HINT.search(text, position)
    assert visited[0] > 100 * len(text)
