"""Spans projected onto tokens, and format labels by rule."""

import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan
from rolewise.data.spans import project
from rolewise.roles.json_format import FIXED_KEYS, scan_json
from rolewise.roles.regex import format_spans, label_format, sure_format_mask

DATA = Path(os.environ.get("ROLEWISE_DATA") or Path(__file__).parents[2] / "shared" / "data")
RLLA = DATA / "toolrl_rlla" / "rlla_sft.jsonl"
FIREACT = DATA / "fireact" / "gpt_format__multitask_multimethod.jsonl"

C, R, F = int(Role.CONTEXT), int(Role.REASONING), int(Role.FORMAT)


def offsets(*pairs):
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def slow_project(spans, starts, ends, default):
    """The definition, token by token and span by span."""
    roles = []
    for start, end in zip(starts, ends, strict=True):
        holders = [span.role for span in spans if start < end and span.start <= start and end <= span.end]
        roles.append(holders[0] if holders else default)
    return roles


def marked(text):
    """The text with its FORMAT characters in brackets."""
    spans = format_spans(text)
    assert spans == sorted(spans)
    for before, after in itertools.pairwise(spans):
        assert before.end < after.start, "spans that touch were not merged"
    parts, position = [], 0
    for start, end, role in spans:
        assert role is Role.FORMAT
        assert 0 <= start < end <= len(text)
        parts += [text[position:start], "⟦", text[start:end], "⟧"]
        position = end
    return "".join([*parts, text[position:]])


def byte_level_tokenizer(texts, vocab_size=400):
    """A byte-level BPE tokenizer, as most models have, trained on the spot."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# --- project


@st.composite
def spans_and_tokens(draw):
    bounds = sorted(draw(st.lists(st.integers(0, 30), max_size=10)))
    spans = [
        RoleSpan(start, end, draw(st.sampled_from(Role))) for start, end in zip(bounds[::2], bounds[1::2], strict=False)
    ]
    tokens = draw(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 4)), max_size=20))
    return spans, [(start, start + length) for start, length in tokens]


@given(spans_and_tokens())
def test_project_gives_a_token_the_role_of_the_span_that_holds_it(case):
    spans, tokens = case
    starts, ends = offsets(*tokens)
    roles = project(spans, starts, ends, default=Role.PLAIN)
    assert roles.dtype == np.uint8
    assert roles.tolist() == slow_project(spans, starts, ends, Role.PLAIN)


def test_project_takes_whole_tokens_only():
    spans = [RoleSpan(0, 3, Role.REASONING), RoleSpan(3, 5, Role.REASONING), RoleSpan(7, 9, Role.FORMAT)]
    starts, ends = offsets((0, 3), (2, 4), (3, 5), (4, 6), (5, 7), (7, 7), (8, 9), (8, 10))
    assert project(spans, starts, ends).tolist() == [R, C, R, C, C, C, F, C]


def test_project_gives_the_pieces_of_one_character_its_role():
    text = "a😀"
    encoding = byte_level_tokenizer(["a"], vocab_size=256).encode(text)
    assert len(encoding.offsets) == 5  # one letter, four bytes that share one character
    starts, ends = offsets(*encoding.offsets)
    assert project([RoleSpan(1, 2, Role.FORMAT)], starts, ends).tolist() == [C, F, F, F, F]


@pytest.mark.parametrize("bounds", [[(0, 3), (2, 5)], [(4, 5), (0, 1)], [(3, 2)], [(0, 2), (5, 4)]])
def test_project_refuses_spans_that_overlap_or_are_out_of_order(bounds):
    with pytest.raises(ValueError, match="overlap or are out of order"):
        project([RoleSpan(start, end, Role.FORMAT) for start, end in bounds], *offsets((0, 1)))


def test_project_refuses_unequal_offsets():
    with pytest.raises(ValueError, match="starts"):
        project([], np.zeros(2, dtype=np.int32), np.zeros(3, dtype=np.int32))


# --- JSON in tool calls


def reference_json(value, call_level, draw_space):
    """Write a value as JSON; return its characters and, by construction, which of them are format."""
    if isinstance(value, dict):
        parts = [("{", True)]
        for number, (key, child) in enumerate(value.items()):
            parts += [(",", True)] if number else []
            fixed = call_level and key in FIXED_KEYS
            parts += [(draw_space(), True), ('"', True), (json.dumps(key)[1:-1], fixed), ('"', True)]
            parts += [(draw_space(), True), (":", True), (draw_space(), True)]
            wraps = fixed and key in ("function", "function_call", "tool_call", "tool_calls")
            parts += reference_json(child, wraps, draw_space)
        return [*parts, (draw_space(), True), ("}", True)]
    if isinstance(value, list):
        parts = [("[", True)]
        for number, child in enumerate(value):
            parts += [(",", True)] if number else []
            parts += [(draw_space(), True), *reference_json(child, call_level, draw_space)]
        return [*parts, ("]", True)]
    if isinstance(value, str):
        return [('"', True), (json.dumps(value, ensure_ascii=len(value) % 2 == 0)[1:-1], False), ('"', True)]
    return [(json.dumps(value), False)]


HARD_TEXT = st.text(st.sampled_from('{}[]:,"\\/ \n\tnaé😀<>'), max_size=8) | st.sampled_from(
    ["<think>", "</tool_call>"]
)
KEYS = st.sampled_from(sorted(FIXED_KEYS)) | HARD_TEXT
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | HARD_TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4) | st.lists(VALUES, max_size=3), st.data())
def test_json_is_told_apart_character_by_character(value, data):
    parts = reference_json(value, True, lambda: data.draw(st.sampled_from(["", " ", "\n  "])))
    text = "".join(part for part, _ in parts)
    expected = [is_format for part, is_format in parts for _ in part]
    assert json.loads(text) == value
    scan = scan_json(text + "tail", 0, call_level=True)
    assert (scan.complete, scan.end) == (True, len(text))
    got = [False] * len(text)
    for start, end in scan.spans:
        got[start:end] = [True] * (end - start)
    assert got == expected


@given(VALUES, st.data())
def test_cut_json_is_labelled_as_far_as_it_goes(value, data):
    text = json.dumps({"name": "f", "arguments": {"x": value}})
    cut = data.draw(st.integers(1, len(text)))
    whole, part = scan_json(text, 0, call_level=True), scan_json(text[:cut], 0, call_level=True)
    labelled = {position for span in whole.spans for position in range(*span)}
    assert {position for span in part.spans for position in range(*span)} <= labelled
    assert part.end <= cut
    assert part.complete == (cut == len(text))


@pytest.mark.parametrize(
    "expected",
    [
        # The fixed keys whole; of argument names and of values the quotes.
        '⟦{"name": "⟧Search⟦", "arguments": {"⟧name⟦": "⟧Alex⟦", "⟧n⟦": ⟧5⟦, "⟧l⟦": [⟧true⟦, "⟧a⟦"]}}⟧',
        # Signs within strings are not structure; nor are escaped quotes.
        '⟦{"name": "⟧a{}:,[]⟦", "arguments": {"⟧q⟦": "⟧say \\"hi\\", {\\"name\\": 1}\\\\⟦"}}⟧',
        # OpenAI's shape, where the arguments are a string.
        '⟦[{"id": "⟧c1⟦", "type": "⟧function⟦", "function": {"name": "⟧f⟦", "arguments": "⟧{\\"a\\": 1}⟦"}}]⟧',
        '⟦{"tool_calls": [{"name": "⟧f⟦", "parameters": {}}, {"name": "⟧g⟦", "parameters": {}}]}⟧',
        # Tags in a value are its own.
        '⟦{"name": "⟧f⟦", "arguments": {"⟧html⟦": "⟧<think></tool_call>⟦"}}⟧',
        "Calling it now.⟦\n{⟧".replace("{⟧", '{"name": "⟧f⟦", "arguments": {}}\n⟧Done.'),
        '⟦[TOOL_CALLS] [{"name": "⟧f⟦", "arguments": {"⟧città⟦": "⟧Malmö 😀⟦"}}]⟧',
    ],
)
def test_json_tool_calls(expected):
    assert marked(expected.replace("⟦", "").replace("⟧", "")) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "born": 1815}',  # an answer in JSON, not a call
        'The call {"name": "f", "arguments": {}} is wrong.',
        '{"name": "f", "arguments": {}} is wrong.',
        '{"name": "f", "arguments": {',
        "[1, 2, 3]",
        "[link]: see {this}",
        'f(x) = {"arguments": 1}',
        '{"data": {"arguments": 1}}',
        "a < b > c, <b>bold</b>, <thinker>, </ think>",
    ],
)
def test_what_only_looks_like_a_call_is_left_alone(text):
    assert marked(text) == text


@pytest.mark.parametrize(
    "expected",
    [
        '⟦<tool_call>\n{"name": "⟧f⟦", "arguments": {"⟧a⟦": "⟧cut here',
        '⟦<tool_call>{"name": "⟧f⟦</tool_call>⟧',  # the quote left open does not swallow the tag
        '⟦<tool_call>\n{"name": "⟧f⟦\n</tool_call>\nThought: ⟧he said "no"',  # nor the next lines
        '⟦<tool_call>\n{"name": "⟧f⟦", "arguments": {⟧oops}⟦\n</tool_call>⟧',
        '⟦<tool_call>\n{"name": "⟧f⟦"⟧ "again": 1}⟦\n</tool_call>⟧',
        '⟦<functioncall> {"name": "⟧f⟦", "arguments":⟧ \'{"a": 1}\'}',  # Glaive's quotes are not JSON's
        "⟦<tool_call>\n{⟧{}}",
        '⟦Action Input: {"⟧a⟦":⟧ None}',
    ],
)
def test_broken_json_is_labelled_up_to_where_it_breaks(expected):
    assert marked(expected.replace("⟦", "").replace("⟧", "")) == expected


# --- tags and fields


@pytest.mark.parametrize(
    "expected",
    [
        '⟦<think> ⟧Easy.⟦ </think>\n<tool_call>\n{"name": "⟧f⟦", "parameters": {}}\n'
        '{"name": "⟧g⟦", "parameters": {}}\n</tool_call>\n<response> ⟧Done.⟦ </response><|im_end|>\n⟧',
        # A mention in prose is not a tag; the same tag in use is one.
        "⟦<think> ⟧It goes within <tool_call> tags, no <response> yet.⟦ </think>\n<tool_call>\n"
        '{"name": "⟧f⟦", "parameters": {}}\n</tool_call>⟧',
        "Put it between <answer></answer>, then stop.",
        "⟦<think> ⟧The <think> tag opens this.⟦ </think>\n⟧Hi.",
        "⟦<think>\n\n</think> <response> ⟧Cut here",
        # Within a line, but opened and closed around something.
        "I need facts.⟦ <search> ⟧capital of Chad⟦ </search> ⟧and then⟦ <answer>⟧N'Djamena⟦</answer>⟧.",
        # The template opened the thought.
        "So 4.⟦\n</think>\n\n⟧The answer is 4.⟦<|im_end|>⟧",
        "So 4.⟦ </think> ⟧The answer is 4.",
        'Sure.⟦ <tool_call>{"name": "⟧f⟦", "arguments": {}}</tool_call>⟧',
        "⟦<tool_call>\n⟧f(a=1)⟦\n</tool_call>⟧",
        "A <|im_end|> in the middle is text.",
    ],
)
def test_tags(expected):
    assert marked(expected.replace("⟦", "").replace("⟧", "")) == expected


@pytest.mark.parametrize(
    "expected",
    [
        "⟦Thought: ⟧I should search.⟦\nAction: ⟧search[Chad]",
        '⟦Thought: ⟧go⟦\nAction: ⟧f⟦\nAction Input: {"⟧name⟦": "⟧x⟦", "⟧arguments⟦": [⟧1⟦, {"⟧id⟦":⟧⟦ ⟧2⟦}]}⟧',
        "⟦Thought 12: ⟧x⟦\nAction 12: ⟧finish[A]⟦\nObservation 12: ⟧ok",
        "⟦Final Answer: ⟧42",
        '⟦Action: {"action": "⟧f⟦", "action_input": {"⟧q⟦": "⟧z⟦"}}⟧',
        '⟦Action:\n⟧```json⟦\n{\n  "action": "⟧f⟦",\n  "action_input": "⟧z⟦"\n}\n⟧```',
        "⟦Action: ⟧[search]",
        "My Thought: no. Action: no. Actions: no.\nThoughtful: no",
    ],
)
def test_react_fields(expected):
    expected = expected.replace("⟧⟦", "")
    assert marked(expected.replace("⟦", "").replace("⟧", "")) == expected


@given(
    st.lists(
        st.sampled_from(
            [
                *'{}[]:,"\\ \n1a',
                "<think>",
                "</think>",
                "<tool_call>",
                "</tool_call>",
                "Action Input:",
                '"name"',
                "\nThought:",
            ]
        )
    )
)
def test_any_text_gives_spans_in_order(pieces):
    text = "".join(pieces)
    assert marked(text).replace("⟦", "").replace("⟧", "") == text


@pytest.mark.parametrize(
    "text",
    [
        "{" * 10**6,
        "[" * 10**5,
        "[\n" * 10**5,
        '"\\' * 10**5,
        '{"' + '"\\' * 10**5,
        '<tool_call>{"' * 10**5,
        '<tool_call>{"\\"' * 10**5,
        '<tool_call>\n{"' + "\\\\" * 10**5,
        '\nAction Input: {"a":' * 10**5,
        "<think>x" * 10**5,
        " <think> \n" * 10**5,
        "\n" * 10**6,
        " " * 10**6 + "<think>",
        ("<think>" + " " * 1000) * 500,
        "\n[1," * 10**5,
    ],
    ids=lambda text: repr(text[:16]),
)
def test_hostile_text_takes_linear_time(text):
    start = time.perf_counter()
    spans = format_spans(text)
    assert time.perf_counter() - start < 20  # each takes under two seconds on a slow core; squared, minutes
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


# --- tokens


def test_tokens_of_a_rendered_sample():
    turns = [
        "<think>\nUse <tool_call>.\n</think>\n",
        '<tool_call>\n{"name": "f", "arguments": {"name": "Zoë"}}\n</tool_call><|im_end|>',
    ]
    head, middle = "<|im_start|>assistant\n", '<|im_end|>\n<tool_response>\n{"name": 1}\n<|im_start|>assistant\n'
    text = head + turns[0] + middle + turns[1] + "\n"
    second = len(head + turns[0] + middle)
    spans = [(len(head), len(head + turns[0])), (second, second + len(turns[1]))]
    encoding = byte_level_tokenizer([text] * 20, vocab_size=270).encode(text)
    starts, ends = offsets(*encoding.offsets)

    roles = label_format(text, starts, ends, spans)
    sure = sure_format_mask(text, starts, ends, spans)

    assert roles.dtype == np.uint8
    assert sure.dtype == np.bool_
    expected = []
    for start, end in encoding.offsets:
        role = C
        for turn_start, turn_end in spans:
            if turn_start <= start and end <= turn_end:
                covered = {p for span in format_spans(text[turn_start:turn_end]) for p in range(span.start, span.end)}
                role = F if set(range(start - turn_start, end - turn_start)) <= covered else R
        expected.append(role)
    assert roles.tolist() == expected
    assert set(expected) == {C, R, F}
    assert sure.tolist() == [
        role == F and bool(text[s:e].strip()) for role, (s, e) in zip(expected, encoding.offsets, strict=True)
    ]
    assert (roles == F).sum() > sure.sum() > 0


def test_tokens_that_join_structure_and_content_are_content():
    text = '<tool_call>{"name": "f"}'
    tokens = [(0, 11), (11, 13), (13, 17), (17, 20), (20, 22), (22, 24)]
    starts, ends = offsets(*tokens)
    assert [text[a:b] for a, b in tokens][4] == '"f'
    assert label_format(text, starts, ends, [(0, len(text))]).tolist() == [F, F, F, F, R, F]


@pytest.mark.skipif(not RLLA.exists(), reason=f"{RLLA} is absent; set ROLEWISE_DATA to the data folder")
def test_real_tool_calls_give_thousands_of_sure_tokens():
    with RLLA.open(encoding="utf-8") as lines:
        outputs = [json.loads(next(lines))["output"] for _ in range(96)]
    tokenizer = byte_level_tokenizer(outputs, vocab_size=4000)
    total = 0
    for output in outputs:
        starts, ends = offsets(*tokenizer.encode(output).offsets)
        total += sure_format_mask(output, starts, ends, [(0, len(output))]).sum()
        spans = [output[span.start : span.end].strip() for span in format_spans(output)]
        # What is labelled is made of structure alone.
        words = {
            word for span in spans for word in "".join(c if c.isalpha() or c == "_" else " " for c in span).split()
        }
        assert words <= {"think", "tool_call", "response", "name", "parameters", "Thought"}
        assert output[0 : len("<think>")] == spans[0]
    assert total >= 2000


@pytest.mark.skipif(not FIREACT.exists(), reason=f"{FIREACT} is absent; set ROLEWISE_DATA to the data folder")
def test_real_react_fields_are_found():
    found = 0
    with FIREACT.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(50), strict=False):
            for message in json.loads(line)["messages"]:
                if message["role"] == "assistant" and message["content"].startswith("Thought: "):
                    labels = [
                        message["content"][span.start : span.end].strip() for span in format_spans(message["content"])
                    ]
                    assert labels[0] == "Thought:"
                    assert set(labels) <= {"Thought:", "Action:"}
                    found += 1
    assert found > 50
