"""Rewards for tool calls: by hand, and against the rules written again, slowly, for the test alone."""

import json
import random
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from datasets import Dataset
from grpo_rollouts import make_trainer
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.data.tool_calls import CALL_FORMATS, ParsedCall, write_calls
from rolewise.rewards.presets import REWARD_PRESETS
from rolewise.rewards.reference_calls import read_calls, read_reference
from rolewise.rewards.response_format import has_format
from rolewise.rewards.tool_calls import ToolCallRules, completion_text, tool_call_rewards
from rolewise.training.grpo import _check_data

FLAT = ToolCallRules()
WEATHER = '{"name": "weather", "parameters": {"city": "Oslo", "days": 3}}'
NEWS = '{"name": "news", "parameters": {}}'


def block(*lines, thought="Hm."):
    return f"<think>{thought}</think>\n<tool_call>\n" + "\n".join(lines) + "\n</tool_call>"


def scores(completions, references, rules=FLAT, step=0):
    """What the reward functions give, a tuple for each completion, called as TRL calls them."""
    columns = {rules.reference_column: references, "trainer_state": SimpleNamespace(global_step=step)}
    calls = {"prompts": [""] * len(completions), "completions": completions, "completion_ids": [[]] * len(completions)}
    return list(zip(*(reward(**calls, **columns) for reward in tool_call_rewards(rules)), strict=True))


def correctness_of(completion, reference, **options):
    return scores([completion], [reference], ToolCallRules(**options))[0][1]


# --- by hand: attainable are 1 for the names, and for each call 1 for its parameters' names and 1 a value


@pytest.mark.parametrize(
    ("lines", "share"),
    [
        ([WEATHER], 1.0),
        # Names 1, parameter names 1, one value of two: 3 of 4.
        (['{"name": "weather", "parameters": {"city": "Oslo", "days": 4}}'], 3 / 4),
        # Names 1, parameter names 1/3 (city; days or when), one value.
        (['{"name": "weather", "parameters": {"city": "Oslo", "when": 3}}'], (1 + 1 / 3 + 1) / 4),
        (['{"name": "wether", "parameters": {"city": "Oslo", "days": 3}}'], 0.0),
        # A call too many: names 1/2, the rest whole.
        ([WEATHER, NEWS], (1 / 2 + 3) / 4),
        # The same call twice: names 1/2; the second finds no reference.
        ([WEATHER, WEATHER], (1 / 2 + 3) / 4),
        # The better of two is taken, wherever it stands.
        (['{"name": "weather", "parameters": {"city": "Rome"}}', WEATHER], (1 / 2 + 3) / 4),
        (['{"name": "weather", "parameters": {}}'], 1 / 4),
    ],
)
def test_correctness_by_hand(lines, share):
    assert correctness_of(block(*lines), block(WEATHER)) == pytest.approx(-3 + 6 * share)
    assert correctness_of(block(*lines), block(WEATHER), correctness_max=1.0) == pytest.approx(-1 + 2 * share)


def test_calls_in_another_order_are_right_too():
    assert correctness_of(block(NEWS, WEATHER), block(WEATHER, NEWS)) == pytest.approx(3)
    assert correctness_of(block(NEWS, WEATHER), block(WEATHER, NEWS), granularity="coarse") == -3


def test_the_first_reference_call_chooses_first():
    wanted = ['{"name": "f", "parameters": {"a": 1}}', '{"name": "f", "parameters": {"a": 1, "b": 2}}']
    found = ['{"name": "f", "parameters": {"a": 1, "b": 2}}']
    # Names 1/2; the first call takes the only one: 1/2 for the names of parameters, 1 for a. Attainable 1 + 2 + 3.
    assert correctness_of(block(*found), block(*wanted)) == pytest.approx(-3 + 6 * (1 / 2 + 1 / 2 + 1) / 6)


@pytest.mark.parametrize(
    ("granularity", "share"),
    [
        ("original", (2 / 3 + (1 / 2 + 1) + 1) / 4),
        ("finegrained", (0 + (0 + 1) + 1) / 4),
        ("intermediate", (2 / 3 + 0 + 1) / 3),
        ("coarse", 0.0),
    ],
)
def test_granularities_by_hand(granularity, share):
    """Wanted are f(a) and g(), found f(a, b), g() and g()."""
    wanted = ['{"name": "f", "parameters": {"a": 1}}', '{"name": "g", "parameters": {}}']
    found = ['{"name": "f", "parameters": {"a": 1, "b": 2}}', wanted[1], wanted[1]]
    assert correctness_of(block(*found), block(*wanted), granularity=granularity) == pytest.approx(-3 + 6 * share)
    assert correctness_of(block(*wanted), block(*wanted), granularity=granularity) == 3


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "<think>x</think>",
        "<tool_call>",
        block(WEATHER).replace("</tool_call>", ""),
        block(WEATHER, "", NEWS),
        block(WEATHER + ","),
        block(f"[{WEATHER}]"),
        block('{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}'),
        block('{"name": 1, "parameters": {}}'),
        block('{"name": "weather", "parameters": []}'),
        block('{"name": "weather", "parameters": {"a": NaN}}'),
        block('{"name": "weather", "parameters": {"a": 1e999}}'),
        block('{"name": "weather", "parameters": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}}"),
        block('{"name": "weather", "parameters": {"a": ' + "9" * 5_000 + "}}"),
        "</tool_call>\n<tool_call>\n" + WEATHER + "x",
    ],
)
def test_calls_that_cannot_be_read_get_the_least(completion):
    assert correctness_of(completion, block(WEATHER)) == -3


def test_only_the_first_block_counts():
    assert correctness_of(block(WEATHER) + "\n<tool_call>\nbroken\n</tool_call>", block(WEATHER)) == 3
    assert correctness_of(f"<tool_call>{NEWS}<tool_call>{WEATHER}</tool_call>", block(NEWS)) == 3


def test_a_reference_without_a_call_gives_nothing():
    for completion in (block(WEATHER), "", "<think>a</think>\n<response>b</response>"):
        assert correctness_of(completion, "<think>a</think>\n<response>b</response>") == 0
        assert correctness_of(completion, "[]") == 0


# --- format

CALL, ANSWER, BOTH = ("think", "call"), ("think", "answer"), ("think", "call", "answer")


@pytest.mark.parametrize(
    ("text", "parts", "rest", "toolrl"),
    [
        ("<think>a</think>\n<tool_call>\nb\n</tool_call>", CALL, True, True),
        ("  <think>a</think>\n<tool_call>\nb\n</tool_call>\n", CALL, True, True),
        ("so <think>a</think> <tool_call>b</tool_call> end", CALL, True, False),
        ("<think>a</think>\n<tool_call>\n</tool_call>", CALL, True, False),
        ("<think>a</think>\n<tool_call>\n\n</tool_call>", CALL, True, True),
        ("<tool_call>\nb\n</tool_call>\n<think>a</think>", CALL, False, False),
        ("<think>a\n<tool_call>\nb\n</tool_call>", CALL, False, False),
        ("<think>a</think>\n<tool_call>\nb\n</tool_call>\n<tool_call>\nb\n</tool_call>", CALL, False, False),
        ("<think>a</think>\n<tool_call>\nb\n</tool_call>\n<response>c</response>", CALL, False, False),
        ("<think>a</think>\n<tool_call>\nb\n</tool_call>\n<response>c</response>", BOTH, True, True),
        ("<think>a</think>\n<response>c</response>\n<tool_call>\nb\n</tool_call>", BOTH, False, False),
        ("<think>a</think>\n<tool_call>\nb\n</tool_call> <response>c</response>", BOTH, True, False),
        ("<think>a</think>\n<response>c</response>", ANSWER, True, True),
        ("<think>a</think><response>c</response>", ANSWER, True, False),
        ("<think>a</think>\n<response>c</response> bye", ANSWER, True, False),
        ("<think>a</think>\n<response>c</response>\n<response>c</response>", ANSWER, False, False),
        ("<response>c</response>", ANSWER, False, False),
        ("<think>a</think>", ("think",), True, True),
        ("<think>a</think>b</think>", ("think",), False, True),
        ("</think>a<think>", ("think",), False, False),
        ("<think></think", ("think",), False, False),
        ("", ("think",), False, False),
    ],
)
def test_formats_by_hand(text, parts, rest, toolrl):
    assert has_format(text, parts, "rest") is rest
    assert has_format(text, parts, "toolrl") is toolrl


@pytest.mark.parametrize("call_format", CALL_FORMATS)
def test_parts_in_every_format(call_format):
    arguments = {"0": "x"} if call_format == "fireact" else {"a": 1}
    calls = write_calls([ParsedCall("f", arguments), ParsedCall("g", arguments)], call_format)
    rules = ToolCallRules(format_rule="parts", call_format=call_format)
    thought = "Thought: hm\n" if "react" in call_format else "<think>hm</think>\n"
    text = thought + calls
    other = thought + write_calls([ParsedCall("f", arguments)], call_format)
    broken = thought + calls[: len(calls) // 2]
    listed = json.dumps([{"name": name, "arguments": arguments} for name in "fg"])
    for reference in (text, listed):
        # One call of two: names 1/2, its own 2 of 2; attainable 5.
        expected = [(1.0, 3.0), (1.0, pytest.approx(-3 + 6 * 2.5 / 5)), (0.0, -3.0), (0.0, -3.0)]
        found = scores([text, other, calls, "Hello"], [reference] * 4, rules)
        assert found[0] == expected[0]
        assert found[1] == expected[1]
        assert found[2] == (0.0, 3.0)
        assert found[3][1] == -3.0
        assert scores([broken], [reference], rules)[0][1] < 3


# --- ranges over a run


@pytest.mark.parametrize(
    ("rules", "step", "formats", "corrects"),
    [
        (ToolCallRules(), 1_000, (0, 1), (-3, 3)),
        (REWARD_PRESETS["toolrl"], 0, (0, 1), (-3, 3)),
        (REWARD_PRESETS["rest"], 0, (-2, 2), (-2, 2)),
        (REWARD_PRESETS["rest"], 30, (-1.6, 1.8), (-2.2, 2.2)),
        (REWARD_PRESETS["rest"], 75, (-1, 1.5), (-2.5, 2.5)),
        (REWARD_PRESETS["rest"], 105, (-1, 1.3), (-2.7, 2.7)),
        (REWARD_PRESETS["rest"], 150, (-1, 1), (-3, 3)),
        (REWARD_PRESETS["rest"], 10_000, (-1, 1), (-3, 3)),
        (ToolCallRules(schedule="dynamic", schedule_steps=15), 3, (-1.6, 1.8), (-2.2, 2.2)),
        (ToolCallRules(schedule="dynamic", steps_per_rollout=4), 123, (-1.6, 1.8), (-2.2, 2.2)),
        (ToolCallRules(schedule="two-stage"), 29, (0, 1), (-1, 1)),
        (ToolCallRules(schedule="two-stage"), 30, (0, 0.5), (-3, 3)),
        (ToolCallRules(correctness_max=1.0), 0, (0, 1), (-1, 1)),
    ],
)
def test_ranges(rules, step, formats, corrects):
    found = scores(["nothing", block(WEATHER)], [block(WEATHER)] * 2, rules, step)
    assert [pair[0] for pair in found] == pytest.approx(formats)
    assert [pair[1] for pair in found] == pytest.approx(corrects)


@pytest.mark.parametrize(
    ("length", "step", "words", "reward"),
    [
        ("constant", 0, 256, 0.5),
        ("constant", 0, 100, 0.2),
        ("constant", 0, 900, 1.0),
        ("dynamic", 0, 192, 0.5),
        ("dynamic", 105, 320, 0.5),
        ("dynamic", 400, 320, 0.5),
    ],
)
def test_length(length, step, words, reward):
    thought = " ".join(["word"] * words)
    rules = ToolCallRules(length=length)
    completions = [block(WEATHER, thought=thought), thought, f"<think>{thought}", f"<think>a</think><think>{thought}"]
    found = [row[2] for row in scores(completions, [block(WEATHER)] * 4, rules, step)]
    assert found == pytest.approx([reward, 0, 0, reward])


@pytest.mark.parametrize(
    ("call_format", "text", "words"),
    [
        ("react", "Thought: one two\nAction: f\nAction Input: {}\nThought: one two three\nFinal Answer: x", 3),
        ("react", "Thought: one two three", 0),
        ("mistral", "[THINK]one two[/THINK]Hi", 2),
        ("hermes", "<think>one</think>\n<tool_call>", 1),
        ("hermes", "<think>one", 0),
    ],
)
def test_length_in_other_formats(call_format, text, words):
    rules = ToolCallRules(format_rule="parts", call_format=call_format, length="constant")
    text = text.replace("one", " ".join(["one"] * 64))
    (row,) = scores([text], ["[]"], rules)
    assert row[2] == pytest.approx(round((words + 63) / 512, 2) if words else 0)


# --- against the rules written again


def slow_jaccard(first, second):
    if first == second:
        return 1.0
    rest, common = list(second), 0
    for item in first:
        if item in rest:
            rest.remove(item)
            common += 1
    return common / (len(first) + len(rest))


def slow_correctness(text, reference, least, greatest):
    def lines(response):
        return [
            json.loads(line) for line in response.split("<tool_call>")[1].split("</tool_call>")[0].strip().split("\n")
        ]

    if "<tool_call>" not in reference:
        return 0.0
    wanted = lines(reference)
    try:
        assert "</tool_call>" in text
        found = lines(text)
        pairs = [(call["name"], list(call["parameters"])) for call in found]
    except (AssertionError, IndexError, ValueError, KeyError, TypeError):
        return least
    if wanted == found:
        return greatest
    score, attainable = slow_jaccard([call["name"] for call in wanted], [name for name, _ in pairs]), 1
    used = set()
    for call in wanted:
        attainable += 1 + len(call["parameters"])
        best, best_place = 0, None
        for place, other in enumerate(found):
            if place in used or other["name"] != call["name"]:
                continue
            s = slow_jaccard(list(call["parameters"]), list(other["parameters"]))
            for key in call["parameters"]:
                if key in other["parameters"] and other["parameters"][key] == call["parameters"][key]:
                    s += 1
            if s > best:
                best, best_place = s, place
        if best_place is not None:
            used.add(best_place)
            score += best
    return least + (greatest - least) * score / attainable


PATTERNS = {
    (True, False): r"<think>.*?</think>\n<tool_call>\n.*?\n</tool_call>",
    (False, True): r"<think>.*?</think>\n<response>.*?</response>",
    (True, True): r"<think>.*?</think>\n<tool_call>\n.*?\n</tool_call>\n<response>.*?</response>",
    (False, False): r"<think>.*?</think>",
}


def slow_format(text, reference, rule):
    """By regular expressions, ToolRL's as they are, ResT's as the order of the first tags."""
    text = text.strip()
    call, answer = "<tool_call>" in reference, "<response>" in reference
    tags = ["<tool_call>", "</tool_call>"] * call + ["<response>", "</response>"] * answer
    counts = Counter(re.findall(r"</?(?:think|tool_call|response)>", text))
    if rule == "toolrl":
        return bool(re.fullmatch(PATTERNS[call, answer], text, re.DOTALL)) and all(counts[tag] == 1 for tag in tags)
    if call and not answer and (counts["<response>"] or counts["</response>"]):
        return False
    if any(counts[tag] != 1 for tag in tags or ["<think>", "</think>"]):
        return False
    firsts = list(dict.fromkeys(re.findall(r"</?(?:think|tool_call|response)>", text)))
    return [tag for tag in firsts if tag in ["<think>", "</think>", *tags]] == ["<think>", "</think>", *tags]


def random_call(rng):
    values = [1, 2.5, "Oslo", "Köln", 'a "b"', None, True, [1, {"x": "<tool_call>"}], {}, "line\nbreak"]
    keys = rng.sample(["city", "days", "unit", "q"], rng.randint(0, 3))
    return {"name": rng.choice(["f", "g", "get news"]), "parameters": {key: rng.choice(values) for key in keys}}


def random_response(rng, calls, answer):
    lines = "\n".join(json.dumps(call, ensure_ascii=rng.random() < 0.5) for call in calls)
    text = f"<think>{rng.choice(['x', 'so <think> y', 'use <tool_call>', ''])}</think>"
    text += f"\n<tool_call>\n{lines}\n</tool_call>" if calls else ""
    return text + ("\n<response>Here: {}</response>" if answer else "")


def changed(rng, text):
    """The text with one of its tags or characters left out, doubled, moved or cut."""
    tag = rng.choice(["<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>", "\n", '"'])
    cut = rng.randrange(len(text) + 1)
    changes = [text.replace(tag, "", 1), text.replace(tag, tag * 2, 1), text.replace("\n", " ", 1), f" {text}\n"]
    changes += [text[:cut], text[:cut] + tag + text[cut:], text + tag, text[cut:] + text[:cut]]
    return rng.choice(changes)


def test_rewards_equal_the_rules_on_a_thousand_pairs():
    rng = random.Random(7)
    seen = Counter()
    for number in range(1_000):
        wanted = [random_call(rng) for _ in range(rng.randint(0, 3))]
        # No tag within a reference's values: the published code cuts a block at it.
        reference = random_response(rng, wanted, answer=not wanted or rng.random() < 0.3).replace("use <tool_call>", "")
        if '"<tool_call>"' in reference:
            reference = reference.replace('"<tool_call>"', '"t"')
            wanted = json.loads(json.dumps(wanted).replace('"<tool_call>"', '"t"'))
        found = [call for call in wanted if rng.random() < 0.8]
        found = [random_call(rng) if rng.random() < 0.15 else call for call in found]
        found += [random_call(rng)] * (rng.random() < 0.2)
        if rng.random() < 0.3:
            rng.shuffle(found)
        completion = random_response(rng, found, answer="<response>" in reference)
        if rng.random() < 0.5:
            completion = changed(rng, completion)
        step = rng.randrange(200)
        for name in ("rest", "toolrl"):
            rules = REWARD_PRESETS[name]
            format_score, correctness_score = scores([completion], [reference], rules, step)[0]
            least, greatest = rules.correctness_range(step)
            expected = slow_correctness(completion, reference, least, greatest)
            assert correctness_score == pytest.approx(expected), (number, completion, reference)
            expected = rules.format_range(step)[slow_format(completion, reference, name)]
            assert format_score == pytest.approx(expected), (number, name, completion, reference)
            seen[name, expected == rules.format_range(step)[1]] += 1
        seen["least" if correctness_score == least else "top" if correctness_score == greatest else "between"] += 1
    assert min(seen.values()) > 100, seen


# --- hostile text, references, TRL

HOSTILE = ["<think>", "</think>\n", "<tool_call>\n", "\n</tool_call>", "<response>", "</response>", "\n", WEATHER, NEWS]
HOSTILE += [
    "[",
    "{",
    '"',
    "\\",
    '{"name": ',
    "9" * 5_000,
    "\ud800",
    "é",
    "NaN",
    "\x00",
    "[TOOL_CALLS]",
    "Action: ",
    "f(a=",
]


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(HOSTILE), max_size=30).map("".join), call_format=st.sampled_from([*CALL_FORMATS]))
def test_any_text_gets_a_reward(text, call_format):
    rules = ToolCallRules(format_rule="parts", call_format=call_format, length="constant")
    for row in scores([text], [json.dumps([json.loads(NEWS)])], rules):
        assert row[0] in (0, 1)
        assert -3 <= row[1] <= 3
        assert 0 <= row[2] <= 1
    for rule in ("rest", "toolrl"):
        assert isinstance(has_format(text, BOTH, rule), bool)


def test_references_in_every_form():
    listed = '[{"name": "f", "arguments": {"a": 1}}]'
    openai = '[{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]'
    text = block('{"name": "f", "parameters": {"a": 1}}')
    assert read_reference(listed) == read_reference(openai) == read_reference(text)
    assert read_reference("[]").parts == ("think", "answer")
    assert read_reference(text + "\n<response>x</response>").parts == BOTH
    assert read_reference("<think>x</think>").parts == ("think",)
    mention = block(WEATHER, thought="I use <tool_call> tags, no <response>.")
    assert read_reference(mention) == read_reference(block(WEATHER))
    assert read_reference("[f(a=1)]", "python").calls == read_reference(listed).calls


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("<tool_call>\nf(1)\n</tool_call>", "no call that can be parsed as rlla"),
        ("[1]", "not of calls"),
        ('[{"name": "f", "arguments": "x"}]', "not of calls"),
        (None, "NoneType, not text"),
        ("", "is empty"),
        (" \n", "is empty"),
        ('{"name": "f", "arguments": {}}', "neither a list of calls"),
        ("[{'name': 'f', 'arguments': {}}]", "neither a list of calls"),
        ('[{"name": "f", "arguments": {}},]', "neither a list of calls"),
        ('[{"name": "f", "arguments": {"a": Infinity}}]', "neither a list of calls"),
        ("[f(a=1)]", "neither a list of calls"),
        ('<think>hm</think>\n[{"name": "f"', "neither a list of calls"),
        ("<think>hm</think>\nf it is", "words outside"),
        ("It is sunny.", "words outside"),
        ('<think>hm\n<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>', "never ends"),
    ],
)
def test_references_that_are_refused(reference, message):
    with pytest.raises(InputError, match=f"record 2 of this batch: field 'reference': .*{message}"):
        scores(["", ""], ["[]", reference])


@pytest.mark.parametrize("call_format", [name for name in CALL_FORMATS if name != "rlla"])
def test_broken_lists_are_refused_in_every_format(call_format):
    """What a format reads as a call is one; a text that only looks like calls is not taken for an answer."""
    comma = '[{"name": "f", "arguments": {}},]'
    if call_format in ("llama3", "seal-tools"):  # there the objects are the calls, whatever stands between them
        assert read_reference(comma, call_format).calls == (("f", {}),)
        comma = ""
    for text in ["", '[{"name": "f", "arguments": {"a": NaN}}]', comma, "{'nom': 1}"]:
        with pytest.raises(InputError):
            read_reference(text, call_format)
    if call_format not in ("react", "fireact"):
        assert read_reference("It is sunny.", call_format).parts == ("answer",)


def test_data_is_checked_before_training_begins(chatml_tokenizer, tmp_path):
    """Record and field are named; a record's own source too, and the held-out data is read as well."""
    good, bad = '[{"name": "f", "arguments": {}}]', "[{'name': 'f'}]"
    rewards = tool_call_rewards()

    def build(column, **options):
        data = Dataset.from_dict({"prompt": ["question"] * len(column), "reference": column, **options})
        return make_trainer(chatml_tokenizer, tmp_path, reward_funcs=rewards, train_dataset=data)

    build([good] * 8)
    with pytest.raises(InputError, match=r"train_dataset: record 3: field 'reference': .*neither a list of calls"):
        build([good, good, bad, good])
    with pytest.raises(InputError, match=r"train_dataset: record 1 \(mine:9\): field 'reference'"):
        build([None, good], source=["mine:9", "mine:10"])
    data = Dataset.from_dict({"prompt": ["q"], "reference": [""]})
    with pytest.raises(InputError, match="eval_dataset: record 1"):
        _check_data(rewards, None, data)
    with pytest.raises(InputError, match="hard: record 1"):
        _check_data(rewards[0], None, {"hard": data})
    _check_data(rewards, Dataset.from_dict({"prompt": ["q"]}), data.to_iterable_dataset())


def test_data_without_references_is_refused():
    with pytest.raises(InputError, match="no column 'reference'"):
        tool_call_rewards()[0](prompts=[""], completions=[""], answer=["x"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "fine"}, "granularity 'fine' is not known"),
        ({"call_format": "hermes"}, "format rule parts"),
        ({"schedule": "dynamic", "correctness_max": 1.0}, "constant schedule"),
        ({"correctness_max": 0.0}, "above 0"),
        ({"schedule_steps": 0}, "schedule_steps is 0"),
    ],
)
def test_rules_that_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ToolCallRules(**options)


def test_messages_become_text_again():
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    messages = [
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
    ]
    assert completion_text(messages) == (
        '<think>hm</think>\n<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>\ndone'
    )
    assert completion_text([{"role": "assistant", "content": "x", "tool_calls": [{"function": 3}]}]) == "x"
    assert read_calls(completion_text(messages))[0].arguments == {"a": 1}


def test_trl_knows_the_rewards_by_name():
    from trl.trainer.utils import get_callable_name, is_async_callable

    rewards = tool_call_rewards(ToolCallRules(length="constant"))
    assert [get_callable_name(r) for r in rewards] == ["ToolCallFormat", "ToolCallCorrectness", "ThoughtLength"]
    assert not any(is_async_callable(reward) for reward in rewards)


def test_a_reference_that_asks_for_nothing_is_refused_and_a_byte_order_mark_is_none_of_it():
    with pytest.raises(InputError, match="neither a thought nor a call nor an answer"):
        read_reference("<tool_call></tool_call>", "hermes")
    assert read_reference("\ufeff[]", "hermes") == read_reference("[]", "hermes")
