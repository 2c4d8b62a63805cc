"""Selection of a child by the upper confidence bound for trees, UCT (Kocsis and Szepesvári 2006)."""

import math
from collections.abc import Sequence

from rolewise.search.tree import Node


def uct(value: float, visits: int, parent_visits: int, exploration: float) -> float:
    """Return value / visits + c √(ln parent_visits / visits); infinity without visits.

    Args:
        value: sum of the values of the visits.
        visits: number of visits of the child.
        parent_visits: number of visits of its parent.
        exploration: the constant c.
    """
    if visits == 0:
        return math.inf
    return value / visits + exploration * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def best_child(children: Sequence[Node], visits: Sequence[int], parent_visits: int, exploration: float) -> Node:
    """Return the child with the highest bound, the earliest among equals.

    Args:
        children: children, at least one.
        visits: visits of each child: finished ones and, as a virtual loss, running ones, which have no value yet.
        parent_visits: visits of their parent, counted in the same way.
        exploration: the constant c.
    """
    bounds = [
        uct(child.value, count, parent_visits, exploration) for child, count in zip(children, visits, strict=True)
    ]
    return children[bounds.index(max(bounds))]
