"""Whether labels are fit to train on, judged without annotation.

The labels are held against tokens with a sure role (see `sure_tokens`), and beside them what costs nothing: calling
everything boilerplate, the regex, and counting (rarity below the regex's format, at the labels' own share of
reasoning). Agreement of a labelling with itself is no evidence: counting agrees with itself perfectly.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rolewise.core.role import Role
from rolewise.core.statistics import auroc
from rolewise.data.labelled import LabelledData, LabelledSample
from rolewise.labelling.classify import has_role
from rolewise.labelling.contrast import rarity
from rolewise.labelling.sure_tokens import sure_tokens
from rolewise.roles.regex import label_format

SAMPLES = 1000
"""Maximum number of samples that are judged: their words are held in memory."""
ENOUGH = 30
"""Minimum number of sure tokens of each kind; with fewer there is no verdict."""
GOOD = 0.8
"""Balanced accuracy on sure tokens from which labels are fit to train on."""
MARGIN = 0.02
"""Lead over labels that cost nothing from which a model's labels are worth it."""

Action = Literal["train", "relabel", "regex", "larger model or none", "unknown"]


@dataclass(frozen=True)
class Rates:
    """Results of one way to label, on the sure tokens.

    Attributes:
        recall: share of the sure reasoning tokens labelled reasoning.
        stock_error, format_error: share of the stock phrases' and of the format tokens labelled reasoning; NaN if there
            are none.
    """

    recall: float
    stock_error: float
    format_error: float

    @property
    def balanced(self) -> float:
        """Mean of the recall and of the right share of each kind of boilerplate, both kinds counting alike."""
        errors = [error for error in (self.stock_error, self.format_error) if not math.isnan(error)]
        return (self.recall + 1 - float(np.mean(errors))) / 2 if errors else math.nan


@dataclass(frozen=True)
class Verdict:
    """A verdict on labels, and the numbers behind it.

    Attributes:
        action: what to do.
        line: the verdict as one line.
        tokens: numbers of sure reasoning, stock and format tokens.
        rates: results by name: the labels, the regex, counting.
        area: AUROC of the method's scores on the sure tokens; None without scores whose threshold can be moved.
        guess: mean base loss and the loss of guessing, nats; None if not measured.
    """

    action: Action
    line: str
    tokens: tuple[int, int, int]
    rates: dict[str, Rates]
    area: float | None
    guess: tuple[float, float] | None


def judge(labelled: LabelledData) -> Verdict:
    """Return the verdict on a labelled data set, from its first samples."""
    return judge_samples(list(labelled.samples(SAMPLES)), labelled)


def judge_samples(samples: Sequence[LabelledSample], labelled: LabelledData) -> Verdict:
    """Return the verdict on these samples of a data set."""
    info = labelled.info
    ids = [np.asarray(row, dtype=np.int64) for row in labelled.rows[: len(samples)]["input_ids"]]
    pairs = [
        (sample, ids_T)
        for sample, ids_T in zip(samples, ids, strict=True)
        if not sample.excluded and has_role(sample.roles_T).any()  # general chat has none
    ]
    kept = [sample for sample, _ in pairs]
    sure = sure_tokens(kept)
    mask = _joined([has_role(sample.roles_T) for sample in kept])
    reasoning = _joined([each.reasoning_T for each in sure]) & mask
    format_ = _joined([each.format_T for each in sure]) & mask
    stock = _joined([each.boilerplate_T for each in sure]) & mask & ~format_
    chosen = _joined([sample.roles_T == Role.REASONING for sample in kept])
    is_format = _joined(
        [
            label_format(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans) == Role.FORMAT
            for sample in kept
        ]
    )
    counted = _counted(pairs, is_format, mask, int(chosen.sum()))

    def rates(labels: np.ndarray) -> Rates:
        return Rates(*(float(labels[of].mean()) if of.any() else math.nan for of in (reasoning, stock, format_)))

    found = {"labels": rates(chosen), "regex": rates(mask & ~is_format), "counting": rates(counted)}
    evidence = _joined([sample.evidence_T for sample in kept], float)
    # Without a threshold, a score may mean the contrary (Rho-1's is a fall), and relabelling is not on offer.
    judged = (reasoning | stock | format_) & ~np.isnan(evidence)
    area = auroc(evidence[judged], reasoning[judged]) if judged.any() and info.threshold is not None else None
    base = _joined([sample.base_loss_T for sample in kept], float)
    measured = ~np.isnan(base)
    guess = None
    if measured.any() and info.vocabulary:
        guess = (float(base[measured].mean()), math.log(info.vocabulary))
    numbers = int(reasoning.sum()), int(stock.sum()), int(format_.sum())
    action, line = _decide(found, numbers, area, guess, is_regex=info.method == "regex")
    return Verdict(action, line, numbers, found, area, guess)


def _decide(
    found: dict[str, Rates],
    numbers: tuple[int, int, int],
    area: float | None,
    guess: tuple[float, float] | None,
    *,
    is_regex: bool,
) -> tuple[Action, str]:
    labels, regex, counting = found["labels"], found["regex"], found["counting"]
    if guess is not None and guess[0] >= guess[1]:
        return "larger model or none", (
            f"use another model: the mean loss of {guess[0]:.2f} nats is no better than guessing ({guess[1]:.2f})"
        )
    if numbers[0] < ENOUGH or numbers[1] + numbers[2] < ENOUGH:
        return "unknown", (
            f"unknown: only {numbers[0]} tokens are surely reasoning, {sum(numbers[1:])} boilerplate; give more "
            "conversations, or read a page of tokens"
        )
    of = f"{labels.recall:.0%} of {numbers[0]:,} sure reasoning tokens are labelled reasoning"
    errors = [
        f"{error:.0%} of {number:,} {kind}"
        for error, number, kind in (
            (labels.stock_error, numbers[1], "in stock phrases"),
            (labels.format_error, numbers[2], "format tokens"),
        )
        if number
    ]
    facts = f"{of}, and {' and '.join(errors)} (balanced accuracy {labels.balanced:.2f}; regex {regex.balanced:.2f}, "
    facts += f"counting {counting.balanced:.2f})"
    cheap = max(regex.balanced, counting.balanced)
    if is_regex:
        return ("regex" if labels.balanced >= GOOD else "relabel"), (
            f"train: {facts}" if labels.balanced >= GOOD else f"relabel with --method contrast: {facts}"
        )
    if labels.balanced >= GOOD and labels.balanced >= cheap + MARGIN:
        return "train", f"train: {facts}"
    if area is not None and area >= 0.9 and area >= cheap + MARGIN:
        return (
            "relabel",
            f"relabel with another threshold: the scores are good (AUROC {area:.2f}), the labels not: {facts}",
        )
    if regex.balanced >= GOOD and regex.balanced >= labels.balanced - MARGIN:
        return "regex", f"relabel with --method regex, which costs nothing and does as well: {facts}"
    if area is not None and area >= GOOD:
        return "relabel", f"relabel with --method contrast or another threshold (AUROC {area:.2f}): {facts}"
    return "larger model or none", f"use a larger model, or weighting none: {facts}"


def _counted(
    samples: Sequence[tuple[LabelledSample, np.ndarray]], is_format: np.ndarray, mask: np.ndarray, wanted: int
) -> np.ndarray:
    """Return the labels that counting gives: the rarest tokens that are not format, as many as the labels have."""
    own: dict[str, Counter[int]] = {}
    for sample, ids_T in samples:
        own.setdefault(sample.source, Counter()).update(ids_T[sample.mask_T].tolist())
    everywhere: Counter[int] = Counter()
    for counts in own.values():
        everywhere.update(counts)
    values = _joined([rarity(ids_T, everywhere, own[sample.source]) for sample, ids_T in samples], float)
    values[is_format | ~mask] = -np.inf
    labels = np.zeros(len(values), dtype=bool)
    labels[np.argsort(-values, kind="stable")[:wanted]] = True
    return np.asarray(labels & mask & ~is_format)


def _joined(parts: Sequence[np.ndarray], dtype: type = bool) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)
