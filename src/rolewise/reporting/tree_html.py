"""The page of trees: one self-contained HTML file for opening, reading and searching search trees.

Nodes are embedded as columns, a list per field, which is half the size of a record per node; the page renders only the
visible rows (see `page` and the templates `tree_*.js`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.reporting.content import Table
from rolewise.reporting.page import write_page
from rolewise.reporting.page_data import visible
from rolewise.search.tree import Node, Tree

SCRIPTS = ("common.js", "tree_data.js", "tree_rows.js", "tree_detail.js", "tree_controls.js")
"""Parts of the page's script; each may depend on earlier ones."""

_DIGITS = 4


def write_tree_report(
    path: str | Path,
    trees: Sequence[Tree],
    *,
    title: str,
    subtitle: str = "",
    summary: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page to `path` atomically.

    Args:
        path: the HTML file.
        trees: the trees, finished or not.
        title: heading of the page.
        subtitle: one line below it.
        summary: tables at the top.
        notes: remarks shown below the tables.

    Raises:
        InputError: if the file system reports an error, naming the file.
    """
    write_page(
        path,
        "tree.html.j2",
        styles=["style.css", "tree.css"],
        scripts=SCRIPTS,
        data=tree_page_data(trees),
        title=title,
        subtitle=subtitle,
        summary=summary,
        notes=notes,
        n_trees=len(trees),
    )


def tree_page_data(trees: Sequence[Tree]) -> dict[str, Any]:
    """Return the script's input as JSON values: the behaviours' names, the range of mean values, the trees."""
    behaviours = list(dict.fromkeys(str(node.behaviour) for tree in trees for node in tree.nodes[1:]))
    means = [node.mean for tree in trees for node in tree.nodes if node.visits and math.isfinite(node.mean)]
    return {
        "behaviours": [visible(name) for name in behaviours],
        # Most values lie between 0 and 1; then the scale is 0 to 1, and pages can be compared.
        "scale": [min([0.0, *means]), max([1.0, *means])],
        "trees": [_tree_data(tree, {name: place for place, name in enumerate(behaviours)}) for tree in trees],
    }


def _tree_data(tree: Tree, place_of: dict[str, int]) -> dict[str, Any]:
    nodes = tree.nodes
    return {
        "id": visible(tree.question.id),
        "question": visible(tree.question.text),
        "reference": None if tree.question.reference is None else visible(tree.question.reference),
        "policy": tree.policy,
        "rollouts": len(tree.rollouts),
        "tokens": tree.tokens,
        "ended": tree.ended,
        "votes": _votes(tree),
        "parent": [-1 if node.parent is None else node.parent for node in nodes],
        "behaviour": [-1 if node.behaviour is None else place_of[node.behaviour] for node in nodes],
        "text": [visible(node.text) for node in nodes],
        "visits": [node.visits for node in nodes],
        "mean": [_rounded(node.mean) if node.visits else None for node in nodes],
        "prior": [_rounded(node.prior) for node in nodes],
        "logprob": [_rounded(math.fsum(node.logprobs)) if node.logprobs else None for node in nodes],
        "length": [len(node.ids) for node in nodes],
        "process": [_rounded(node.process_reward) for node in nodes],
        "cut": [node.number for node in nodes if not node.closed],
        "leaves": {node.number: _leaf_data(node) for node in tree.leaves()},
    }


def _leaf_data(node: Node) -> dict[str, Any]:
    return {
        "answer": None if node.answer is None else visible(node.answer),
        "right": node.right,
        "outcome": _rounded(node.outcome),
    }


def _votes(tree: Tree) -> list[dict[str, Any]]:
    """Return the answers ordered by their votes, one per rollout, then by the sum of their values; the rollouts
    without an answer come last. `node` is the leaf of the highest value."""
    leaves: dict[str | None, list[Node]] = {}
    for number in tree.rollouts:
        leaf = tree.nodes[number]
        leaves.setdefault(leaf.answer, []).append(leaf)
    votes = [
        {
            "answer": None if answer is None else visible(answer),
            "count": len(found),
            "value": _rounded(math.fsum(leaf.outcome or 0.0 for leaf in found)),
            "right": found[0].right,
            "node": max(found, key=lambda leaf: leaf.outcome or 0.0).number,
        }
        for answer, found in leaves.items()
    ]
    return sorted(votes, key=lambda vote: (vote["answer"] is None, -vote["count"], -(vote["value"] or 0.0)))


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DIGITS)
