"""Calibration of the threshold on format tokens that rules identify with certainty.

SHAD's threshold of 0 (arXiv 2412.14780, eq. 2) assumes that tuning lowers the loss of format tokens. If that loss is
already close to zero under the base model, it can only rise, however slightly: a threshold of 0 then labels most of
them reasoning, though the order of the differences is sound. The necessary shift of the threshold can be measured
without annotation.
"""

import math
from collections.abc import Iterable

import numpy as np

from rolewise.core.errors import InputError
from rolewise.data.labelled import LabelledSample
from rolewise.roles.regex import sure_format_mask

STEP = 1000
"""Steps per nat: thresholds are rounded up to whole thousandths of a nat, the resolution of losses in the report."""


def threshold_by_format_error(samples: Iterable[LabelledSample], share: float) -> float:
    """Return the lowest threshold, at least 0, that labels at most this share of the sure format tokens reasoning.

    In nats, whole thousandths. Not below 0: a token whose loss fell in tuning is boilerplate whatever the share.
    Samples that the labeller was tuned on, and tokens without losses, are left out.

    Args:
        samples: samples with both losses of their tokens.
        share: 0 to below 1.

    Raises:
        InputError: for a share out of range, or samples without a sure format token that has losses.
    """
    if not 0 <= share < 1:
        raise InputError(f"format_error is {share}; it must be a share from 0 to below 1")
    differences_N = np.concatenate([np.empty(0, np.float32), *map(_sure_differences, samples)])
    if not differences_N.size:
        raise InputError(
            "no token with losses is certainly format (JSON of a call, tags, fields), so there is nothing to "
            "calibrate the threshold on; give a threshold instead"
        )
    return lowest_threshold(differences_N, share)


def lowest_threshold(differences_N: np.ndarray, share: float) -> float:
    """Return the lowest threshold, at least 0 (nats, whole thousandths), that at most this share of differences exceed.

    Args:
        differences_N: float, at least one.
        share: 0 to below 1.
    """
    descending_N = np.sort(differences_N)[::-1]
    allowed = math.floor(round(share * descending_N.size, 6))  # floats: 0.07 · 100 > 7, while other products fall below
    return max(0.0, math.ceil(float(descending_N[allowed]) * STEP) / STEP)


def _sure_differences(sample: LabelledSample) -> np.ndarray:
    """Return the evidence (LD, or the method's own score) of a sample's sure format tokens, float32."""
    difference_T = sample.evidence_T
    known_T = sample.mask_T & ~np.isnan(difference_T)
    if sample.excluded or not known_T.any():
        return np.empty(0, np.float32)
    sure_T = sure_format_mask(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans)
    return np.asarray(difference_T[known_T & sure_T])
