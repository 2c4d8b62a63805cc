"""Conversations as a benchmark of calls, against the generator's reference calls by a plain reading of the rule."""

import itertools
import json
import random

import pytest

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.data.readers import write_conversations
from rolewise.engines.base import Sample
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import conversations_of, make_suite
from rolewise.generator import FORMATS, generate, reference_calls

TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}]


def suite_of(path):
    return make_suite(f"calls:{path}", SuiteSettings(data=None, cache=None))


def play(suite, example, text, finish_reason="stop"):
    """What is asked, and the verdict on an answer."""
    playing = suite.play(example)
    ask = next(playing)
    with pytest.raises(StopIteration) as ended:
        playing.send(Answer([text], [Sample([], None, finish_reason)]))
    return ask, ended.value.value


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Conversations of every format, as they were made, and the file that holds them."""
    path = tmp_path_factory.mktemp("calls") / "made.jsonl"
    conversations = generate(45, seed=5, formats=tuple(FORMATS))
    write_conversations(conversations, path)
    return conversations, path


def written(calls, format):
    """A response with these calls, as the generator writes one."""
    f = FORMATS[format]
    each = (f"{f.call_open}{c['name']}{f.call_middle}{json.dumps(c['arguments'])}{f.call_close}" for c in calls)
    return f"{f.think_open}So.{f.think_close}{f.calls_open}{''.join(each)}{f.calls_close}"


def is_right(calls, wanted):
    """The rule as plainly as possible: some order of the calls is the reference's."""
    return any(list(order) == wanted for order in itertools.permutations(calls))


def test_every_turn_that_calls_is_asked_with_what_stands_before_it(generated):
    conversations, path = generated
    suite = suite_of(path)
    expected = {}
    for number, conversation in enumerate(conversations):
        turns = [i for i, message in enumerate(conversation.messages) if message["role"] == "assistant"]
        for turn, calls in zip(turns, reference_calls(conversation), strict=True):
            if calls:
                expected[f"{number}/{turn}"] = (conversation.messages[:turn], len(calls))
    examples = suite.examples()
    assert {example.id for example in examples} == expected.keys()
    assert {count for _, count in expected.values()} == {1, 2}
    for example in examples:
        messages, count = expected[example.id]
        ask, verdict = play(suite, example, "")
        assert ask.messages == messages
        assert example.category == ("one call" if count == 1 else "several calls")
        assert (verdict.score, verdict.reason) == (0.0, "no call")


def test_verdicts_are_the_plain_rules_on_answers_right_and_wrong_in_every_format(generated):
    conversations, path = generated
    suite, rng, verdicts = suite_of(path), random.Random(0), []
    for example in suite.examples():
        number, turn = map(int, example.id.split("/"))
        conversation = conversations[number]
        place = [i for i, m in enumerate(conversation.messages) if m["role"] == "assistant"].index(turn)
        wanted = reference_calls(conversation)[place]
        assert play(suite, example, conversation.messages[turn]["content"])[1].score == 1
        first, *others = wanted
        key = rng.choice(list(first["arguments"]))
        cases = [
            wanted,
            wanted[::-1],
            wanted + wanted[:1],
            [{**first, "name": "other"}, *others],
            [{**first, "arguments": first["arguments"] | {key: "something else"}}, *others],
            [{**first, "arguments": first["arguments"] | {"more": 1}}, *others],
            [{**first, "arguments": {k: v for k, v in first["arguments"].items() if k != key}}, *others],
        ]
        for calls in cases:
            format = rng.choice(["rlla", "hermes"])  # two calls of ReAct's take two turns
            _, verdict = play(suite, example, written(calls, format))
            assert verdict.score == is_right(calls, wanted), calls
            assert (verdict.detail["partial credit"] == 1) == (verdict.score == 1)
            verdicts.append(verdict)
    assert 0.1 < sum(verdict.score for verdict in verdicts) / len(verdicts) < 0.6
    partial = [verdict.detail["partial credit"] for verdict in verdicts if not verdict.score]
    assert min(partial) >= 0
    assert sum(0 < credit < 1 for credit in partial) > len(partial) / 2


def test_what_reached_no_end_or_cannot_be_read_is_wrong(generated):
    conversations, path = generated
    suite = suite_of(path)
    example = suite.examples()[0]
    number, turn = map(int, example.id.split("/"))
    right = conversations[number].messages[turn]["content"]
    [wanted] = [calls for calls in reference_calls(conversations[number]) if calls]
    assert play(suite, example, right)[1].score == 1
    cut = play(suite, example, right, "length")[1]
    assert (cut.score, cut.reason, cut.detail["partial credit"]) == (0, "the answer was cut off", 0)
    half = '\n<tool_call>\n{"name": "f", "arguments": {"a": \n</tool_call>'
    broken = play(suite, example, written(wanted, "hermes") + half)[1]
    assert (broken.score, broken.detail["partial credit"]) == (0, 0)
    assert "can't be read" in broken.reason
    playing = suite.play(example)
    next(playing)
    with pytest.raises(StopIteration) as ended:
        playing.send(Answer([], [], "the prompt is too long"))
    assert ended.value.value.reason == "the prompt is too long"


def test_calls_apart_from_the_text_are_references_too_and_the_tools_are_offered(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    messages = [{"role": "user", "content": "Call f."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    path = tmp_path / "openai.jsonl"
    path.write_text(json.dumps({"messages": messages, "tools": TOOLS}), encoding="utf-8")
    suite = suite_of(path)
    [example] = suite.examples()
    ask, verdict = play(suite, example, '<tool_call>\n{"name": "f", "arguments": {"a": 1.0}}\n</tool_call>')
    assert (ask.tools, verdict.score) == (TOOLS, 1)


def test_the_command_reports_accuracy_and_partial_credit_of_the_conversations_named(bench, generated, tmp_path):
    _, path = generated
    arguments = ["eval", "--model", bench.model, "--suite", f"calls:{path}", "--limit", 6, "--max-new-tokens", 3]
    assert main([str(argument) for argument in [*arguments, "--output", tmp_path / "out"]]) == 0
    suite = json.loads((tmp_path / "out" / "summary.json").read_text())["suites"][f"calls:{path}"]
    assert suite["title"] == "Calls, made"
    assert [score["name"] for score in suite["scores"]] == ["overall", "one call", "several calls", "partial credit"]
    assert {score["value"] for score in suite["scores"]} == {0.0}
    assert suite["scores"][-1]["count"] == 6
    assert suite["version"] == suite_of(path).version()
    other = tmp_path / "made.jsonl"
    other.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert suite_of(other).version() != suite["version"], "other conversations are another benchmark"


def write_turns(path, *answers):
    turns = [[{"role": "user", "content": "Call f."}, {"role": "assistant", "content": text}] for text in answers]
    path.write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns), encoding="utf-8")


BROKEN = (
    '<tool_call>\n{"name": "f", "arguments": {"a": 1},}\n</tool_call>',
    "[{'name': 'f', 'arguments': {}}]",
    '<tool_call>\n{"name": "f", "arguments": {"a": \n</tool_call>',
)


def test_references_that_cannot_be_read_are_counted_and_said(bench, tmp_path):
    path = tmp_path / "some.jsonl"
    write_turns(path, *BROKEN, written([{"name": "f", "arguments": {"a": 1}}], "hermes"), "No call.")
    arguments = ["eval", "--model", bench.model, "--suite", f"calls:{path}", "--max-new-tokens", 3]
    assert main([str(argument) for argument in [*arguments, "--output", tmp_path / "out"]]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    [note] = [note for note in summary["notes"] if "can't be read" in note]
    assert f"calls of {len(BROKEN)} of {len(BROKEN) + 1} turns" in note
    assert "some.jsonl:1: message 2" in note
    write_turns(path, *BROKEN)
    with pytest.raises(InputError, match=r"calls a tool that can be read; the first: .*some.jsonl:1: message 2"):
        suite_of(path).examples()


def test_without_conversations_or_calls_there_is_nothing_to_play(tmp_path):
    with pytest.raises(InputError, match=r"name their file after a colon: calls:held-out\.jsonl"):
        make_suite("calls", SuiteSettings(data=None, cache=None))
    path = tmp_path / "chat.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    with pytest.raises(InputError, match=r"chat.jsonl: no assistant turn calls a tool"):
        suite_of(path).examples()
    assert conversations_of(f"calls:{path}") == str(path)
    assert [conversations_of(name) for name in ("bfcl:live", "calls", "gsm8k")] == [None] * 3
