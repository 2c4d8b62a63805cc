"""Which child to go on with: the upper confidence bound for trees (Kocsis and Szepesvári 2006)."""

import math
from collections.abc import Sequence

from rolewise.search.tree import Node


def uct(value: float, visits: int, parent_visits: int, exploration: float) -> float:
    """value / visits + c √(ln parent_visits / visits); infinite without visits.

    Args:
        value: sum of the values that the visits brought.
        visits: of the child.
        parent_visits: of its parent.
        exploration: the constant c.
    """
    if visits == 0:
        return math.inf
    return value / visits + exploration * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def best_child(children: Sequence[Node], visits: Sequence[int], parent_visits: int, exploration: float) -> Node:
    """The child of the highest bound, of equals the earliest.

    Args:
        children: at least one.
        visits: of each: those that ended and, as a virtual loss, those under way, which have brought no value yet.
        parent_visits: of their parent, counted in the same way.
        exploration: the constant c.
    """
    bounds = [
        uct(child.value, count, parent_visits, exploration) for child, count in zip(children, visits, strict=True)
    ]
    return children[bounds.index(max(bounds))]
