"""What a table says of runs, against SciPy on the raw numbers; and how it is written."""

import math

import numpy as np
import pytest
from scipy import stats

from rolewise.core.statistics import Interval
from rolewise.evaluation.accuracy import compare_runs
from rolewise.experiment_runner.plots import draw_curves, draw_sweep
from rolewise.experiment_runner.report import _interval
from rolewise.experiment_runner.results import Measure, Measurement, Results, cell
from rolewise.experiment_runner.runs import Labelling, Plan, Run
from rolewise.experiment_runner.series import Line, Panel, loss_panels

LOSS, SCORE = Measure("loss", "loss", True), Measure("suite", "suite", False)


def losses(seed: int, shift: float, samples: int = 7) -> Measurement:
    values = np.random.default_rng(seed).normal(2 + shift, 0.3, samples)
    return Measurement(Interval(float(values.mean()), 0.0, 9.0), {str(i): float(v) for i, v in enumerate(values)})


def right(share: float, seed: int, examples: int = 40) -> Measurement:
    values = (np.random.default_rng(seed).random(examples) < share).astype(float)
    return Measurement(Interval(float(values.mean()), 0.0, 1.0), {f"q{i}": v for i, v in enumerate(values.tolist())})


def t_interval(values: np.ndarray) -> tuple[float, float]:
    return stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))


def test_losses_of_several_seeds_are_paired_by_seed() -> None:
    own = {seed: losses(seed, 0.0) for seed in (0, 1, 2)}
    theirs = {seed: losses(seed + 10, 0.2) for seed in (0, 1, 2)}
    a, b = (np.array([m.value.estimate for m in side.values()]) for side in (own, theirs))
    found = cell(own, theirs, is_loss=True)
    assert (found.mean.estimate, found.over, found.seeds) == (pytest.approx(a.mean()), "seeds", 3)
    assert (found.mean.low, found.mean.high) == pytest.approx(t_interval(a))
    assert found.difference is not None
    assert found.difference.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    ends = (found.difference.difference.low, found.difference.difference.high)
    assert ends == pytest.approx(t_interval(a - b))
    assert (found.difference.count, found.difference.test) == (3, "paired t over seeds")


def test_losses_of_one_seed_are_paired_by_sample_and_samples_without_the_role_left_out() -> None:
    own, theirs = losses(0, 0.0), losses(1, 0.2)
    del own.examples["3"], theirs.examples["5"]
    found = cell({0: own}, {0: theirs, 1: losses(2, 0.2)}, is_loss=True)
    assert (found.mean, found.over) == (own.value, "examples")
    kept = [str(i) for i in range(7) if i not in (3, 5)]
    a, b = ([side.examples[key] for key in kept] for side in (own, theirs))
    assert found.difference is not None
    assert found.difference.count == 5
    assert found.difference.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.difference.difference.estimate == pytest.approx(np.mean(a) - np.mean(b))


def test_scores_are_paired_by_example_over_all_seeds_that_both_have() -> None:
    own = {seed: right(0.7, seed) for seed in (0, 1)}
    theirs = {seed: right(0.4, seed + 5) for seed in (0, 1, 2)}
    found = cell(own, theirs, is_loss=False)
    pooled = [{(s, k): v for s in (0, 1) for k, v in side[s].examples.items()} for side in (theirs, own)]
    expected = compare_runs(*pooled)
    assert found.difference is not None
    assert (found.difference.difference, found.difference.p) == (expected.difference, expected.p)
    assert found.difference.count == 80
    gained = sum(pooled[1][key] > pooled[0][key] for key in pooled[0])
    lost = sum(pooled[1][key] < pooled[0][key] for key in pooled[0])
    assert found.difference.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert found.mean.estimate == pytest.approx(np.mean([own[0].value.estimate, own[1].value.estimate]))


def test_the_interval_of_a_share_ends_at_0_and_1_and_that_of_a_loss_does_not() -> None:
    shares = {0: right(0.0, 0, examples=10), 1: right(0.2, 1, examples=10)}
    assert shares[1].value.estimate > 0
    low, _ = t_interval(np.array([m.value.estimate for m in shares.values()]))
    assert low < 0
    assert cell(shares, {}, is_loss=False).mean.low == 0.0
    assert cell(shares, {}, is_loss=True).mean.low == pytest.approx(low)


def test_what_can_not_be_compared_is_not() -> None:
    own = {0: losses(0, 0.0), 1: losses(1, 0.0)}
    assert cell(own, {}, is_loss=True).difference is None
    assert cell(own, {5: losses(0, 0.0)}, is_loss=True).difference is None
    alike = cell(own, own, is_loss=True).difference
    assert alike is not None
    assert (alike.difference.estimate, alike.p) == (0.0, None)


@pytest.mark.parametrize(
    ("interval", "measure", "sign", "text"),
    [
        (Interval(1.23456, 1.0, 1.5), LOSS, "", "1.235 [1.000, 1.500]"),
        (Interval(-0.0001, -0.2, 0.2), LOSS, "+", "0.000 [-0.200, +0.200]"),
        (Interval(0.5, 0.25, 0.75), SCORE, "", "50.0% [25.0%, 75.0%]"),
        (Interval(0.5, math.nan, math.nan), SCORE, "", "50.0% [–]"),
    ],
)
def test_intervals_as_text(interval: Interval, measure: Measure, sign: str, text: str) -> None:
    assert _interval(interval, measure, sign) == text


def test_equal_plots_are_equal_files_and_other_numbers_another(tmp_path) -> None:
    def panels(y: float) -> list[Panel]:
        swept = Line("RFT & <SHAD>", [0.0, 1.0], [1.0, y], [0.9, math.nan], [1.2, math.nan])
        return [Panel(f"panel {i}", "1/τ", "score", [swept, Line("SFT", [0.0], [0.4])]) for i in range(4)]

    for name, draw in (("losses", draw_curves), ("sweep", draw_sweep)):
        for i, y in enumerate((2.0, 2.0, 3.0)):
            draw(tmp_path / f"{name}{i}.svg", panels(y))
        first, again, other = ((tmp_path / f"{name}{i}.svg").read_bytes() for i in range(3))
        assert first == again != other
        assert "RFT &amp; &lt;SHAD&gt;" in first.decode()


def test_curves_share_a_panel_only_where_their_roles_are_the_same() -> None:
    def run(method: str, labels: str, seed: int) -> Run:
        labelling = Labelling(f"labels/m/{labels}", "m", {})
        name = f"{method}-{seed}"
        return Run(name, "m", method, method.upper(), "", seed=seed, command="sft", labelling=labelling)

    plan = Plan([run("sft", "shad", 0), run("sft", "shad", 1), run("rft", "shad", 0), run("regex", "regex", 0)])
    log = [{"step": n, "loss_token_mean": 2.0 / n, "loss_reasoning": 3.0 / n} for n in (1, 2)]
    higher = [{**entry, "loss_reasoning": entry["loss_reasoning"] + 1} for entry in log]
    results = Results([], logs={r.directory: higher if r.seed else log for r in plan.runs})
    panels = {panel.title: panel.lines for panel in loss_panels(plan, results)}
    assert {title: [line.name for line in lines] for title, lines in panels.items()} == {
        "m: training loss, all tokens": ["SFT", "RFT", "REGEX"],
        "m: training loss, reasoning\nby shad": ["SFT", "RFT"],
        "m: training loss, reasoning\nby regex": ["REGEX"],
    }
    sft, rft = panels["m: training loss, reasoning\nby shad"]
    assert (sft.xs, sft.ys, rft.ys) == ([1.0, 2.0], [3.5, 2.0], [3.0, 1.5])
    held_out = {
        name: [{**e, "eval_loss_token_mean": 1.0, "eval_loss_reasoning": 1.0} for e in log] for name in results.logs
    }
    assert [(p.title, len(p.lines)) for p in loss_panels(plan, Results([], logs=held_out))] == [
        ("m: held-out loss, all tokens", 3),
        ("m: held-out loss, reasoning", 3),
    ]


def test_a_level_is_a_line_across_on_the_page() -> None:
    chart = Panel("t", "1/τ", "score", [Line("a", [0.0, 2.0], [1.0, 2.0]), Line("SFT", [0.0], [0.4])]).chart()
    assert [(series.xs, series.ys) for series in chart.series] == [([0.0, 2.0], [1.0, 2.0]), ([0.0, 2.0], [0.4, 0.4])]
