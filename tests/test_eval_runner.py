"""Playing suites on an engine: prompts, many examples at once, the draw of examples, what is kept."""

import json
import math
from collections import Counter

import pytest
from engines_at_hand import CountingSuite, ScriptedEngine

from rolewise.core.errors import InputError, RolewiseError
from rolewise.engines.base import Sample, Sampling
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.played_log import PlayedLog
from rolewise.evaluation.prompting import Prompter, check_messages
from rolewise.evaluation.runner import Runner, draw
from rolewise.evaluation.suite import Ask


def count_questions(prompt, sample):
    """The right answer to the last question of `CountingSuite`, with something after the stop text."""
    return prompt.rsplit("<|im_end|>", 1)[0].rsplit(" ", 1)[1] + "! and more"


@pytest.fixture
def counting():
    return CountingSuite([Example(f"e{i}", "ab"[i % 2], (i % 3 + 1, f"question {i}:")) for i in range(9)])


def play(suite, tokenizer, answer=count_questions, concurrency=3, **sampling):
    engine = ScriptedEngine(tokenizer, answer, concurrency)
    prompter = Prompter(tokenizer)
    return engine, list(Runner(engine, prompter, Sampling(**sampling)).play(suite, suite.examples()))


def test_every_example_ends_in_its_own_verdict_whatever_the_order(counting, chatml_tokenizer):
    engine, played = play(counting, chatml_tokenizer)
    assert sorted(p.example.id for p in played) == [f"e{i}" for i in range(9)]
    assert all(p.verdict.score == 1 and len(p.asked) == p.example.data[0] for p in played)
    assert engine.most_underway == 3


def test_wrong_answers_score_nothing_and_one_wrong_of_three_a_part(counting, chatml_tokenizer):
    _, played = play(counting, chatml_tokenizer, lambda prompt, _: "0")
    assert {p.example.data[0]: p.verdict.score for p in played} == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}


def test_a_question_is_asked_as_the_suite_says(counting, chatml_tokenizer):
    engine, _ = play(counting, chatml_tokenizer, temperature=0.5, seed=3)
    third = next(sampling for text, sampling in engine.asked if text.count("<|im_start|>user") == 3)
    end = chatml_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert third == Sampling(max_new_tokens=9, temperature=0.5, seed=3, stop=("!",), stop_token_ids=(end,))
    first = engine.asked[0][0]
    assert first == "<|im_start|>user\nquestion 0: 0<|im_end|>\n<|im_start|>assistant\n"


def test_what_was_asked_is_kept_once(counting, chatml_tokenizer):
    _, played = play(counting, chatml_tokenizer)
    asked = next(p.asked for p in played if p.example.id == "e2")
    assert [[m["content"] for m in step["messages"]] for step in asked] == [
        ["question 2: 0"],
        ["0", "question 2: 1"],
        ["1", "question 2: 2"],
    ]
    assert [step["answers"] for step in asked] == [["0"], ["1"], ["2"]]
    assert "prompt" in asked[0]
    assert "prompt" not in asked[1]
    assert json.loads(json.dumps(asked)) == asked


def test_an_answer_that_the_engine_can_not_give_is_the_suites_to_judge(chatml_tokenizer):
    suite = CountingSuite([Example("a", "x", (1, "too long")), Example("b", "x", (1, "fine"))])
    _, played = play(suite, chatml_tokenizer)
    verdicts = {p.example.id: (p.verdict.score, p.verdict.reason) for p in played}
    assert verdicts == {"a": (0.0, "the prompt has more tokens than the model takes"), "b": (1.0, "")}


def test_an_answers_text_ends_before_its_end_token_and_its_stop_text(chatml_tokenizer):
    prompter = Prompter(chatml_tokenizer)
    ids = chatml_tokenizer("yes STOP no", add_special_tokens=False)["input_ids"]
    end = chatml_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prompter.answer_text(Sample([*ids, end], None, "stop")) == "yes STOP no"
    assert prompter.answer_text(Sample([*ids, end], None, "length")) == "yes STOP no<|im_end|>"
    assert prompter.answer_text(Sample(ids, None, "stop"), ("no", "STOP")) == "yes "


def test_tools_that_the_template_drops_are_written_and_that_is_said(chatml_tokenizer):
    prompter = Prompter(chatml_tokenizer)
    tools = [{"type": "function", "function": {"name": "weather_of", "parameters": {"type": "object"}}}]
    assert "weather_of" in prompter.prompt_text([{"role": "user", "content": "hi"}], tools)
    assert any("does not support tools" in note for note in prompter.notes)
    assert len(prompter.notes) == 1


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "user", "content": None}], [{"content": "a"}]])
def test_a_question_without_text_is_refused(messages):
    with pytest.raises(InputError, match=r"without messages|no text|no role"):
        check_messages(messages)


def test_a_draw_spreads_over_categories_keeps_the_order_and_follows_the_seed():
    examples = [Example(str(i), "large" if i < 80 else "middle" if i < 98 else "small", None) for i in range(100)]
    drawn = draw(examples, 20, seed=1)
    assert Counter(e.category for e in drawn) == {"large": 16, "middle": 3, "small": 1}
    assert [int(e.id) for e in drawn] == sorted(int(e.id) for e in drawn)
    assert draw(examples, 20, seed=1) == drawn
    assert draw(examples, 20, seed=2) != drawn
    assert draw(examples, None, 0) == draw(examples, 1000, 0) == examples


@pytest.mark.parametrize("limit", range(1, 12))
def test_a_draw_takes_exactly_as_many_as_asked(limit):
    examples = [Example(f"{c}{i}", c, None) for c, n in (("a", 1), ("b", 1), ("c", 9), ("d", 1)) for i in range(n)]
    drawn = draw(examples, limit, seed=0)
    assert len({e.id for e in drawn}) == limit
    if limit >= 4:
        assert {e.category for e in drawn} == set("abcd")


def test_a_log_that_was_cut_off_in_a_line_goes_on_with_the_example_it_lost(tmp_path, counting, chatml_tokenizer):
    _, played = play(counting, chatml_tokenizer)
    with PlayedLog(tmp_path / "log") as log:
        for one in played[:4]:
            log.add(one)
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-5])
    again = PlayedLog(tmp_path / "log")
    assert again.ids == {p.example.id for p in played[:3]}
    assert math.isclose(again.total, 3)
    with again:
        again.add(played[3])
    assert (tmp_path / "log").read_bytes() == whole


@pytest.mark.parametrize("limit", [3, 7, 29])
def test_a_larger_draw_holds_the_smaller(limit):
    examples = [Example(str(i), "abc"[i % 3], None) for i in range(60)]
    larger = {example.id for example in draw(examples, 30, seed=1)}
    assert {example.id for example in draw(examples, limit, seed=1)} < larger


QUESTION = Ask(messages=[{"role": "user", "content": "question: 0"}])


def raises(example):
    yield QUESTION
    raise ValueError("first\nsecond")


def ends_with(value):
    def play(example):
        yield QUESTION
        return value

    return play


def yields_text(example):
    yield "hello"


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (raises, r"example e\d failed: ValueError: first second \(test_eval_runner.py:\d+\)"),
        (lambda example: Verdict(1.0), "example e0 failed: TypeError: 'Verdict' object is not an iterator"),
        (yields_text, "example e0 yields 'hello'; a play must yield an Ask"),
        (ends_with(None), r"example e\d ends with None; a play must return a Verdict"),
        (ends_with(Verdict(2.0)), "a score from 0 to 1"),
        (ends_with(Verdict(math.nan)), "a score from 0 to 1"),
        (ends_with(Verdict("1")), "a score from 0 to 1"),
    ],
)
def test_a_faulty_suite_is_named_in_one_line(faulty, says, counting, chatml_tokenizer):
    counting.play = faulty
    with pytest.raises(RolewiseError, match=says) as raised:
        play(counting, chatml_tokenizer)
    assert "\n" not in str(raised.value)


def test_a_play_may_end_without_a_question(counting, chatml_tokenizer):
    def silent(example):
        return Verdict(1.0)
        yield

    counting.play = silent
    engine, played = play(counting, chatml_tokenizer)
    assert [(p.verdict.score, p.asked) for p in played] == [(1.0, [])] * 9
    assert not engine.asked


def test_a_verdict_that_is_no_json_is_refused(tmp_path, counting, chatml_tokenizer):
    counting.play = ends_with(Verdict(1.0, "", {"set": {1}}))
    _, played = play(counting, chatml_tokenizer)
    with PlayedLog(tmp_path / "log.jsonl") as log, pytest.raises(InputError, match="can't be stored as JSON"):
        log.add(played[0])
    assert not (tmp_path / "log.jsonl").read_bytes()
