"""Intervals and areas, judged by brute force, textbook values and simulated coverage."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolewise.core.statistics import Interval, auroc, auroc_interval, paired_interval, ratio_interval, wilson


def all_pairs_auroc(scores, positives):
    """The definition: every positive against every negative."""
    above = [score for score, positive in zip(scores, positives, strict=True) if positive]
    below = [score for score, positive in zip(scores, positives, strict=True) if not positive]
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in above for b in below)
    return won / (len(above) * len(below)) if above and below else math.nan


def loop_bootstrap(scores, positives, level, resamples, seed):
    """The same draws as `auroc_interval`, each resample built token by token."""
    count = len(scores)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    areas = []
    for draw in draws:
        drawn = [sample for sample in range(count) for _ in range(draw[sample])]
        area = all_pairs_auroc(
            [score for sample in drawn for score in scores[sample]],
            [positive for sample in drawn for positive in positives[sample]],
        )
        if not math.isnan(area):
            areas.append(area)
    return np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])


def test_intervals_print_their_three_numbers():
    interval = Interval(0.0262, 0.0191, 0.0354)
    assert str(interval) == "0.026 [0.019, 0.035]"
    assert f"{interval:.1%}" == "2.6% [1.9%, 3.5%]"


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert interval.estimate == successes / trials
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_is_the_formula_at_other_levels():
    successes, trials, z = 7, 30, 1.6448536269514722
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    margin = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    interval = wilson(successes, trials, level=0.9)
    assert interval.low == pytest.approx(middle - margin)
    assert interval.high == pytest.approx(middle + margin)


@pytest.mark.parametrize(("successes", "trials", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 95)])
def test_wilson_refuses_impossible_counts(successes, trials, level):
    with pytest.raises(ValueError, match=r"successes|level"):
        wilson(successes, trials, level)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=40))
def test_auroc_is_the_share_of_pairs_won_with_ties_halved(tokens):
    scores, positives = [score for score, _ in tokens], [positive for _, positive in tokens]
    assert auroc(scores, positives) == pytest.approx(all_pairs_auroc(scores, positives), nan_ok=True)


def test_auroc_at_its_ends_and_without_a_group():
    assert auroc([1.0, 2.0, np.inf], [False, False, True]) == 1.0
    assert auroc([1.0, 2.0, -np.inf], [False, False, True]) == 0.0
    assert math.isnan(auroc([1.0, 2.0], [True, True]))


def test_auroc_refuses_nan_and_unequal_lengths():
    with pytest.raises(ValueError, match="NaN"):
        auroc([1.0, math.nan], [True, False])
    with pytest.raises(ValueError, match="shape"):
        auroc([1.0, 2.0], [True])


def test_auroc_interval_is_the_bootstrap_written_as_a_loop():
    generator = np.random.default_rng(3)
    scores = [generator.integers(0, 4, size=size).astype(float) for size in (3, 1, 7, 2, 5)]
    positives = [generator.random(sample.size) < 0.5 for sample in scores]
    interval = auroc_interval(scores, positives, level=0.8, resamples=37, seed=5)
    # The generator is drawn from in blocks; multinomial rows do not depend on how they are blocked.
    low, high = loop_bootstrap(scores, positives, 0.8, 37, 5)
    assert interval.estimate == pytest.approx(all_pairs_auroc(np.concatenate(scores), np.concatenate(positives)))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_auroc_interval_is_wider_where_the_tokens_of_a_sample_agree():
    generator = np.random.default_rng(0)
    positives = [np.arange(20) % 2 == 0 for _ in range(40)]
    alone = [generator.normal(size=20) + 0.5 * truth for truth in positives]
    # One draw per sample moves all of its positives together.
    together = [generator.normal(size=20) + generator.normal() * 2 * truth for truth in positives]

    def width(scores):
        interval = auroc_interval(scores, positives, resamples=300)
        return interval.high - interval.low

    assert width(together) > 2 * width(alone)


def test_auroc_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    truth = 0.5 * (1 + math.erf(1 / 2))  # N(1, 1) against N(0, 1)
    positives = [np.array([True, False, True, False])] * 60
    held = 0
    for trial in range(200):
        scores = [generator.normal(size=4) + sample for sample in positives]
        interval = auroc_interval(scores, positives, resamples=200, seed=trial)
        held += interval.low <= truth <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_auroc_interval_is_repeatable_and_quick():
    generator = np.random.default_rng(2)
    scores = [generator.normal(size=100) for _ in range(100)]
    positives = [generator.random(100) < 0.3 for _ in range(100)]
    start = time.perf_counter()
    first = auroc_interval(scores, positives)
    assert time.perf_counter() - start < 10  # a third of a second on one slow core; a loop over resamples takes minutes
    assert first == auroc_interval(scores, positives)
    assert first != auroc_interval(scores, positives, seed=1)


def test_auroc_interval_without_a_group_is_nan_and_without_samples_an_error():
    assert math.isnan(auroc_interval([[1.0, 2.0]], [[True, True]]).low)
    assert math.isnan(auroc_interval([[]], [[]]).high)
    with pytest.raises(ValueError, match="0 samples"):
        auroc_interval([], [])
    with pytest.raises(ValueError, match="resamples"):
        auroc_interval([[1.0]], [[True]], resamples=0)


def test_paired_interval_is_students_t():
    # Student's own sleep data (1908): mean 1.58, standard deviation 1.23, t(9) = 2.262.
    interval = paired_interval([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert interval.estimate == pytest.approx(1.58)
    assert (interval.low, interval.high) == (pytest.approx(0.7001, abs=1e-4), pytest.approx(2.4599, abs=1e-4))


def test_paired_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [paired_interval(generator.normal(0.3, 1, size=5), level=0.9) for _ in range(1000)]
    assert 0.87 <= np.mean([interval.low <= 0.3 <= interval.high for interval in intervals]) <= 0.93


def test_paired_interval_of_one_pair_has_no_ends_and_of_none_is_an_error():
    assert paired_interval([2.0]).estimate == 2.0
    assert math.isnan(paired_interval([2.0]).low)
    assert paired_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no differences"):
        paired_interval([])
    with pytest.raises(ValueError, match="finite"):
        paired_interval([1.0, math.nan])


def test_ratio_interval_takes_the_median_of_pairs():
    interval = ratio_interval([2.0, 3.0, 100.0], [1.0, 1.0, 1.0])
    assert interval == Interval(3.0, 2.0, 100.0)


def test_ratio_interval_lets_disturbed_pairs_pass():
    ratios = [1.0, 1.1] * 12 + [50.0]
    assert ratio_interval(ratios, np.ones(25)).high <= 1.1


def test_ratio_interval_ignores_what_slows_both_sides():
    generator = np.random.default_rng(0)
    load = generator.uniform(1, 10, size=25)
    interval = ratio_interval(1.02 * load, load)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((1.02, 1.02, 1.02))


def test_ratio_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        noise = generator.lognormal(0, 0.1, size=25)
        interval = ratio_interval(1.1 * noise, np.ones(25), resamples=300, seed=trial)
        held += interval.low <= 1.1 <= interval.high
    assert 0.89 <= held / 300 <= 0.99


@pytest.mark.parametrize(
    ("numerators", "denominators", "message"),
    [([], [], "no numerators"), ([1.0], [0.0], "positive"), ([1.0, 2.0], [1.0], "2 numerators")],
)
def test_ratio_interval_refuses_what_has_no_ratio(numerators, denominators, message):
    with pytest.raises(ValueError, match=message):
        ratio_interval(numerators, denominators)
