"""Voting for one answer among many paths, and its accuracy over the number of rollouts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from rolewise.core.errors import InputError
from rolewise.core.statistics import Interval, wilson
from rolewise.search.settings import VoteBy
from rolewise.search.tree import Node, Tree

VOTES: tuple[VoteBy, ...] = get_args(VoteBy)


@dataclass(frozen=True)
class Vote:
    """Result of the vote of a tree's paths.

    Attributes:
        answer: winning answer; None if no path gave one.
        right: True if it is right; None if unknown.
        votes: number of rollouts that ended in it.
        share: share of the rollouts, including those without an answer.
        value: mean value of the rollouts that ended in it.
        leaf: number of the node that gave it with the highest value.
    """

    answer: str | None
    right: bool | None
    votes: int
    share: float
    value: float
    leaf: int | None


def vote(tree: Tree, by: VoteBy = "majority", rollouts: int | None = None) -> Vote:
    """Return the answer that a tree's rollouts elect.

    Each rollout has one vote, for the answer of its path; a path visited twice counts twice, as in UCT's own
    statistics. Among equals, the first found wins.

    Args:
        tree: a tree, finished or not.
        by: `majority`: the most votes; `value`: the greatest sum of the rollouts' values; `best`: the single path with
            the highest value, then the highest process reward on its last step.
        rollouts: number of first rollouts to use; None for all.

    Raises:
        InputError: for an unknown way of voting.
    """
    if by not in VOTES:
        raise InputError(f"vote by {by!r} is not known; choose one of {', '.join(VOTES)}")
    taken = tree.rollouts if rollouts is None else tree.rollouts[:rollouts]
    leaves: dict[str, list[Node]] = {}
    for number in taken:
        leaf = tree.nodes[number]
        if leaf.answer is not None:
            leaves.setdefault(leaf.answer, []).append(leaf)
    if not leaves:
        return Vote(None, False if tree.question.reference is not None else None, 0, 0.0, 0.0, None)
    # `max` takes the first of equals, and answers are in the order in which they were found.
    answer = max(leaves, key=lambda one: _weight(leaves[one], by))
    found = leaves[answer]
    best = max(found, key=_rank)
    mean = math.fsum(_value(leaf) for leaf in found) / len(found)
    return Vote(answer, best.right, len(found), len(found) / len(taken), mean, best.number)


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after a number of rollouts.

    Attributes:
        rollouts: rollouts per question; a tree that ended earlier counts with all its rollouts.
        accuracy: share of questions whose elected answer is right, for each way of voting.
        found: share of questions with a right answer on any path.
    """

    rollouts: int
    accuracy: dict[VoteBy, Interval]
    found: Interval


def accuracy_curve(trees: Sequence[Tree], votes: Sequence[VoteBy] = VOTES) -> list[CurvePoint]:
    """Return accuracy over rollouts, from one search: its first rollouts equal those of a shorter search.

    Questions without a reference are skipped; intervals (Wilson, 95 %) are over questions. Values that use the
    reference would make `value` and `best` an oracle: the trees must come from a search that did not see it.
    """
    known = [tree for tree in trees if tree.question.reference is not None]
    most = max((len(tree.rollouts) for tree in known), default=0)
    return [_point(known, count, votes) for count in range(1, most + 1)]


def _point(trees: Sequence[Tree], count: int, votes: Sequence[VoteBy]) -> CurvePoint:
    accuracy = {by: wilson(sum(vote(tree, by, count).right is True for tree in trees), len(trees)) for by in votes}
    found = sum(any(tree.nodes[number].right for number in tree.rollouts[:count]) for tree in trees)
    return CurvePoint(count, accuracy, wilson(found, len(trees)))


def _weight(leaves: Sequence[Node], by: VoteBy) -> tuple[float, float]:
    if by == "majority":
        return len(leaves), 0.0
    if by == "value":
        return math.fsum(_value(leaf) for leaf in leaves), 0.0
    return max(_rank(leaf) for leaf in leaves)


def _rank(leaf: Node) -> tuple[float, float]:
    return _value(leaf), leaf.process_reward or 0.0


def _value(leaf: Node) -> float:
    return leaf.outcome or 0.0
