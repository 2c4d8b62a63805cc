"""Correctness of a response's calls by ToolRL's rule (arXiv 2504.13958, section 3.3), which ResT keeps."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from rolewise.rewards.reference_calls import Call

Granularity = Literal["original", "finegrained", "intermediate", "coarse"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)


def correctness(reference: Sequence[Call], predicted: Sequence[Call], granularity: Granularity = "original") -> float:
    """Return the share of the attainable score that the predicted calls get, in [0, 1].

    Values are compared as in Python, so `1`, `1.0` and `true` are equal.

    - "original": (J(names) + Σ_g max_p (J(parameter names) + number of equal values)) / (1 + Σ_g (1 + |parameters|)),
        with J the Jaccard similarity of multisets, 1 for equal lists. Reference calls g choose in order; p is a call of
        the same name, chosen at most once, with a score above 0.
    - "finegrained": J is 1 for equal lists, order included, and 0 otherwise.
    - "intermediate": a reference call counts 1 if there is an equal call and 0 otherwise; names count as before.
    - "coarse": 1 if all calls are equal, in order, and 0 otherwise.

    Args:
        reference: right calls, at least one.
        predicted: calls of the response.
        granularity: one of the rules above; the last three are ToolRL's ablations.
    """
    if list(reference) == list(predicted):
        return 1.0
    if granularity == "coarse":
        return 0.0
    similarity = _equal if granularity == "finegrained" else _jaccard
    score = similarity([call.name for call in reference], [call.name for call in predicted])
    attainable = 1.0
    free: dict[str, list[Call]] = {}
    for call in predicted:
        free.setdefault(call.name, []).append(call)
    for wanted in reference:
        candidates = free.get(wanted.name, [])
        if granularity == "intermediate":
            attainable += 1
            scores = [float(call == wanted) for call in candidates]
        else:
            attainable += 1 + len(wanted.arguments)
            scores = [_call_score(wanted, call, similarity) for call in candidates]
        best = max(scores, default=0.0)
        if best > 0:
            score += best
            del candidates[scores.index(best)]
    return score / attainable


def _call_score(wanted: Call, call: Call, similarity: Callable[[list[str], list[str]], float]) -> float:
    equal: int = sum(key in call.arguments and call.arguments[key] == value for key, value in wanted.arguments.items())
    return similarity(list(wanted.arguments), list(call.arguments)) + equal


def _jaccard(first: list[str], second: list[str]) -> float:
    if first == second:
        return 1.0
    common = sum((Counter(first) & Counter(second)).values())
    return common / (len(first) + len(second) - common)


def _equal(first: list[str], second: list[str]) -> float:
    return float(first == second)
