"""BFCL's scores, averaged as the leaderboard averages them."""

from collections.abc import Mapping, Sequence

from rolewise.evaluation.accuracy import Score, mean_score, weighted_score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suites.bfcl.categories import (
    CATEGORIES,
    IRRELEVANCE,
    LIVE_CALLS,
    MULTI_TURN,
    NON_LIVE_CALLS,
    SIMPLE,
)

WEIGHTING = "BFCL v4 weighting"

_GROUPS = {
    "non_live": (10, NON_LIVE_CALLS),
    "live": (10, LIVE_CALLS),
    "hallucination": (10, IRRELEVANCE),
    "multi_turn": (30, MULTI_TURN),
}
"""Group → its weight in the overall score, its categories. The omitted group, Agentic, weighs 40."""


def summarise(results: Sequence[tuple[Example, Verdict]], sizes: Mapping[str, int]) -> list[Score]:
    """Return the overall score, then the groups' and the categories', each with its 95 % interval.

    The overall score is the leaderboard's weighted mean over the groups present, with a note on missing ones. Within a
    group every category counts the same, except that live ones count by their numbers of tasks, and the three kinds of
    simple calls count as one; `live_relevance` is in no group (`generate_leaderboard_csv` in the wheel's
    `eval_checker/eval_runner_helper.py`). A group with a single category present has no separate line.

    Args:
        results: results, at least one.
        sizes: number of tasks in each chosen category, drawn or not.
    """
    drawn: dict[str, list[float]] = {}
    for example, verdict in results:
        drawn.setdefault(example.category, []).append(verdict.score)
    categories = {name: mean_score(name, drawn[name]) for name in CATEGORIES if name in drawn}
    parts, lines = [], []
    for group, (weight, members) in _GROUPS.items():
        present = [name for name in members if name in categories]
        if present:
            score = weighted_score(group, [(_weight(name, present, sizes), categories[name]) for name in present])
            parts.append((weight, score))
            lines += [score] if len(present) > 1 else []
    if parts:
        overall = weighted_score("overall", parts, _note(categories, sizes))
    else:
        scores = [score for values in drawn.values() for score in values]
        overall = mean_score("overall", scores, "not part of the leaderboard's overall score")
    return [overall, *lines, *categories.values()]


def _weight(category: str, present: Sequence[str], sizes: Mapping[str, int]) -> float:
    """Return a category's weight within its group."""
    if category in LIVE_CALLS:
        return sizes[category]
    return 1 / sum(name in SIMPLE for name in present) if category in SIMPLE else 1


def _note(categories: Mapping[str, Score], sizes: Mapping[str, int]) -> str:
    missing = ["agentic"]
    for group, (_, members) in _GROUPS.items():
        absent = [name for name in members if name not in sizes]
        missing += [group] if len(absent) == len(members) else absent
    notes = [WEIGHTING, f"partial: without {', '.join(missing)}"]
    undrawn = [name for name in sizes if name not in categories]
    if undrawn:
        notes.append(f"nothing drawn of {', '.join(undrawn)}")
    return "; ".join(notes)
