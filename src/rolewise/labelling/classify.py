"""From stored losses to roles: SHAD's last step, which needs no model (arXiv 2412.14780, eq. 2)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.labelled import TokenLabels


def classify(
    base_loss_T: np.ndarray, tuned_loss_T: np.ndarray, mask_T: np.ndarray, threshold: float = 0.0
) -> np.ndarray:
    """Roles (uint8, shape (T,)) from LD = tuned − base loss: above `threshold` REASONING, else BOILERPLATE.

    Loss tokens without measured losses (NaN) are PLAIN, tokens outside `mask_T` (bool) are CONTEXT.
    """
    difference_T = tuned_loss_T - base_loss_T
    roles_T = np.where(difference_T > threshold, Role.REASONING, Role.BOILERPLATE)
    roles_T = np.where(np.isnan(difference_T), Role.PLAIN, roles_T)
    return np.where(mask_T, roles_T, Role.CONTEXT).astype(np.uint8)


def split_boilerplate(labels: Sequence[TokenLabels], quantile: float | None) -> list[TokenLabels]:
    """Split boilerplate by its base loss: below the quantile of all boilerplate's FORMAT, the rest TEMPLATE.

    The paper names the two kinds and says that losses tell them apart; it gives no number. None leaves BOILERPLATE.
    """
    if quantile is None:
        return list(labels)
    boilerplate = [label.base_loss_T[label.roles_T == Role.BOILERPLATE] for label in labels]
    losses = np.concatenate(boilerplate) if boilerplate else np.empty(0)
    if losses.size == 0:
        return list(labels)
    limit = np.quantile(losses, quantile)
    split = []
    for label in labels:
        kinds_T = np.where(label.base_loss_T < limit, Role.FORMAT, Role.TEMPLATE)
        roles_T = np.where(label.roles_T == Role.BOILERPLATE, kinds_T, label.roles_T)
        split.append(replace(label, roles_T=roles_T.astype(np.uint8)))
    return split


def label_by_losses(
    losses: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], threshold: float, quantile: float | None
) -> list[TokenLabels]:
    """Label samples given as (base losses, tuned losses, mask), each of shape (T,)."""
    labels = [TokenLabels(classify(base, tuned, mask, threshold), base, tuned) for base, tuned, mask in losses]
    return split_boilerplate(labels, quantile)


def check_classification(threshold: float, format_quantile: float | None) -> None:
    """Check both numbers before any work is done with them.

    Raises:
        InputError: for a threshold that is not finite, or a quantile outside 0 to 1.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold is {threshold}; it is a finite number of nats")
    if format_quantile is not None and not 0 <= format_quantile <= 1:
        raise InputError(f"format_quantile is {format_quantile}; it lies between 0 and 1, or is none")


def is_boilerplate(roles_T: np.ndarray) -> np.ndarray:
    """Bool, shape (T,): whether a role counts as boilerplate."""
    return np.isin(roles_T, [int(role) for role in BOILERPLATE_ROLES])
