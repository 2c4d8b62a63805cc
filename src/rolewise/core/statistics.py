"""Confidence intervals for shares, areas under the curve, paired differences and ratios.

Shapes: S = samples (or pairs), N = all tokens of all samples, R = resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_RESAMPLES_AT_ONCE = 16  # limits a bootstrap's table of weights over tokens to a few megabytes


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval; NaN where the data does not determine them."""

    estimate: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Write all three with one format, e.g. `f"{interval:.1%}"` gives `2.6% [1.9%, 3.5%]`."""
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, ".3f")


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return a share and its Wilson score interval (Wilson 1927).

    Assumes independent trials with the same probability of success. Tokens of one sample are not independent: for them
    this interval is too narrow.

    Raises:
        ValueError: unless 0 <= successes <= trials, trials > 0 and 0 < level < 1.
    """
    _check_level(level)
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    ends = stats.binomtest(successes, trials).proportion_ci(confidence_level=level, method="wilson")
    return Interval(successes / trials, float(ends.low), float(ends.high))


def auroc(scores_N: npt.ArrayLike, positives_N: npt.ArrayLike) -> float:
    """Return the probability that a random positive scores above a random negative; a tie counts one half.

    Exact, by the ranks of the scores (Mann and Whitney 1947). Assumes nothing about the scores' distribution.

    Args:
        scores_N: float [N], finite or infinite.
        positives_N: bool [N].

    Returns:
        In [0, 1]; NaN if there are no positives or no negatives.

    Raises:
        ValueError: for arrays of unequal length, or a score that is NaN.
    """
    scores, positives = _scores_and_positives(scores_N, positives_N)
    positive_count = int(positives.sum())
    negative_count = positives.size - positive_count
    if not positive_count or not negative_count:
        return float("nan")
    rank_sum = float(stats.rankdata(scores)[positives].sum())
    return (rank_sum - positive_count * (positive_count + 1) / 2) / (positive_count * negative_count)


def auroc_interval(
    scores_per_sample: Sequence[npt.ArrayLike],
    positives_per_sample: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return `auroc` over all tokens with a percentile interval from a cluster bootstrap over samples.

    Assumes that samples are independent draws; tokens within a sample may depend on each other in any way, since a
    sample is drawn as a whole (Field and Welsh 2007). With fewer than about thirty samples the interval is too narrow.
    Draws that lack positives or negatives are left out.

    Args:
        scores_per_sample: S arrays, float [T_s].
        positives_per_sample: S arrays, bool [T_s].
        level: the share of repetitions in which such an interval contains the true value.
        resamples: R, at least 1.
        seed: seed of the draws.

    Raises:
        ValueError: for no samples, arrays of unequal length, NaN scores, or a level or resamples out of range.
    """
    _check_level(level)
    _check_resamples(resamples)
    if not len(scores_per_sample) or len(scores_per_sample) != len(positives_per_sample):
        raise ValueError(f"scores of {len(scores_per_sample)} samples but positives of {len(positives_per_sample)}")
    pairs = [_scores_and_positives(*pair) for pair in zip(scores_per_sample, positives_per_sample, strict=True)]
    sample_count = len(pairs)
    sample_N = np.repeat(np.arange(sample_count), [scores.size for scores, _ in pairs])
    scores_N = np.concatenate([scores for scores, _ in pairs])
    positives_N = np.concatenate([positives for _, positives in pairs])
    estimate = auroc(scores_N, positives_N)

    # Sorted once; a resample is then a weight per sample, and every area comes from running sums over equal scores.
    order = np.argsort(scores_N, kind="stable")
    scores_N, positives_N, sample_N = scores_N[order], positives_N[order], sample_N[order]
    if not scores_N.size:
        return Interval(estimate, float("nan"), float("nan"))
    tie_starts = np.flatnonzero(np.r_[True, scores_N[1:] != scores_N[:-1]])
    generator = np.random.default_rng(seed)
    areas: list[Floats] = []
    for first in range(0, resamples, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, resamples - first)
        weight_RS = generator.multinomial(sample_count, np.full(sample_count, 1 / sample_count), size=count)
        areas.append(_weighted_auroc(weight_RS[:, sample_N].astype(np.float64), positives_N, tie_starts))
    return _percentiles(estimate, np.concatenate(areas), level)


def paired_interval(differences_S: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of paired differences with Student's t interval.

    Assumes independent pairs, and differences that are nearly normal or about thirty or more. Equal differences give an
    interval of zero width.

    Args:
        differences_S: float [S], one per pair, e.g. the second method's score minus the first's under one seed.
        level: as for `auroc_interval`.

    Returns:
        The interval; its ends are NaN for a single pair.

    Raises:
        ValueError: for no pairs, or a difference that is NaN or infinite.
    """
    _check_level(level)
    differences = _finite("differences", differences_S)
    mean = float(differences.mean())
    if differences.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    error = float(differences.std(ddof=1)) / differences.size**0.5
    margin = float(stats.t.ppf((1 + level) / 2, differences.size - 1)) * error
    return Interval(mean, mean - margin, mean + margin)


def ratio_interval(
    numerators_S: npt.ArrayLike,
    denominators_S: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the median of paired ratios with a percentile bootstrap interval, for timings.

    Assumes independent pairs, each measured side by side, so that a slower machine slows both. The median tolerates a
    few disturbed pairs.

    Args:
        numerators_S: float [S], e.g. seconds with the change.
        denominators_S: float [S], e.g. seconds without it; positive.
        level, resamples, seed: as for `auroc_interval`.

    Raises:
        ValueError: for no pairs, unequal lengths, values that are not finite, denominators that are not positive, or a
            level or resamples out of range.
    """
    _check_level(level)
    _check_resamples(resamples)
    numerators, denominators = _finite("numerators", numerators_S), _finite("denominators", denominators_S)
    if numerators.shape != denominators.shape:
        raise ValueError(f"{numerators.size} numerators but {denominators.size} denominators")
    if (denominators <= 0).any():
        raise ValueError("a denominator is not positive")
    ratios = numerators / denominators
    picks_RS = np.random.default_rng(seed).integers(ratios.size, size=(resamples, ratios.size))
    return _percentiles(float(np.median(ratios)), np.median(ratios[picks_RS], axis=1), level)


def _weighted_auroc(weight_RN: Floats, positives_N: npt.NDArray[np.bool_], tie_starts: npt.NDArray[np.intp]) -> Floats:
    """Return float64 [R], `auroc` with a weight per token; tokens sorted by score, ties starting at `tie_starts`."""
    positive_RK = np.add.reduceat(weight_RN * positives_N, tie_starts, axis=1)
    negative_RK = np.add.reduceat(weight_RN * ~positives_N, tie_starts, axis=1)
    below_RK = np.cumsum(negative_RK, axis=1) - negative_RK
    won_R = (positive_RK * (below_RK + negative_RK / 2)).sum(axis=1)
    pairs_R = positive_RK.sum(axis=1) * negative_RK.sum(axis=1)
    areas_R: Floats = np.full_like(won_R, np.nan)
    np.divide(won_R, pairs_R, out=areas_R, where=pairs_R > 0)
    return areas_R


def _percentiles(estimate: float, resampled_R: Floats, level: float) -> Interval:
    usable = resampled_R[~np.isnan(resampled_R)]
    if not usable.size:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _scores_and_positives(scores: npt.ArrayLike, positives: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    scores_N = np.asarray(scores, dtype=np.float64)
    positives_N = np.asarray(positives, dtype=np.bool_)
    if scores_N.ndim != 1 or scores_N.shape != positives_N.shape:
        raise ValueError(
            f"scores of shape {scores_N.shape} but positives of shape {positives_N.shape}; expected [N] each"
        )
    if np.isnan(scores_N).any():
        raise ValueError("a score is NaN; leave out tokens without a score")
    return scores_N, positives_N


def _finite(name: str, values: npt.ArrayLike) -> Floats:
    values_S = np.asarray(values, dtype=np.float64).ravel()
    if not values_S.size:
        raise ValueError(f"no {name}")
    if not np.isfinite(values_S).all():
        raise ValueError(f"the {name} are not all finite")
    return values_S


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a level of {level}; expected between 0 and 1")


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"{resamples} resamples; expected at least 1")
