"""Accuracies with intervals, weighted overall scores, pass@k and maj@k, and the comparison of two runs."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from rolewise.core.statistics import Interval, paired_interval, wilson
from rolewise.evaluation.examples import Example, Verdict

_FLIPS = 9999  # random sign flips, if there are too many to try them all


@dataclass(frozen=True)
class Score:
    """One line of a suite's summary.

    Attributes:
        name: `overall`, a category, `pass@4` …
        value: the estimate, as a share.
        low, high: ends of its 95 % interval; NaN if there is none.
        count: number of examples behind it.
        note: note for readers, e.g. `partial: without multi_turn`.
    """

    name: str
    value: float
    low: float
    high: float
    count: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with null for NaN."""
        return {key: None if value != value else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Score":
        """Return the score that `to_json` wrote.

        Raises:
            KeyError, TypeError: for anything else.
        """
        value, low, high = (math.nan if fields[key] is None else float(fields[key]) for key in ("value", "low", "high"))
        return cls(str(fields["name"]), value, low, high, int(fields["count"]), str(fields["note"]))


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs on the same examples.

    Attributes:
        difference: mean of the second run's scores minus the first's, with its 95 % interval.
        p: probability of a difference at least this large if the two were equal (two-sided).
        test: name of the test behind `p`.
        count: number of examples that both runs have.
    """

    difference: Interval
    p: float
    test: str
    count: int


def mean_score(name: str, scores: Sequence[float], note: str = "") -> Score:
    """Return the mean of per-example scores in [0, 1] with its 95 % interval.

    The interval is Wilson's for scores that are all 0 or 1; else Student's t over examples, cut to [0, 1], which is
    too narrow below about thirty examples.

    Raises:
        ValueError: for no scores, or one outside [0, 1].
    """
    if any(not 0 <= score <= 1 for score in scores):
        raise ValueError(f"{name}: a score lies outside [0, 1]")
    if all(score in (0, 1) for score in scores):
        interval = wilson(int(sum(scores)), len(scores))
    else:
        wide = paired_interval(scores)
        interval = Interval(wide.estimate, max(wide.low, 0.0), min(wide.high, 1.0))
    return Score(name, interval.estimate, interval.low, interval.high, len(scores), note)


def mean_scores(results: Sequence[tuple["Example", "Verdict"]]) -> list[Score]:
    """Return the overall mean, unless there is one category, then the mean of each in order of appearance."""
    categories: dict[str, list[float]] = {}
    for example, verdict in results:
        categories.setdefault(example.category, []).append(verdict.score)
    overall = mean_score("overall", [verdict.score for _, verdict in results])
    if len(categories) == 1:
        return [overall]
    return [overall, *(mean_score(name, scores) for name, scores in categories.items())]


def weighted_score(name: str, parts: Sequence[tuple[float, Score]], note: str = "") -> Score:
    """Return a weighted mean of scores on different examples; weights are normalized to sum to 1.

    The interval is recovered from the parts' intervals (Zou and Donner 2008): the squared distances of their ends from
    their estimates add up as variances do. NaN ends of a part give NaN ends.

    Raises:
        ValueError: for no parts, or weights that are negative or all zero.
    """
    total = sum(weight for weight, _ in parts)
    if not total > 0 or any(weight < 0 for weight, _ in parts):
        raise ValueError(f"{name}: invalid weights {[weight for weight, _ in parts]}")
    value = sum(weight * part.value for weight, part in parts) / total
    below = math.sqrt(sum((weight / total * (part.value - part.low)) ** 2 for weight, part in parts))
    above = math.sqrt(sum((weight / total * (part.high - part.value)) ** 2 for weight, part in parts))
    return Score(name, value, value - below, value + above, sum(part.count for _, part in parts), note)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Return the unbiased estimate of the probability that one of k samples is right, from `right` of `samples` (arXiv
    2107.03374, eq. 1).

    Raises:
        ValueError: unless 0 <= right <= samples and 1 <= k <= samples.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} is undefined for {right} right of {samples} samples")
    if samples - right < k:
        return 1.0
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority(answers: Sequence[Hashable | None]) -> int | None:
    """Return the index of the first sample with the most frequent answer; None counts as no answer.

    Returns:
        None if no sample has an answer. Among answers with equally many votes, the first given wins.
    """
    votes: dict[Hashable, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            votes.setdefault(answer, []).append(index)
    return max(votes.values(), key=len)[0] if votes else None


def compare_runs(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> Comparison:
    """Compare the scores of two runs, example by example, on the examples that both have.

    The test is McNemar's exact test if all scores are 0 or 1, else random sign flips of the differences. The interval
    is Student's t over the differences.

    Args:
        first, second: example id → score.
        seed: seed of the flips.

    Raises:
        ValueError: if the runs share no example.
    """
    shared = [key for key in first if key in second]
    if not shared:
        raise ValueError("the two runs share no example")
    a_S, b_S = np.array([first[key] for key in shared]), np.array([second[key] for key in shared])
    difference = paired_interval(b_S - a_S)
    if np.isin(a_S, (0, 1)).all() and np.isin(b_S, (0, 1)).all():
        gained, lost = int((b_S > a_S).sum()), int((b_S < a_S).sum())
        p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        return Comparison(difference, p, "McNemar, exact", len(shared))
    if len(shared) == 1:
        return Comparison(difference, 1.0, "sign flips", 1)
    result = stats.permutation_test(
        (b_S, a_S),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_FLIPS,
        rng=np.random.default_rng(seed),
    )
    return Comparison(difference, float(result.pvalue), "sign flips", len(shared))
