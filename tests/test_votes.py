"""Votes over a tree's paths, and accuracy over rollouts, worked out by hand."""

import pytest

from rolewise.core.errors import InputError
from rolewise.core.statistics import wilson
from rolewise.search.tree import Question, Tree
from rolewise.search.votes import accuracy_curve, vote


def tree_of(*leaves: tuple[str | None, float], reference: str | None = "7", name: str = "q") -> Tree:
    """A tree with a leaf below the question for each (answer, value), each visited once, in order."""
    tree = Tree(Question(name, "?", reference), "tokens")
    for answer, value in leaves:
        right = None if reference is None else answer == reference
        leaf = tree.add(tree.root, "output", leaf=True, answer=answer, outcome=value, right=right)
        tree.rollouts.append(leaf.number)
    return tree


def test_each_way_of_voting_elects_its_own_answer() -> None:
    tree = tree_of(("5", 0.1), ("5", 0.1), ("5", 0.1), ("6", 0.4), ("6", 0.4), ("7", 0.7), (None, 0.9))
    majority, value, best = (vote(tree, by) for by in ("majority", "value", "best"))
    assert (majority.answer, majority.votes, majority.share, majority.right) == ("5", 3, 3 / 7, False)
    assert (value.answer, value.value, value.leaf) == ("6", pytest.approx(0.4), 4)
    assert (best.answer, best.votes, best.right, best.leaf) == ("7", 1, True, 6)


def test_of_equals_the_first_found_wins() -> None:
    tree = tree_of(("6", 0.5), ("7", 0.5))
    assert [vote(tree, by).answer for by in ("majority", "value", "best")] == ["6", "6", "6"]


def test_a_path_visited_twice_votes_twice_and_process_rewards_break_ties_of_the_best() -> None:
    tree = tree_of(("6", 0.5), ("7", 0.5))
    tree.rollouts.append(2)
    tree.nodes[2].process_reward = 0.3
    assert vote(tree).answer == "7"
    assert vote(tree).votes == 2
    assert vote(tree, "best").answer == "7"


def test_without_an_answer_nothing_is_elected() -> None:
    assert vote(tree_of((None, 0.0))).answer is None
    assert vote(tree_of((None, 0.0))).right is False
    assert vote(tree_of(reference=None)).right is None
    with pytest.raises(InputError, match="choose one of majority, value, best"):
        vote(tree_of(("1", 0.0)), "median")  # type: ignore[arg-type]


def test_the_curve_takes_the_first_rollouts_of_each_question() -> None:
    first = tree_of(("7", 0.0), ("5", 0.0), ("5", 0.0), name="a")
    second = tree_of(("5", 0.0), ("7", 0.0), ("7", 0.0), name="b")
    short = tree_of(("7", 0.0), name="c")
    unknown = tree_of(("7", 0.0), reference=None, name="d")
    curve = accuracy_curve([first, second, short, unknown], ["majority"])
    # After 1: a and c; after 2: a (first of equals) and c; after 3: b and c.
    assert [point.accuracy["majority"] for point in curve] == [wilson(2, 3), wilson(2, 3), wilson(2, 3)]
    assert [point.found for point in curve] == [wilson(2, 3), wilson(3, 3), wilson(3, 3)]
    assert [list(point.accuracy) for point in curve] == [["majority"]] * 3
    assert accuracy_curve([unknown]) == []
