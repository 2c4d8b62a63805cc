"""Accuracies, weighted scores, pass@k, majorities and paired comparisons."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rolewise.evaluation.accuracy import (
    compare_runs,
    majority,
    mean_score,
    mean_scores,
    pass_at_k,
    weighted_score,
)
from rolewise.evaluation.examples import Example, Verdict


def test_zeros_and_ones_get_wilson_and_shares_get_students_t():
    right = mean_score("a", [1, 1, 0, 1])
    expected = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (right.value, right.low, right.high, right.count) == (0.75, expected.low, expected.high, 4)
    shares = [0.25, 0.5, 0.5, 0.75, 1.0]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(shares), scale=stats.sem(shares))
    score = mean_score("b", shares)
    assert score.low == pytest.approx(low)
    assert score.high == pytest.approx(high)
    assert mean_score("c", [1.0, 0.9]).high == 1.0


@pytest.mark.parametrize("scores", [[], [1.5], [-0.1, 1]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match=r"trials|outside"):
        mean_score("a", scores)


def test_categories_follow_the_overall_score():
    results = [(Example(str(i), name, None), Verdict(s)) for i, (name, s) in enumerate([("x", 1), ("y", 0), ("x", 0)])]
    assert [(s.name, s.value, s.count) for s in mean_scores(results)] == [
        ("overall", pytest.approx(1 / 3), 3),
        ("x", 0.5, 2),
        ("y", 0.0, 1),
    ]
    assert [s.name for s in mean_scores(results[:1])] == ["overall"]


def test_weighted_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held, runs = 0, 400
    for _ in range(runs):
        parts = [
            (w, mean_score("p", (generator.random(n) < p).astype(float).tolist()))
            for w, p, n in [(0.1, 0.9, 60), (0.6, 0.5, 80), (0.3, 0.2, 100)]
        ]
        score = weighted_score("overall", parts)
        held += score.low <= 0.09 + 0.3 + 0.06 <= score.high
    assert 0.92 <= held / runs <= 0.985


def test_one_part_keeps_its_own_interval_and_weights_need_no_sum_of_one():
    part = mean_score("p", [1, 0, 1])
    whole = weighted_score("o", [(5.0, part)])
    assert (whole.value, whole.low, whole.high) == pytest.approx((part.value, part.low, part.high))
    with pytest.raises(ValueError, match="weights"):
        weighted_score("o", [(0.0, part)])


@pytest.mark.parametrize(("right", "samples", "k"), [(0, 5, 3), (2, 5, 1), (2, 5, 3), (5, 5, 5), (4, 6, 3)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(right, samples, k):
    draws = list(itertools.combinations([True] * right + [False] * (samples - right), k))
    assert pass_at_k(right, samples, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="pass@4"):
        pass_at_k(1, 3, 4)


def test_majorities_leave_out_samples_without_an_answer_and_ties_go_to_the_first():
    assert majority([None, "b", "a", "a", None, None]) == 2
    assert majority(["b", "a", "a", "b"]) == 0
    assert majority([None, None]) is None


def test_the_test_of_two_runs_is_mcnemars_and_pairs_by_example():
    first = {str(i): float(i % 2) for i in range(20)}
    second = {**dict.fromkeys(first, 1.0), "other": 0.0}
    compared = compare_runs(first, second)
    assert compared.count == 20
    assert compared.difference.estimate == 0.5
    assert compared.p == pytest.approx(2 * 0.5**10)
    assert compare_runs(first, first).p == 1.0


def test_shares_are_compared_by_sign_flips():
    generator = np.random.default_rng(1)
    first = {str(i): float(x) for i, x in enumerate(generator.uniform(0, 0.8, 12))}
    second = {key: value + 0.1 + 0.05 * generator.random() for key, value in first.items()}
    differences = np.array([second[key] - first[key] for key in first])
    signs = np.array(list(itertools.product([1, -1], repeat=12)))
    exact = (np.abs((signs * differences).mean(axis=1)) >= differences.mean() - 1e-12).mean()
    assert compare_runs(first, second).p == pytest.approx(exact, abs=2e-3)
    assert not math.isnan(compare_runs({"a": 0.5}, {"a": 0.25}).p)


def test_runs_without_a_common_example_can_not_be_compared():
    with pytest.raises(ValueError, match="no example"):
        compare_runs({"a": 1.0}, {"b": 1.0})
