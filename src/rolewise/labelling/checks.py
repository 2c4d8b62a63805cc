"""Checks of labels: against format tokens that rules identify with certainty, and against known true roles.

"Reasoning" is the positive class throughout; samples with an output that the labeller was tuned on are left out.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from rolewise.core.role import Role
from rolewise.core.statistics import Interval, auroc_interval, wilson
from rolewise.data.labelled import LabelledData, LabelledInfo, LabelledSample, TokenLabels
from rolewise.labelling.classify import has_role, is_boilerplate
from rolewise.labelling.verdict import Verdict, judge
from rolewise.roles.regex import label_format, sure_format_mask

FALLS = {"rho": "fall", "reward": "reward"}
"""Methods that score a token by the fall of its loss, with their name for it; others score by LD, the rise."""
UNMEASURED = ("regex", "functional")
"""Methods that measure no losses."""
TRUTH_SAMPLES = 1000
"""Maximum number of samples with known truth to check: areas under the curve need all their scores in memory."""


@dataclass(frozen=True)
class FormatCheck:
    """Share of the sure format tokens that are labelled reasoning (arXiv 2412.14780, table 4), with its interval."""

    tokens: int
    errors: int
    error_rate: Interval


@dataclass(frozen=True)
class TruthCheck:
    """Agreement of labels with the true roles.

    Attributes:
        tokens: number of tokens with known truth.
        reasoning_share: share of these tokens that are truly reasoning.
        auroc: per score (LD or the method's own score, base loss, regex): the probability that a reasoning token
            scores above a boilerplate token, with an interval from resampling whole samples.
        accuracy: share of tokens in the right group at the threshold; calling everything boilerplate has
            1 − `reasoning_share`.
        balanced_accuracy: mean of the shares of reasoning and of boilerplate in the right group.
        recall: share of the reasoning tokens labelled reasoning.
    """

    tokens: int
    reasoning_share: float
    auroc: dict[str, Interval]
    accuracy: float
    balanced_accuracy: float
    recall: float


class Checks(NamedTuple):
    """Every check of a labelling; None for those that do not apply."""

    format: FormatCheck | None = None
    truth: TruthCheck | None = None
    verdict: Verdict | None = None


def unfit_model(labels: Iterable[TokenLabels], vocabulary: int) -> list[str]:
    """Return a warning if the model's predictions are worse than a uniform guess over its vocabulary.

    Args:
        labels: labels with the base losses, in nats per token; NaN if not measured.
        vocabulary: number of tokens V; guessing costs ln V nats per token.
    """
    total, count = 0.0, 0
    for sample in labels:
        losses = sample.base_loss_T[~np.isnan(sample.base_loss_T)]
        total, count = total + float(losses.sum(dtype=np.float64)), count + losses.size
    guess = math.log(vocabulary)
    if not count or total / count <= guess:
        return []
    return [
        f"the model's mean loss is {total / count:.2f} nats per token, while guessing among {vocabulary:,} tokens "
        f"costs {guess:.2f}: its weights or its tokenizer do not fit the data, and the labels mean nothing; "
        "use another model"
    ]


def check_labels(labelled: LabelledData) -> Checks:
    """Run every check that applies to this data set."""
    of_format = None if decides_format(labelled.info) else check_format(labelled.samples())
    of_truth = None
    if "true_roles" in labelled.rows.column_names:
        method = "contrast" if "score" in labelled.rows.column_names else labelled.info.method  # transferred as well
        of_truth = check_truth(islice(labelled.samples(), TRUTH_SAMPLES), method=method)
    return Checks(of_format, of_truth, judge(labelled))


def decides_format(info: LabelledInfo) -> bool:
    """Return True if the labels follow the rules that make a format token sure: right by construction."""
    return info.method == "regex" or (info.method == "contrast" and bool(info.settings.get("rules", True)))


def check_format(samples: Iterable[LabelledSample]) -> FormatCheck | None:
    """Check labels against sure format tokens; return None if there are none."""
    tokens = errors = 0
    for sample in samples:
        if sample.excluded:
            continue
        sure_T = has_role(sample.roles_T) & sure_format_mask(
            sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans
        )
        tokens += int(sure_T.sum())
        errors += int((sample.roles_T[sure_T] == Role.REASONING).sum())
    return FormatCheck(tokens, errors, wilson(errors, tokens)) if tokens else None


def check_truth(samples: Iterable[LabelledSample], *, method: str = "shad", resamples: int = 1000) -> TruthCheck | None:
    """Check labels against true roles; return None unless known tokens include both reasoning and boilerplate."""
    score, sign = (FALLS[method], -1) if method in FALLS else ("score" if method == "contrast" else "LD", 1)
    positives: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {score: [], "base loss": [], "regex": []}
    labels: list[np.ndarray] = []
    for sample in samples:
        if sample.true_roles_T is None or sample.excluded or not has_role(sample.roles_T).any():
            continue
        reasoning_T = sample.true_roles_T == Role.REASONING
        known_T = has_role(sample.roles_T) & (reasoning_T | is_boilerplate(sample.true_roles_T))
        if method not in UNMEASURED:
            known_T &= ~np.isnan(sample.base_loss_T)
        regex_T = label_format(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans)
        positives.append(reasoning_T[known_T])
        if method not in UNMEASURED:
            scores[score].append(sign * sample.evidence_T[known_T])
            scores["base loss"].append(sample.base_loss_T[known_T])
        scores["regex"].append((regex_T != Role.FORMAT)[known_T].astype(np.float64))
        labels.append((sample.roles_T == Role.REASONING)[known_T])
    truth = np.concatenate(positives) if positives else np.empty(0, dtype=bool)
    if not truth.any() or truth.all():
        return None
    chosen = np.concatenate(labels)
    recall = float(chosen[truth].mean())
    return TruthCheck(
        tokens=truth.size,
        reasoning_share=float(truth.mean()),
        auroc={
            name: auroc_interval(values, positives, resamples=resamples) for name, values in scores.items() if values
        },
        accuracy=float((chosen == truth).mean()),
        balanced_accuracy=(recall + float((~chosen[~truth]).mean())) / 2,
        recall=recall,
    )
