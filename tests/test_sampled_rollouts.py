"""Sampled answers as paths: cut into steps, judged, each token with its reward."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reinforce_rollouts import make_trainer
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from rolewise.engines.base import Completion, Sampling
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.search.sampled_rollouts import CompletionRewards, SampledRollouts
from rolewise.search.tree import Question, Step
from rolewise.search.values import Judgement, Leaf
from rolewise.search.written_paths import Written, judged_paths

QUESTION = Question("1", "What is 1 + 1?", "2")


class Judge:
    """Remembers what it was asked, and gives the same judgement to all."""

    notes: list[str] = []  # noqa: RUF012, it never grows

    def __init__(self, judgement: Judgement | None = None) -> None:
        self.judgement = judgement
        self.seen: list[Leaf] = []

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        self.seen += leaves
        return [
            self.judgement or Judgement(float(len(leaf.steps[0].text) % 3) if leaf.steps else 0.0) for leaf in leaves
        ]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    return make_tokenizer(special=("<|end|>", "<a>", "</a>", "<b>", "</b>"))


@pytest.fixture(scope="module")
def functional(tokenizer: PreTrainedTokenizerFast) -> dict[str, tuple[int, int]]:
    return {name: tuple(tokenizer.convert_tokens_to_ids([f"<{name}>", f"</{name}>"])) for name in "ab"}


def written(tokenizer: PreTrainedTokenizerFast, text: str, cut_off: bool = False) -> Written:
    return Written(QUESTION, [5, 6], tokenizer(text)["input_ids"], cut_off)


def test_steps_end_at_closing_tokens_and_bring_their_rewards_there(tokenizer, functional) -> None:
    answer = written(tokenizer, "<a> one</a> more<b> two<a> three</a><|end|>")
    judge = Judge(Judgement(0.7, "3", True, process_rewards=(0.1, 0.2, 0.3)))
    (path,) = judged_paths([answer], judge, tokenizer, functional)
    assert [(step.behaviour, step.text) for step in judge.seen[0].steps] == [
        ("a", " one more"),
        ("b", " two"),
        ("a", " three"),
    ]
    tokens = tokenizer.convert_ids_to_tokens(answer.ids)
    rewards = dict.fromkeys(range(len(tokens)), 0.0)
    rewards[tokens.index("</a>")] = 0.1
    rewards[len(tokens) - 1 - tokens[::-1].index("<a>") - 1] = 0.2  # the last of the step that was not closed
    rewards[len(tokens) - 1] = 0.7
    assert list(path.rewards) == list(rewards.values())
    assert (path.outcome, path.right, path.answered, path.behaviours) == (0.7, True, True, ("a", "b", "a"))
    assert path.chosen == frozenset()
    assert list(path.prompt_ids) == [5, 6]


def test_text_before_the_first_step_belongs_to_it(tokenizer, functional) -> None:
    judge = Judge(Judgement(0.0))
    (path,) = judged_paths([written(tokenizer, "well <b> two</b>", cut_off=True)], judge, tokenizer, functional)
    assert judge.seen[0].steps == (Step("b", "well  two"),)
    assert judge.seen[0].cut_off
    assert not path.answered


def test_an_answer_without_functional_tokens_is_one_step(tokenizer, functional) -> None:
    judge = Judge(Judgement(1.0, "2", True, process_rewards=(0.9,)))
    (plain,) = judged_paths([written(tokenizer, "it is 2<|end|>")], judge, tokenizer, {})
    assert judge.seen[0].steps == (Step("direct_answer", "it is 2"),)
    assert plain.behaviours == ()
    assert list(plain.rewards) == [0.0] * (len(plain.ids) - 1) + [1.0]
    judged_paths([written(tokenizer, "it is 2")], judge, tokenizer, functional)
    assert judge.seen[-1].steps == (Step("direct_answer", "it is 2"),)


def test_an_empty_answer_is_a_path_of_nothing(tokenizer, functional) -> None:
    (path,) = judged_paths([Written(QUESTION, [5], [], False)], Judge(Judgement(0.0)), tokenizer, functional)
    assert (list(path.ids), list(path.rewards), path.outcome) == ([], [], 0.0)


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"id": str(n), "prompt": f"question {n}", "question": f"question {n}", "reference": str(n)}
        for n in range(count)
    ]


def sampled(tokenizer: PreTrainedTokenizerFast, judge: Judge, **more) -> SampledRollouts:
    sampling = Sampling(max_new_tokens=6, temperature=1.0)
    return SampledRollouts(lambda model: TransformersEngine(model, tokenizer), judge, sampling, **more)


def test_each_question_gets_its_paths_whatever_is_asked_beside_it(tokenizer) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    judge = Judge()
    found = sampled(tokenizer, judge)(model, rows(3), [2, 3, 1], seed=4)
    assert [len(paths) for paths in found] == [2, 3, 1]
    assert len({tuple(path.ids) for paths in found for path in paths}) == 6
    assert [leaf.question.reference for leaf in judge.seen] == ["0", "0", "1", "1", "1", "2"]
    for row, paths in zip(rows(3), found, strict=True):
        for path in paths:
            assert list(path.prompt_ids) == tokenizer(row["prompt"])["input_ids"]
            assert 1 <= len(path.ids) <= 6
    (alone,) = sampled(tokenizer, Judge())(model, rows(3)[1:2], [3], seed=4)
    assert alone == found[1]
    (other,) = sampled(tokenizer, Judge())(model, rows(3)[1:2], [3], seed=5)
    assert [path.ids for path in other] != [path.ids for path in alone]


def test_equal_prompts_of_two_questions_are_answered_by_other_draws(tokenizer) -> None:
    twins = [{**row, "prompt": "question"} for row in rows(2)]
    one, other = sampled(tokenizer, Judge())(tiny_model(vocab_size=len(tokenizer)), twins, [3, 3], seed=4)
    assert [path.ids for path in one] != [path.ids for path in other]


def test_a_prompt_that_is_too_long_is_worth_nothing(tokenizer) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    long = {"id": "long", "prompt": "question " * 300, "question": "?", "reference": "1"}
    found = sampled(tokenizer, Judge())(model, [long, *rows(1)], [2, 2], seed=0)
    assert [list(path.ids) for path in found[0]] == [[], []]
    assert all(len(path.ids) for path in found[1])


def test_answers_that_a_server_holds_back_are_nobody_else_s(tokenizer) -> None:
    class Engine(TransformersEngine):
        def collect(self) -> list[Completion]:
            return [replace(one, samples=one.samples[: 1 if one.key == 0 else None]) for one in super().collect()]

    model = tiny_model(vocab_size=len(tokenizer))
    whole = sampled(tokenizer, Judge())(model, rows(2), [3, 3], seed=4)
    sampling = Sampling(max_new_tokens=6, temperature=1.0)
    found = SampledRollouts(lambda model: Engine(model, tokenizer), Judge(), sampling)(model, rows(2), [3, 3], seed=4)
    assert found[0][0] == whole[0][0]
    assert [list(path.ids) for path in found[0][1:]] == [[], []]
    assert found[1] == whole[1]


def test_the_engine_forgets_before_it_samples_from_other_weights(tokenizer) -> None:
    model = tiny_model(vocab_size=len(tokenizer))
    forgotten = []

    class Engine(TransformersEngine):
        def forget(self) -> None:
            forgotten.append(1)

    rollouts = SampledRollouts(lambda model: Engine(model, tokenizer), Judge(), Sampling(max_new_tokens=2))
    for _ in range(2):
        rollouts(model, rows(1), [1], seed=0)
    assert len(forgotten) == 2


def test_a_model_in_training_samples_for_itself(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Through the trainer, updates in between: the engine has the weights of the moment, and training goes on."""
    rollouts = sampled(chatml_tokenizer, Judge())
    trainer = make_trainer(chatml_tokenizer, tmp_path, rollouts, max_steps=2, learning_rate=0.1)
    trainer.train_dataset = trainer.train_dataset.add_column("id", [str(n) for n in range(8)])
    for name in ("question", "reference"):
        trainer.train_dataset = trainer.train_dataset.add_column(name, ["1"] * 8)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.model.training
    assert any(not torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    engine = rollouts._engine
    assert engine is not None
    ids = [5, 6, 7, 8]
    with torch.no_grad():
        logps = trainer.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(logps[place, token]) for place, token in enumerate(ids[1:])]
    assert engine.score([ids])[0] == pytest.approx(expected, abs=1e-4)


def test_grpo_is_rewarded_for_completions_in_the_same_way(tokenizer, functional) -> None:
    judge = Judge(Judgement(0.1, "3", False))
    rewards = CompletionRewards(judge, tokenizer, [tokenizer.eos_token_id], functional, ("a", "b"))
    logged: list[tuple[str, float]] = []
    completions = [tokenizer(text)["input_ids"] for text in ("<a> one</a><|end|>", "<b> two")]
    columns = {name: [row[name] for row in rows(2)] for name in ("id", "question", "reference")}
    found = rewards(
        prompts=["?"] * 2,
        completions=["", ""],
        completion_ids=completions,
        log_metric=lambda name, number: logged.append((name, number)),
        **columns,
    )
    assert found == [0.1, 0.1]
    assert [leaf.cut_off for leaf in judge.seen] == [False, True]
    assert [leaf.question.id for leaf in judge.seen] == ["0", "1"]
    assert logged == [
        *[("right", 0.0), ("answered", 1.0), ("steps/a", 1.0), ("steps/b", 0.0)],
        *[("right", 0.0), ("answered", 1.0), ("steps/a", 0.0), ("steps/b", 1.0)],
    ]
