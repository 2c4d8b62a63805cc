"""One answer out of many paths, and how often it is right after more and more rollouts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rolewise.core.errors import InputError
from rolewise.evaluation.statistics import Interval, wilson
from rolewise.search.tree import Node, Tree

VoteBy = Literal["majority", "value", "best"]
VOTES: tuple[VoteBy, ...] = ("majority", "value", "best")


@dataclass(frozen=True)
class Vote:
    """What a tree's paths say together.

    Attributes:
        answer: the one that won; None if no path gave one.
        right: whether it is right; None where that can't be known.
        votes: rollouts that ended in it.
        share: of the rollouts, those without an answer included.
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
    """The answer that a tree's rollouts elect.

    Each rollout has one vote, for the answer that its path ended in; the same path visited twice counts twice, as in
    UCT's own statistics. Of equals the one that was found first wins.

    Args:
        tree: finished or not.
        by: `majority`: the most votes; `value`: the greatest sum of the rollouts' values; `best`: the single path of
            the highest value, and of process rewards on its last step where values are equal.
        rollouts: only the first so many; None for all.

    Raises:
        InputError: for an unknown way.
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
    # `max` takes the first of equals, and answers stand in the order in which they were found.
    answer = max(leaves, key=lambda one: _weight(leaves[one], by))
    found = leaves[answer]
    best = max(found, key=_rank)
    mean = math.fsum(_value(leaf) for leaf in found) / len(found)
    return Vote(answer, best.right, len(found), len(found) / len(taken), mean, best.number)


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after so many rollouts.

    Attributes:
        rollouts: for each question; one that ended before counts with all that it has.
        accuracy: share of questions whose elected answer is right, by way of voting.
        found: share of questions with a right answer on any path.
    """

    rollouts: int
    accuracy: dict[VoteBy, Interval]
    found: Interval


def accuracy_curve(trees: Sequence[Tree], votes: Sequence[VoteBy] = VOTES) -> list[CurvePoint]:
    """Accuracy over rollouts, from one search: its first rollouts are those of a shorter one.

    Questions without a reference are left out; intervals (Wilson, 95 %) are over questions. Values that know the
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
