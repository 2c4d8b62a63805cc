"""Rejection sampling: which answers are right, what is kept of them, resuming, and the command."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from completions_server import CompletionsServer
from engines_at_hand import ScriptedEngine
from workbench import Workbench

from rolewise import InputError, LabelOptions, label, read_conversations
from rolewise.cli.main import main
from rolewise.core.files import digest
from rolewise.data.chat_template import CHATML
from rolewise.data.conversation import Conversation
from rolewise.engines.base import EngineError
from rolewise.evaluation import answer_checks
from rolewise.evaluation.answer_checks import CallChecker, FunctionChecker, Question, make_checker, register_checker
from rolewise.evaluation.rejection_sampling import question_of
from rolewise.generator import generate
from rolewise.jobs import answering_run
from rolewise.jobs.sample import sample
from rolewise.options.answers import SampleOptions


def call(name: str, **arguments: Any) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def asked(reference: dict[str, Any]) -> Question:
    return Question([{"role": "user", "content": "q"}], None, {"role": "assistant", **reference}, "c:1")


class TestCalls:
    @pytest.mark.parametrize(
        ("answer", "right"),
        [
            (f"{call('f', x=1, y=['a'])}{call('g')}", True),
            (f"{call('g')}\n{call('f', y=['a'], x=1)}", True),  # any order
            (f"Other thoughts. {call('f', x=1.0, y=['a'])}{call('g')}", True),
            (call("f", x=1, y=["a"]), False),
            (f"{call('f', x=1, y=['a'])}{call('g')}{call('g')}", False),  # each as often
            (f"{call('f', x='1', y=['a'])}{call('g')}", False),
            (f"{call('f', x=True, y=['a'])}{call('g')}", False),
            (f"{call('F', x=1, y=['a'])}{call('g')}", False),
            (f'{call("f", x=1, y=["a"])}<tool_call>\n{{"name": "g", "arguments": {{\n</tool_call>', False),
            ("", False),
        ],
    )
    def test_right_is_the_same_multiset_of_calls(self, answer, right):
        reference = f"<think> so </think>\n{call('f', x=1, y=['a'])}\n{call('g')}"
        assert CallChecker().check(asked({"content": reference}), [answer]) == [right]

    def test_calls_of_openais_field(self):
        function = {"name": "f", "arguments": {"x": 1}}
        question = asked({"content": None, "tool_calls": [{"type": "function", "function": function}]})
        assert CallChecker().check(question, [call("f", x=1), call("f", x=2)]) == [True, False]

    @pytest.mark.parametrize("content", ["Hello.", '<tool_call>\n{"name": "f", "arguments": {\n</tool_call>'])
    def test_what_has_no_readable_call_is_not_checked(self, content):
        assert CallChecker().check(asked({"content": content}), []) is None


def test_mathematics():
    pytest.importorskip("rolewise.rewards.math_answers")
    checker = make_checker("math")
    try:
        question = asked({"content": r"So it is \boxed{\frac{1}{2}}."})
        assert checker.check(question, [r"\boxed{0.5}", r"\boxed{2}", "no idea"]) == [True, False, False]
        assert checker.check(asked({"content": "Hello."}), []) is None
    finally:
        checker.close()


def test_the_last_assistant_turn_is_the_reference():
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    conversation = Conversation([{"role": r, "content": c} for r, c in turns], source="c:1")
    question = question_of(conversation)
    assert [m["content"] for m in question.messages] == ["a", "b", "c"]
    assert question.reference["content"] == "d"


@pytest.fixture
def scripted(
    monkeypatch: pytest.MonkeyPatch, bench: Workbench
) -> Callable[[Callable[[str, int], str]], ScriptedEngine]:
    """Puts an engine that answers as it is told into the place of the model's."""

    def use(answer: Callable[[str, int], str]) -> ScriptedEngine:
        engine = ScriptedEngine(bench.tokenizer(), answer)
        monkeypatch.setattr(answering_run, "open_engine", lambda options, tokenizer: engine)
        return engine

    return use


def options_for(bench: Workbench, tmp_path: Path, **more: Any) -> SampleOptions:
    places = {"model": str(bench.model), "data": str(bench.data), "output": str(tmp_path / "sampled")}
    return SampleOptions(**{**places, "samples": 3, "limit": 8, **more})


def references() -> list[str]:
    """The last turns of the bench's first conversations; those that make calls."""
    return [question_of(c).reference["content"] for c in generate(24, seed=0)[:8]]


def with_calls() -> list[int]:
    """The numbers of the conversations that can be checked."""
    return [i for i, text in enumerate(references()) if CallChecker().check(asked({"content": text}), []) is not None]


def by_number(number: int, text: str) -> list[str]:
    """Two right answers that differ, and a wrong one; only wrong ones where the number is divisible by 3."""
    if number % 3 == 0:
        return ["wrong", "", "wrong"]
    return [f"First.\n{text}", "wrong", f"Second.\n{text}"]


def answers_to_the_bench(bench: Workbench) -> Callable[[str, int], str]:
    conversations = generate(24, seed=0)[:8]
    table = {question_of(c).messages[-1]["content"]: by_number(i, references()[i]) for i, c in enumerate(conversations)}

    def answer(prompt: str, sample_number: int) -> str:
        [found] = [
            answers for asked_, answers in table.items() if f"{asked_}<|im_end|>\n<|im_start|>assistant" in prompt
        ]
        return found[sample_number]

    return answer


def kept(result: Any) -> list[str]:
    return [c.messages[-1]["content"] for c in read_conversations(result.conversations).conversations]


@pytest.mark.parametrize("keep", [None, 1])
def test_right_answers_become_conversations(keep, bench, scripted, tmp_path):
    engine = scripted(answers_to_the_bench(bench))
    result = sample(options_for(bench, tmp_path, keep=keep))
    texts = references()
    checkable = with_calls()
    solved = [i for i in checkable if i % 3]
    assert len(checkable) > len(solved) > 1
    expected = [text for i in solved for text in (by_number(i, texts[i])[0], by_number(i, texts[i])[2])[:keep]]
    assert kept(result) == expected
    assert asdict(result.summary) == {
        "questions": len(checkable),
        "unchecked": 8 - len(checkable),
        "answers": 3 * len(checkable),
        "right": 2 * len(solved),
        "without": len(checkable) - len(solved),
        "kept": len(expected),
        "notes": [],
    }
    assert {(s.n, s.temperature, s.max_new_tokens) for _, s in engine.asked} == {(3, 0.8, 512)}
    first = read_conversations(result.conversations).conversations[0]
    original = read_conversations(bench.data).conversations[solved[0]]
    assert first.messages[:-1] == original.messages[: len(first.messages) - 1]
    assert first.tools == original.tools
    labelled = label(
        LabelOptions(model=str(bench.model), data=str(result.conversations), output=str(tmp_path / "l"), method="regex")
    )
    assert labelled.info.counts["samples"] == len(expected)


def test_equal_answers_are_kept_once(bench, scripted, tmp_path):
    text = references()[with_calls()[0]]
    scripted(lambda prompt, number: text)
    result = sample(options_for(bench, tmp_path))
    assert result.summary.right == 3
    assert kept(result) == [text]


def test_a_killed_run_asks_only_what_is_left_and_ends_the_same(bench, scripted, tmp_path):
    answer = answers_to_the_bench(bench)
    whole = sample(options_for(bench, tmp_path, output=str(tmp_path / "whole"))) if scripted(answer) else None
    calls = 0

    def failing(prompt: str, number: int) -> str:
        nonlocal calls
        calls += 1
        if calls > 9:
            raise EngineError("the server is gone")
        return answer(prompt, number)

    scripted(failing)
    with pytest.raises(EngineError):
        sample(options_for(bench, tmp_path))
    done = len((tmp_path / "sampled.partial" / "work" / "log.jsonl").read_text().splitlines())
    assert done == 3
    engine = scripted(answer)
    result = sample(options_for(bench, tmp_path))
    assert len(engine.asked) == result.summary.questions - done
    for name in ("conversations.jsonl", "answers.jsonl", "summary.json"):
        assert (result.path / name).read_bytes() == (whole.path / name).read_bytes()
    again = sample(options_for(bench, tmp_path))
    assert again.was_finished
    assert len(engine.asked) == result.summary.questions - done


def test_what_the_template_makes_prompts_otherwise_is_said_once(bench, scripted, tmp_path):
    template = tmp_path / "no_system.jinja"
    skips = CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}")
    template.write_text(skips, encoding="utf-8")
    scripted(answers_to_the_bench(bench))
    result = sample(options_for(bench, tmp_path, chat_template=str(template)))
    assert result.summary.questions > 1
    assert sum("no role `system`" in note for note in result.notes) == 1
    again = sample(options_for(bench, tmp_path, chat_template=str(template)))
    assert again.was_finished
    assert again.notes == result.notes


def test_an_answer_that_reached_no_end_is_not_right(bench, scripted, tmp_path, monkeypatch):
    text = references()[with_calls()[0]]
    engine = scripted(lambda prompt, number: text)
    collect = engine.collect

    def cut() -> Sequence[Any]:
        done = collect()
        for completion in done:
            for one in completion.samples[1:]:
                object.__setattr__(one, "finish_reason", "length")
        return done

    monkeypatch.setattr(engine, "collect", cut)
    assert sample(options_for(bench, tmp_path)).summary.right == 1


def test_a_checker_of_the_users_own(bench, scripted, tmp_path, monkeypatch):
    monkeypatch.setattr(answer_checks, "_registered", {})
    plugin = tmp_path / "short.py"
    plugin.write_text(
        "from rolewise.evaluation.answer_checks import register_checker\n"
        "register_checker('short', lambda question, answers: [len(answer) < 4 for answer in answers])\n"
    )
    scripted(lambda prompt, number: ["yes", "certainly", "no"][number])
    result = sample(options_for(bench, tmp_path, check="short", plugin=str(plugin), limit=2))
    assert kept(result) == ["yes", "no", "yes", "no"]
    assert result.summary.unchecked == 0
    with pytest.raises(ValueError, match="'calls' is taken"):
        register_checker("calls", lambda question, answers: None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda question, answers: [True], "c:1: the checker mine must return one verdict for each answer"),
        (lambda question, answers: 1 / 0, "c:1: the checker mine failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_checker_that_misbehaves_is_one_line(function, message):
    with pytest.raises(InputError, match=message):
        FunctionChecker("mine", function).check(asked({"content": "a"}), [])


class TestTheCommand:
    @pytest.fixture
    def arguments(self, bench: Workbench, tmp_path: Path) -> list[str]:
        return ["sample", "--model", str(bench.model), "--data", str(bench.data), "--output", str(tmp_path / "out")]

    def test_with_a_real_model(self, arguments, tmp_path, capsys):
        assert main([*arguments, "--limit", "2", "--samples", "2", "--max-new-tokens", "4"]) == 0
        captured = capsys.readouterr()
        assert "questions without a right answer" in captured.out
        assert "no answer is right" in captured.err  # a random model of four tokens
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "answers.jsonl",
            "config.yaml",
            "conversations.jsonl",
            "run.json",
            "summary.json",
        ]
        before = digest([(path.name, path.read_text()) for path in sorted((tmp_path / "out").iterdir())])
        assert main(["sample", "--config", str(tmp_path / "out" / "config.yaml")]) == 0
        assert "already sampled" in capsys.readouterr().err
        assert digest([(path.name, path.read_text()) for path in sorted((tmp_path / "out").iterdir())]) == before

    def test_answers_of_two_served_models_are_neither_mixed_nor_taken_for_each_other(self, arguments, bench, capsys):
        answered: list[int] = []

        def expire(number: int, body: dict[str, Any]) -> tuple[int, Any] | None:
            answered.extend([number] if body["max_tokens"] == 4 else [])
            return (401, {"error": "expired"}) if len(answered) > 2 else None

        def said(code: int) -> str:
            capsys.readouterr()
            assert main(command) == code
            return capsys.readouterr().err

        with CompletionsServer(bench.tokenizer(), context=None) as server:
            command = [*arguments, "--samples", "1", "--max-new-tokens", "4", "--server", server.url]
            command += ["--concurrency", "1"]
            server.fault = expire
            assert "expired" in said(2)
            server.fault, server.models = lambda number, body: None, ["other"]
            assert "holds answers of tiny, but the server now serves other" in said(2)
            server.models = ["tiny"]
            assert "already sampled" not in said(0)
            assert "already sampled" in said(0)
            server.models = ["other"]
            assert "holds answers of tiny, not of other" in said(2)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--check", "cals"], "check 'cals' is not known; choose one of calls, math"),
            (["--samples", "0"], "samples is 0; it must be at least 1"),
            (["--temperature", "0"], "samples is 4, but at temperature 0 all are the same"),
            (["--keep", "0"], "keep is 0"),
            (["--top-k", "-1"], "top_k is -1"),
            (["--served-model", "m"], "served_model needs server"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, arguments, more, message, capsys):
        assert main([*arguments, *more]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"rolewise sample: {message}")

    def test_data_that_nothing_can_be_checked_by(self, arguments, tmp_path, capsys):
        chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
        (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": chat}))
        assert main([*arguments[:3], "--data", str(tmp_path / "chat.jsonl"), "--output", str(tmp_path / "o")]) == 2
        assert "chat.jsonl: has no reference that check calls can read" in capsys.readouterr().err
        assert not (tmp_path / "o.partial").exists()
