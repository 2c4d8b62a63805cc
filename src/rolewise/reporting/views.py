"""Labelled data in the form that the report page shows."""

from collections.abc import Iterable

import numpy as np
import torch

from rolewise.core.role import Role
from rolewise.data.labelled import LabelledInfo, LabelledSample
from rolewise.evaluation.kappa import cohen_kappa, group_kappas
from rolewise.labelling.checks import Checks
from rolewise.labelling.verdict import Verdict
from rolewise.reporting.content import SampleView, Table
from rolewise.weighting import Weighting


def sample_view(
    sample: LabelledSample, weighting: Weighting | None = None, other: LabelledSample | None = None
) -> SampleView:
    """Return one sample for the page; with a weighting, each token's weight from the base losses, before any training.

    `other` is the same sample in another labelling.

    Weights are multiplied by the number of loss tokens, so that 1 is the weight of plain fine-tuning. A sample without
    measured losses gets none.
    """
    weights: list[float | None] | None = None
    if weighting is not None and not np.isnan(sample.base_loss_T).all():
        weights_T = weights_before_training(sample, weighting) * sample.mask_T.sum()
        weights = [float(w) if m else None for w, m in zip(weights_T, sample.mask_T, strict=True)]
    return SampleView(
        source=sample.source,
        tokens=sample.pieces,
        roles=sample.roles_T.tolist(),
        base_loss=sample.base_loss_T.tolist(),
        tuned_loss=sample.tuned_loss_T.tolist(),
        score=None if sample.score_T is None else sample.score_T.tolist(),
        weights=weights,
        true_roles=None if sample.true_roles_T is None else sample.true_roles_T.tolist(),
        other=None if other is None else sample_view(other, weighting),
    )


def weights_before_training(sample: LabelledSample, weighting: Weighting) -> np.ndarray:
    """Return the weights (float32, shape (T,)) of one sample by itself, from its base losses; 0 for unmeasured ones."""
    weights_1T = weighting.weights(
        torch.from_numpy(np.nan_to_num(sample.base_loss_T))[None],
        torch.from_numpy(sample.roles_T.astype(np.int64))[None],
        torch.from_numpy(sample.mask_T)[None],
        scores_BT=torch.from_numpy(sample.base_loss_T - sample.tuned_loss_T)[None],
    )
    weights_T: np.ndarray = weights_1T[0].numpy()
    return weights_T


def roles_table(counts: dict[str, int]) -> Table:
    """Return a table of tokens per role and their shares, from a data set's counts."""
    loss_tokens = max(1, counts["loss_tokens"])
    present = [role.label for role in Role if counts.get(role.label)]
    rows: list[list[str | float]] = [[name, counts[name], f"{counts[name] / loss_tokens:.1%}"] for name in present]
    return Table("Tokens by role", ["role", "tokens", "share of loss tokens"], rows)


def settings_table(info: LabelledInfo) -> Table:
    """Return a table of the settings of a data set's labelling."""
    rows: list[list[str | float]] = [["method", info.method], ["model", info.model]]
    if info.threshold is not None:
        rows.append(["threshold (nats)", str(info.threshold)])
    if "format_error" in info.settings:
        share = f"{info.settings['format_error']:.1%}"
        rows.append(["threshold chosen by", f"at most {share} of the sure format tokens above it"])
    if info.model_hash:  # it was measured
        names = ["tuning", "learning_rate", "rank", "pairs", "samples", "epochs", "cross_fit", "dtype", "seed"]
        names += {
            "rho": ["keep_share"],
            "reward": ["beta"],
            "contrast": [
                "histories",
                "same_beginning",
                "estimator",
                "pooling",
                "rarity",
                "rules",
                "copies",
                "punctuation",
            ],
        }.get(info.method, [])
        rows += [[name.replace("_", " "), str(info.settings[name])] for name in names if name in info.settings]
    return Table("Settings", ["setting", "value"], rows)


def check_tables(checks: Checks) -> list[Table]:
    """Return tables of the available checks."""
    found = (checks_table(checks), None if checks.verdict is None else sure_table(checks.verdict))
    return [table for table in found if table is not None]


def sure_table(verdict: Verdict) -> Table | None:
    """Return a table of the labels and what costs nothing on tokens with a sure role; None without such tokens."""
    kinds = ("sure reasoning tokens", "tokens of stock phrases", "sure format tokens")
    if not any(verdict.tokens):
        return None
    columns = list(verdict.rates)
    by_kind = [(rates.recall, rates.stock_error, rates.format_error) for rates in verdict.rates.values()]
    rows: list[list[str | float]] = [
        [f"{kind} ({number:,})", *(f"{shares[place]:.1%}" for shares in by_kind)]
        for place, (kind, number) in enumerate(zip(kinds, verdict.tokens, strict=True))
        if number
    ]
    return Table(
        "Tokens with a sure role",
        ["labelled reasoning", *columns],
        rows,
        "Sure reasoning: words that an answer takes from its own input. Should be 100 % in the first row, 0 % below. "
        "Regex: everything but format; counting: the rarest of these, as many as the labels have.",
    )


def checks_table(checks: Checks) -> Table | None:
    """Return a table of the checks against format tokens and the truth, or None."""
    format_check, truth_check = checks.format, checks.truth
    rows: list[list[str | float]] = []
    if format_check is not None:
        rows.append(
            [
                f"format tokens labelled reasoning ({format_check.errors:,} of {format_check.tokens:,})",
                f"{format_check.error_rate:.2%}",
            ]
        )
    if truth_check is not None:
        rows += [[f"AUROC of {name} against the truth", f"{area:.3f}"] for name, area in truth_check.auroc.items()]
        share = f"{1 - truth_check.reasoning_share:.1%}"
        rows += [
            ["balanced accuracy against the truth (all boilerplate: 50 %)", f"{truth_check.balanced_accuracy:.1%}"],
            ["recall of reasoning against the truth", f"{truth_check.recall:.1%}"],
            [
                f"tokens labelled right ({truth_check.tokens:,} with known truth; all boilerplate: {share})",
                f"{truth_check.accuracy:.1%}",
            ],
        ]
    if not rows:
        return None
    return Table("Checks", ["check", "value [95 % interval]"], rows)


def agreement_tables(matrix: np.ndarray, names: tuple[str, str]) -> list[Table]:
    """Return tables of the roles that two labellings gave the same tokens, and of Cohen's kappa per role group.

    Args:
        matrix: `confusion_matrix` of loss tokens.
        names: names of the two labellings.
    """
    present = [role for role in Role if matrix[role].sum() or matrix[:, role].sum()]
    rows: list[list[str | float]] = [[a.label, *(int(matrix[a, b]) for b in present)] for a in present]
    total = int(matrix.sum())
    same = f"{np.trace(matrix) / total:.1%}" if total else "–"
    confusion = Table(
        "Agreement of the two labellings",
        ["A ╲ B", *(role.label for role in present)],
        rows,
        f"Loss tokens; rows are A ({names[0]}), columns B ({names[1]}). Same role: {same} of {total:,} tokens.",
    )
    kappas: list[list[str | float]] = [[role.label, _kappa(value)] for role, value in group_kappas(matrix).items()]
    return [
        confusion,
        Table(
            "Cohen's κ per role group",
            ["role group", "κ"],
            [*kappas, ["all roles", _kappa(cohen_kappa(matrix))]],
            "1 is full agreement, 0 is chance agreement. Format and template count as boilerplate; “–” if both "
            "labellings put all tokens on one side.",
        ),
    ]


def _kappa(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def sample_views(
    samples: Iterable[LabelledSample],
    weighting: Weighting | None = None,
    others: Iterable[LabelledSample] | None = None,
) -> list[SampleView]:
    """Return the samples for the page; `others` are the same samples in another labelling."""
    if others is None:
        return [sample_view(sample, weighting) for sample in samples]
    return [sample_view(sample, weighting, other) for sample, other in zip(samples, others, strict=True)]
