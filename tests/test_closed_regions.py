"""Regions that ResT's official code weights, against its rule written again with regular expressions for the test."""

import re
import time

import numpy as np
import pytest
import torch
from grpo_rollouts import make_trainer
from region_cases import ARGUMENTS, KEY, NAME, TAG, THINK, VALUE, cases

from rolewise.data.tool_calls import parse_response
from rolewise.rewards.reference_calls import read_calls
from rolewise.roles.regions import label_regions, region_spans
from rolewise.training.rollout_roles import call_regions
from rolewise.weighting import ResT, ResTOfficial, StaticResT
from rolewise.weighting.regions import weighs_closed

CALL = '{"name": "f", "parameters": {"x": 1}}'
PARTS = (NAME, ARGUMENTS, KEY, VALUE)


def slow_official(text, regions):
    """Of each character's region what stands in an element that is closed; by regular expressions and loops."""
    kept = [0] * len(text)
    for tag, inside in (("think", (THINK,)), ("response", ()), ("tool_call", PARTS)):
        for match in re.finditer(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            for place in range(*match.span()):
                in_tag = place < match.start(1) or place >= match.end(1)
                if regions[place] in inside or (in_tag and regions[place] == TAG):
                    kept[place] = regions[place]
    return kept


def of_characters(text, format, **options):
    leaves, arguments = region_spans(text, format, **options)
    regions = [0] * len(text)
    for start, end, region in [*arguments, *leaves]:
        regions[start:end] = [region] * (end - start)
    return regions


def test_responses_that_are_whole_cut_or_broken_equal_the_rule():
    changed = 0
    for case in (case for case in cases(600, seed=5) if case.format == "rlla"):
        # A thought without an end swallows nothing: the official code finds the calls in it.
        regions = of_characters(re.sub(r"<think>(?!.*</think>)", "." * 7, case.text, flags=re.DOTALL), "rlla")
        expected = slow_official(case.text, regions)
        open_calls = [call.arguments_span for call in parse_response(case.text, "rlla").calls if not call.valid]
        for span in filter(None, open_calls):
            if case.text[slice(*span)].count("{") != case.text[slice(*span)].count("}"):
                expected[slice(*span)] = [0] * (span[1] - span[0])
        found = of_characters(case.text, "rlla", closed=True)
        weightless = {0, 7}  # the answer's own text counts 0 by its region
        found, expected = ([0 if r in weightless else r for r in row] for row in (found, expected))
        assert found == expected, case.text
        changed += found != [0 if r in weightless else r for r in regions]
    assert changed > 50


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>a thought without an end", []),
        ("words before a lone\n</think>\n", []),
        ("<think>a</think>\n<tool_call>\n" + CALL, ["<think>", "a", "</think>"]),
        ("<think>a\n<tool_call>\n" + CALL + "\n</tool_call>", ["<tool_call>", "f", "x", " 1", "</tool_call>"]),
        (CALL + "\n</tool_call>", []),
        ("<think>a</think>\n<response>b", ["<think>", "a", "</think>"]),
        ('<tool_call>\n{"name": "f", "parameters": {"x": [1}}\n</tool_call>', ["<tool_call>", "f", "</tool_call>"]),
        ("<tool_call>\n" + CALL + "\n</tool_call>", ["<tool_call>", "f", "x", " 1", "</tool_call>"]),
        ("Thought: a\nAction: f", ["Thought:", " a\n", "Action:", " f"]),
    ],
)
def test_what_is_kept_by_hand(text, kept):
    leaves, arguments = region_spans(text, "react" if text.startswith("Thought") else "rlla", closed=True)
    assert [text[start:end] for start, end, _ in leaves] == kept
    assert bool(arguments) == ("x" in kept)


@pytest.mark.parametrize("text", ["<think>no end", "so it is</think>", "<tool_call>\n" + CALL, "<response>b"])
def test_the_official_weights_of_what_is_not_closed_are_zero(text, chatml_tokenizer, tmp_path):
    """By the trainer, whichever way the weighting is named; `rest` gives these tokens weight."""
    ids = chatml_tokenizer(text)["input_ids"]
    for options in ({"weighting": None, "args_weighting": "rest-official"}, {"weighting": ResTOfficial()}):
        trainer = make_trainer(chatml_tokenizer, tmp_path, roles=None, call_format="rlla", **options)
        (regions_T,) = trainer.roles.label([chatml_tokenizer("<think>")["input_ids"]], [ids])
        assert not regions_T.any() or set(regions_T) <= {7}
        weights_BT = ResTOfficial().response_weights(
            torch.from_numpy(regions_T)[None], torch.ones(1, len(ids)).bool(), step=3
        )
        assert not weights_BT.any()
    trainer = make_trainer(chatml_tokenizer, tmp_path, roles=None, weighting=ResT(), call_format="rlla")
    (regions_T,) = trainer.roles.label([[]], [ids])
    assert regions_T.any()


def test_which_weightings_ask_for_closed_tags(chatml_tokenizer):
    assert weighs_closed(ResTOfficial())
    assert weighs_closed(StaticResT(ResTOfficial()))
    assert not weighs_closed(ResT())
    assert not weighs_closed(StaticResT(ResT()))
    ids = chatml_tokenizer("<think>a")["input_ids"]
    assert np.array_equal(
        label_regions([ids], chatml_tokenizer)[0], call_regions(chatml_tokenizer, None).label([[]], [ids])[0]
    )


# --- blocks that begin with something else than a call

FENCE = "```json\n{}\n```"
BLOCKS = {
    "a fence": (FENCE.format(CALL).replace("{}", CALL), True),
    "a fence on one line": (f"``` {CALL} ```", True),
    "two fences": (f"```\n{CALL}\n```\n```\n{CALL}\n```", True),
    "words": (f"I call: {CALL}", False),
    "a line of words": (f"Now I call it.\n{CALL}", False),
    "words and a fence": (f"Here:\n```json\n{CALL}\n```", False),
    "words and an array": (f"Both: [{CALL}, {CALL}]", False),
    "an array": (f"[{CALL},\n{CALL}]", True),
    "several lines": ('{\n  "name": "f",\n  "parameters": {\n    "x": 1\n  }\n}', True),
    "a fence and several lines": ('```json\n{\n  "name": "f",\n  "parameters": {\n    "x": 1\n  }\n}\n```', True),
    "spaces between": (f"{CALL} {CALL}", True),
    "a list of points": (f"- {CALL}\n- {CALL}", False),
    "words between": (f"First {CALL} and then {CALL}.", False),
    "an object around one": (f'{{"tool_call": {CALL}}}', False),
    "an object around two": (f'{{"tool_calls": [{CALL}, {CALL}]}}', False),
    "another key first": (f'So: {{"id": "1", {CALL[1:]}', False),
    "another object first": (f'From {{"id": 3, "type": "object"}}: {CALL}', False),
}


@pytest.mark.parametrize("format", [None, "rlla", "hermes"])
@pytest.mark.parametrize("name", BLOCKS)
def test_every_call_of_a_block_has_its_parts(name, format):
    """The reference finds names and arguments by searching for their text."""
    block, valid = BLOCKS[name]
    text = f"<think>a</think>\n<tool_call>\n{block}\n</tool_call>"
    leaves, arguments = region_spans(text, format)
    by_region = {region: [text[s:e] for s, e, r in leaves if r == region] for region in (TAG, NAME, KEY, VALUE)}
    count = text.count('"name"')
    assert by_region[NAME] == ["f"] * count
    assert by_region[KEY] == ["x"] * count
    assert by_region[VALUE] == [" 1"] * count
    assert "".join(by_region[TAG]) == "<think></think><tool_call></tool_call>"
    assert [text[s:e] for s, e, _ in arguments] == re.findall(r"\{\s*\"x\": 1\s*\}", text)
    assert [call.valid for call in parse_response(text, format).calls] == [valid] * count


def test_a_call_behind_words_on_a_calls_line_has_its_parts_and_is_not_valid():
    text = f"<tool_call>\n{CALL}\nand then {CALL}\n{CALL}\n</tool_call>"
    leaves, _ = region_spans(text, "rlla")
    assert [text[s:e] for s, e, r in leaves if r == NAME] == ["f"] * 3
    assert [call.valid for call in parse_response(text, "rlla").calls] == [True, False, True]


def test_what_stands_within_a_broken_call_is_no_call():
    text = f'<tool_call>\n{CALL}\n{{"name": "say", "parameters": {{"text": "he said "so" {CALL} "\n</tool_call>'
    leaves, _ = region_spans(text, "rlla")
    assert [text[s:e] for s, e, r in leaves if r == NAME] == ["f", "say"]


@pytest.mark.parametrize("block", ["Words: ", "```json\n", "", "```\n{", "Words {"])
def test_a_call_that_was_cut_keeps_its_name(block):
    text = f'<tool_call>\n{block}{{"name": "find", "parameters": {{"city": "Os'
    leaves, _ = region_spans(text, "rlla")

    assert [text[s:e] for s, e, r in leaves if r == NAME] == ["find"]
    assert [text[s:e] for s, e, r in leaves if r == VALUE] == ["Os"]


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_rewarded_is_narrower(name):
    """rlla: the published rule, each line of the block is JSON. The others: what the parser calls valid."""
    block, valid = BLOCKS[name]
    text = f"<think>a</think>\n<tool_call>\n{block}\n</tool_call>"
    assert read_calls(text, "rlla") is None
    assert (read_calls(text, "hermes") is not None) == valid


HOSTILE = [
    "<tool_call>",
    "<tool_call>\nx {",
    "\n<tool_call>\n```",
    "[ ",
    "{ ",
    "\n{ ",
    "\n[",
    '{"name":',
    'x {"id": 1} ',
    f"x {CALL} ",
    'x {"tool_calls": [{',
    "<think>",
    "</think>",
]


@pytest.mark.parametrize("part", [*HOSTILE, "<tool_call>\nwords " + CALL, "\n<tool_call>\n[" + " " * 50])
def test_hostile_texts_take_linear_time(part):
    """A hundred thousand characters; what is quadratic takes minutes."""
    start = time.process_time()
    for text in (part * (100_000 // len(part)), "\n<tool_call>\nwords " + part * (100_000 // len(part))):
        region_spans(text)
        region_spans(text, "rlla", closed=True)
    assert time.process_time() - start < 20
