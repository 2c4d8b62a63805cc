"""SHAD's threshold: format error and agreement with the truth over it, and calibrated on format tokens.

    python experiments/shad_threshold.py --data LABELLED [LABELLED ...]

Takes data sets that SHAD has labelled, such as those that `shad_agreement.py` leaves; no model is run. For each the
threshold is moved over fixed values, and then calibrated: the lowest that calls at most a given share of the sure
format tokens reasoning, on one half of the conversations and judged on the other, both ways, over several random
halvings. Balanced accuracy is the mean of the shares of truly reasoning and of truly boilerplate tokens that are told
right; calibrating on format tokens lifts it by construction if these are most of the boilerplate, so that it is given
without them, too. Data without known truth is judged by its format error alone. Writes results/shad_threshold.json.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.cli.console import run_script
from rolewise.core.files import write_json
from rolewise.core.role import Role
from rolewise.core.statistics import Interval
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledSample, load_labelled
from rolewise.labelling.calibration import lowest_threshold
from rolewise.labelling.classify import is_boilerplate
from rolewise.roles.regex import sure_format_mask

THRESHOLDS = (-0.1, -0.01, 0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
GROUPS = ("format", "reasoning", "boilerplate", "other boilerplate")


Judged = dict[str, np.ndarray]
"""One sample: LD (nats) of the tokens of each group."""


def main() -> None:
    """Judge every data set and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--halvings", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("results/shad_threshold.json"))
    arguments = parser.parse_args()
    found = {path.name: judge(path, arguments.shares, arguments.halvings) for path in arguments.data}
    write_json(arguments.output, {"halvings": arguments.halvings, "data": found, "versions": package_versions()})
    for name, result in found.items():
        print_table(name, result)


def judge(path: Path, shares: Sequence[float], halvings: int) -> dict[str, Any]:
    """All of one data set's measures."""
    judged = [by_group(sample) for sample in load_labelled(path).samples() if not sample.excluded]
    at_zero = counts_above(judged, [0.0] * len(judged))
    fixed = {str(value): measures(counts_above(judged, [value] * len(judged))) for value in THRESHOLDS}
    calibrated = {}
    for share in shares:
        counts, thresholds = cross_calibrated(judged, share, halvings)
        calibrated[str(share)] = {
            "threshold": format_threshold(judged, share),
            "thresholds_of_halves": [float(np.quantile(thresholds, q)) for q in (0, 0.5, 1)],
            **measures(counts),
            "gain_over_0": gains(at_zero, counts),
        }
    tokens = totals(judged)
    result = {"samples": len(judged), "tokens": tokens, "fixed": fixed, "calibrated": calibrated}
    if tokens["reasoning"]:
        result["best"] = best_threshold(judged)
    return result


def by_group(sample: LabelledSample) -> Judged:
    """LD of the tokens of each group; the truth's groups are empty where it is not known."""
    difference_T = sample.tuned_loss_T - sample.base_loss_T
    known_T = sample.mask_T & ~np.isnan(difference_T)
    sure_T = sure_format_mask(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans)
    truth_T = np.zeros_like(sample.roles_T) if sample.true_roles_T is None else sample.true_roles_T
    boilerplate_T = is_boilerplate(truth_T)
    members = (sure_T, truth_T == Role.REASONING, boilerplate_T, boilerplate_T & ~sure_T)
    return {name: difference_T[known_T & at_T] for name, at_T in zip(GROUPS, members, strict=True)}


def counts_above(judged: Sequence[Judged], thresholds: Sequence[float]) -> np.ndarray:
    """Per sample and group the tokens above the sample's threshold, and all of them; shape (S, groups, 2)."""
    rows = [
        [((values > threshold).sum(), values.size) for values in one.values()]
        for one, threshold in zip(judged, thresholds, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def cross_calibrated(judged: Sequence[Judged], share: float, halvings: int) -> tuple[np.ndarray, list[float]]:
    """Counts with each half judged by the threshold of the other, the mean over halvings; and all the thresholds."""
    generator = np.random.default_rng(0)
    counts, thresholds = [], []
    for _ in range(halvings):
        half = generator.permutation(len(judged)) % 2
        sides = [[one for one, h in zip(judged, half, strict=True) if h == side] for side in (0, 1)]
        of_half = [format_threshold(side, share) for side in sides]
        counts.append(counts_above(judged, [of_half[1 - side] for side in half]))
        thresholds += of_half
    return np.mean(counts, axis=0), thresholds


def format_threshold(judged: Sequence[Judged], share: float) -> float:
    """The lowest threshold above which at most this share of the samples' sure format tokens lies."""
    return lowest_threshold(np.concatenate([one["format"] for one in judged]), share)


def rates(counts: np.ndarray) -> dict[str, float]:
    """The measures of summed counts of shape (groups, 2); those that need the truth are NaN without it."""
    with np.errstate(invalid="ignore"):
        above = dict(zip(GROUPS, counts[:, 0] / counts[:, 1], strict=True))
    return {
        "format error": above["format"],
        "reasoning told right": above["reasoning"],
        "balanced accuracy": (above["reasoning"] + 1 - above["boilerplate"]) / 2,
        "balanced accuracy without sure format": (above["reasoning"] + 1 - above["other boilerplate"]) / 2,
    }


def measures(counts_SG2: np.ndarray) -> dict[str, Any]:
    """Each measure with its interval over samples."""
    return interval_of(counts_SG2.shape[0], lambda weights_S: rates(np.tensordot(weights_S, counts_SG2, 1)))


def gains(before_SG2: np.ndarray, after_SG2: np.ndarray) -> dict[str, Any]:
    """What each measure gains, paired by sample."""

    def gain(weights_S: np.ndarray) -> dict[str, float]:
        before, after = (rates(np.tensordot(weights_S, counts, 1)) for counts in (before_SG2, after_SG2))
        return {name: after[name] - before[name] for name in before}

    return interval_of(before_SG2.shape[0], gain)


def interval_of(
    samples: int, measure: Callable[[np.ndarray], dict[str, float]], resamples: int = 1000
) -> dict[str, Any]:
    """Measures with percentile intervals from drawing whole samples; those that can't be taken are left out."""
    draws_RS = np.random.default_rng(0).multinomial(samples, np.full(samples, 1 / samples), resamples)
    whole, drawn = measure(np.ones(samples)), [measure(weights_S) for weights_S in draws_RS]
    found = {}
    for name, value in whole.items():
        if not np.isnan(value):
            low, high = np.nanquantile([one[name] for one in drawn], [0.025, 0.975])
            found[name] = asdict(Interval(float(value), float(low), float(high)))
    return found


def best_threshold(judged: Sequence[Judged]) -> dict[str, float]:
    """The threshold of the highest balanced accuracy, found on the very tokens that it is judged on."""
    candidates = np.unique(np.concatenate([one[name] for one in judged for name in GROUPS]))
    grid = np.unique(np.quantile(candidates, np.linspace(0, 1, 401)))
    scores = [rates(counts_above(judged, [value] * len(judged)).sum(axis=0))["balanced accuracy"] for value in grid]
    return {"threshold": float(grid[int(np.argmax(scores))]), "balanced accuracy": float(max(scores))}


def totals(judged: Sequence[Judged]) -> dict[str, int]:
    """Tokens of each group."""
    return {name: sum(one[name].size for one in judged) for name in GROUPS}


def print_table(name: str, result: dict[str, Any]) -> None:
    """A line per threshold, then one per calibration."""
    print(f"\n{name}: {result['samples']} samples, {result['tokens']}; best {result.get('best')}")
    for value, row in result["fixed"].items():
        print(f"{value:>12}  " + shown(row))
    for share, row in result["calibrated"].items():
        print(f"{float(share):>6.0%} {row['threshold']:>6.3f} " + shown(row) + "  gain " + shown(row["gain_over_0"]))


def shown(row: dict[str, Any]) -> str:
    """The intervals of a row."""
    names = ("format error", "reasoning told right", "balanced accuracy", "balanced accuracy without sure format")
    return "  ".join(f"{Interval(**row[name]):.3f}" for name in names if name in row)


if __name__ == "__main__":
    run_script(main)
