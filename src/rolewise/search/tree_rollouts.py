"""Paths for reinforcement by tree search: a tree grows for each question, and some of its paths are used in
training."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, get_args

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.engines.base import Engine
from rolewise.search.policies import TokenPolicy
from rolewise.search.sampled_rollouts import OpenEngine, question_of
from rolewise.search.settings import PathChoice, SearchSettings
from rolewise.search.tree import Node, Tree
from rolewise.search.tree_search import TreeSearch
from rolewise.search.values import Judgement, Values
from rolewise.search.written_paths import token_rewards
from rolewise.training.rollout_paths import RolledPath

PATH_CHOICES = get_args(PathChoice)


class TreeRollouts:
    """Tree search with an engine over the model in training itself; see `Rollouts`.

    The search inserts the opening token of each step, by expansion or simulation, whatever the model would have
    sampled: these positions are the paths' `chosen`.

    Args:
        open_engine: function that opens the engine; called once, with the first policy.
        policy: policy that requests steps.
        values: judge of the paths.
        settings: settings of the search; the seed is set by each call.
        choice: choice of paths from a tree, see `choose_leaves`.

    Attributes:
        notes: notes for the user on how the trees were produced.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        policy: TokenPolicy,
        values: Values,
        settings: SearchSettings,
        choice: PathChoice = "random",
    ) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._policy = policy
        self._values = values
        self._settings = settings
        self._choice = choice
        self.notes: list[str] = []

    def __call__(
        self, model: Any, rows: Sequence[Mapping[str, Any]], paths: Sequence[int], *, seed: int
    ) -> list[list[RolledPath]]:
        """Return paths of a tree for each row's `question`; if a tree has too few, some are repeated."""
        if self._engine is None:
            self._engine = self._open_engine(model)
        self._engine.forget()
        search = TreeSearch(self._engine, self._policy, self._values, replace(self._settings, seed=seed))
        trees = {tree.question.id: tree for tree in search.run(question_of(row) for row in rows)}
        self.notes += [note for note in search.notes if note not in self.notes]
        return [_paths(trees[row["id"]], count, self._choice, seed) for row, count in zip(rows, paths, strict=True)]

    def close(self) -> None:
        """Close the engine, if it is open."""
        if self._engine is not None:
            self._engine.close()


def choose_leaves(tree: Tree, count: int, choice: PathChoice, seed: int) -> list[Node]:
    """Choose the ends of paths for training.

    Args:
        tree: a finished tree.
        count: number of leaves; if the tree has fewer, they are repeated in turn.
        choice: `random` takes any; `contrast` takes the best, the worst, the second best, … by value.
        seed: seed of the order; under `contrast`, of leaves with equal values.

    Raises:
        InputError: for an unknown choice.
    """
    leaves = tree.leaves()
    random.Random(digest([seed, tree.question.id])).shuffle(leaves)
    if choice == "contrast":
        best_first = sorted(leaves, key=lambda leaf: -float(leaf.outcome or 0.0))
        both_ends = (best_first[i // 2] if i % 2 == 0 else best_first[-1 - i // 2] for i in range(len(leaves)))
        leaves = list(both_ends)
    elif choice != "random":
        raise InputError(f"paths {choice!r} is not known; choose {' or '.join(PATH_CHOICES)}")
    return list(islice(cycle(leaves), count))


def _paths(tree: Tree, count: int, choice: PathChoice, seed: int) -> list[RolledPath]:
    found = [path_of(tree, leaf) for leaf in choose_leaves(tree, count, choice, seed)]
    return found or [RolledPath(tree.prompt_ids, [], [], 0.0)] * count


def path_of(tree: Tree, leaf: Node) -> RolledPath:
    """Return the path to a judged leaf of a search by functional tokens, in the form for training."""
    steps = tree.path(leaf)
    ids: list[int] = []
    openings, ends = [], []
    for step in steps:
        openings.append(len(ids))
        ids += step.ids
        ends.append(len(ids) - 1)
    scores = [step.process_reward for step in steps]
    process = None if any(score is None for score in scores) else tuple(float(score or 0.0) for score in scores)
    judgement = Judgement(float(leaf.outcome or 0.0), leaf.answer, leaf.right, process)
    return RolledPath(
        prompt_ids=tree.prompt_ids,
        ids=ids,
        rewards=token_rewards(len(ids), ends, judgement),
        outcome=judgement.value,
        right=leaf.right,
        answered=leaf.answer is not None,
        behaviours=tuple(str(step.behaviour) for step in steps),
        chosen=frozenset(openings),
    )
