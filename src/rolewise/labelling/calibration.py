"""The threshold that keeps format tokens apart, from the format tokens that rules know beyond doubt.

SHAD's threshold of 0 (arXiv 2412.14780, eq. 2) presumes that tuning makes format cheaper. Where the base model gives it
next to no loss already, it can only rise, if by a hair: then 0 calls most of it reasoning, though the order of the
differences is sound. No annotation is needed to see how far the threshold has to move.
"""

import math
from collections.abc import Iterable

import numpy as np

from rolewise.core.errors import InputError
from rolewise.data.labelled import LabelledSample
from rolewise.roles.regex import sure_format_mask

STEP = 1000
"""Thresholds are rounded up to whole thousandths of a nat, which is how finely the report's page tells losses apart."""


def threshold_by_format_error(samples: Iterable[LabelledSample], share: float) -> float:
    """The lowest threshold from 0 on that calls at most this share of the sure format tokens reasoning.

    In nats, whole thousandths. Not below 0: a token that tuning made cheaper is boilerplate whatever the share. Left
    out are samples that the labeller was tuned on, and tokens without losses.

    Args:
        samples: with both losses of their tokens.
        share: 0 to below 1.

    Raises:
        InputError: for another share, or samples without a sure format token that has losses.
    """
    if not 0 <= share < 1:
        raise InputError(f"format_error is {share}; it is a share from 0 to below 1")
    differences_N = np.concatenate([np.empty(0, np.float32), *map(_sure_differences, samples)])
    if not differences_N.size:
        raise InputError(
            "no token with losses is format beyond doubt (JSON of a call, tags, fields), so there is nothing to "
            "calibrate the threshold on; give a threshold instead"
        )
    return lowest_threshold(differences_N, share)


def lowest_threshold(differences_N: np.ndarray, share: float) -> float:
    """The lowest threshold from 0 on (nats, whole thousandths) that at most this share of the differences lies above.

    Args:
        differences_N: float, at least one.
        share: 0 to below 1.
    """
    descending_N = np.sort(differences_N)[::-1]
    allowed = math.floor(round(share * descending_N.size, 6))  # 0.07 · 100 lies a hair above 7, other products below
    return max(0.0, math.ceil(float(descending_N[allowed]) * STEP) / STEP)


def _sure_differences(sample: LabelledSample) -> np.ndarray:
    """LD of a sample's sure format tokens, float32."""
    difference_T = sample.tuned_loss_T - sample.base_loss_T
    known_T = sample.mask_T & ~np.isnan(difference_T)
    if sample.excluded or not known_T.any():
        return np.empty(0, np.float32)
    sure_T = sure_format_mask(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans)
    return np.asarray(difference_T[known_T & sure_T])
