"""Paths of trees as they are trained on."""

from collections.abc import Sequence

import pytest
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from rolewise.core.behaviour import Behaviour, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.data.chat_template import CHATML
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.search.policies import TokenPolicy
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Question, Tree
from rolewise.search.tree_rollouts import TreeRollouts, choose_leaves, path_of
from rolewise.search.values import Judgement, Leaf

BEHAVIOURS = BehaviourSet([Behaviour("a", "first", ("a", "b")), Behaviour("b", "last")], first=("a", "b"))


def tree_with(outcomes: Sequence[float]) -> Tree:
    """A tree whose leaves hang below the question, number n with the ids 10n and 10n + 1."""
    tree = Tree(Question("q", "?"), "tokens", prompt_ids=[1, 2])
    for number, outcome in enumerate(outcomes, start=1):
        tree.add(tree.root, "b", ids=[10 * number, 10 * number + 1], leaf=True, outcome=outcome)
    return tree


def test_a_path_has_the_ids_of_its_steps_and_rewards_at_their_ends() -> None:
    tree = Tree(Question("q", "?"), "tokens", prompt_ids=[1, 2])
    first = tree.add(tree.root, "a", ids=[10, 11, 12], process_reward=0.5)
    tree.add(tree.root, "b", ids=[20, 21], leaf=True, outcome=0.1)
    last = tree.add(first, "b", ids=[30, 31], process_reward=0.9, leaf=True, outcome=0.96, right=True, answer="4")
    path = path_of(tree, last)
    assert (list(path.prompt_ids), list(path.ids)) == ([1, 2], [10, 11, 12, 30, 31])
    assert list(path.rewards) == [0, 0, 0.5, 0, 0.96]
    assert path.chosen == {0, 3}
    assert (path.outcome, path.right, path.answered, path.behaviours) == (0.96, True, True, ("a", "b"))
    first.process_reward = None
    assert list(path_of(tree, last).rewards) == [0, 0, 0, 0, 0.96]


def test_random_leaves_are_all_of_them_once_and_others_by_another_seed() -> None:
    tree = tree_with([0.0] * 6)
    orders = {tuple(leaf.number for leaf in choose_leaves(tree, 6, "random", seed)) for seed in range(8)}
    assert all(sorted(order) == [1, 2, 3, 4, 5, 6] for order in orders)
    assert len(orders) > 4
    assert choose_leaves(tree, 3, "random", 5) == choose_leaves(tree, 6, "random", 5)[:3]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([0.1, 1.0, 0.0, 0.5], [1.0, 0.0, 0.5, 0.1]),
        ([0.1, 1.0, 0.0], [1.0, 0.0, 0.1]),
        ([0.3], [0.3]),
    ],
)
def test_contrast_takes_best_and_worst_in_turn(outcomes: list[float], expected: list[float]) -> None:
    leaves = choose_leaves(tree_with(outcomes), len(outcomes), "contrast", 0)
    assert [leaf.outcome for leaf in leaves] == expected


def test_too_few_leaves_are_taken_in_turn_and_none_stay_none() -> None:
    found = choose_leaves(tree_with([1.0, 0.0]), 5, "contrast", 0)
    assert [leaf.number for leaf in found] == [1, 2, 1, 2, 1]
    assert choose_leaves(tree_with([]), 3, "random", 0) == []
    with pytest.raises(InputError, match="paths 'all' is not known"):
        choose_leaves(tree_with([1.0]), 1, "all", 0)  # type: ignore[arg-type]  # the point of it


class ByLength:
    """A judge to whom short paths are worth more."""

    notes: list[str] = []  # noqa: RUF012, it never grows

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        return [Judgement(1 / len(leaf.steps)) for leaf in leaves]

    def close(self) -> None:
        pass


class Forgetful(TransformersEngine):
    """Counts how often it was told to forget."""

    forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1
        super().forget()


def rollouts_with(tokenizer: PreTrainedTokenizerFast) -> TreeRollouts:
    policy = TokenPolicy(tokenizer, BEHAVIOURS)
    settings = SearchSettings(rollouts=5, max_depth=3, step_tokens=4, temperature=1.0, top_p=1.0, top_k=0)
    return TreeRollouts(lambda model: Forgetful(model, tokenizer), policy, ByLength(), settings)


def test_a_policys_trees_become_paths(make_tokenizer) -> None:
    tokenizer = make_tokenizer(CHATML, special=("<|im_end|>", "<|im_start|>", *BEHAVIOURS.tokens))
    model = tiny_model(vocab_size=len(tokenizer))
    rows = [{"id": str(n), "question": f"question {n}", "reference": None} for n in range(3)]
    rollouts = rollouts_with(tokenizer)
    found = rollouts(model, rows, [4, 2, 6], seed=1)
    assert [len(paths) for paths in found] == [4, 2, 6]
    opening = {name: tokenizer.convert_tokens_to_ids(f"<{name}>") for name in "ab"}
    for row, paths in zip(rows, found, strict=True):
        for path in paths:
            assert row["question"] in tokenizer.decode(path.prompt_ids)
            assert [path.ids[place] for place in sorted(path.chosen)] == [opening[name] for name in path.behaviours]
            assert path.rewards[-1] == path.outcome == 1 / len(path.behaviours)
            assert sum(path.rewards) == path.outcome
    (alone,) = rollouts_with(tokenizer)(model, rows[1:2], [2], seed=1)
    assert alone == found[1]
    (other,) = rollouts_with(tokenizer)(model, rows[1:2], [2], seed=2)
    assert [path.ids for path in other] != [path.ids for path in alone]
    assert rollouts(model, rows, [4, 2, 6], seed=1) == found
    assert isinstance(rollouts._engine, Forgetful)
    assert rollouts._engine.forgotten == 2
