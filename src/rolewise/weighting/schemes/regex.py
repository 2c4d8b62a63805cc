"""Constant weights by role: the baseline "Regex" of arXiv 2412.14780."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from rolewise.core.errors import InputError
from rolewise.weighting.grouped import is_boilerplate
from rolewise.weighting.registry import WEIGHTINGS
from rolewise.weighting.schemes.plain import TokenMean

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("regex")
class ConstantWeights(TokenMean):
    """Boilerplate counts `format_weight`, every other loss token 1: the loss is Σ c · loss / Σ c over the batch.

    With the regex's labels it is the baseline "Regex" of arXiv 2412.14780, which gives format tokens a constant weight
    of unpublished value; 0.5 is our choice.
    """

    needs_roles = True

    def __init__(
        self, format_weight: Annotated[float, "Weight of a format token in the mean; other tokens count 1."] = 0.5
    ):
        if not 0 <= format_weight < math.inf:
            raise InputError(f"format_weight is {format_weight}; it must be a finite number, 0 (no weight) or more")
        self.format_weight = format_weight

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        boilerplate_BT = is_boilerplate(roles_BT).float()
        return (1 - boilerplate_BT + boilerplate_BT * self.format_weight) * mask_BT
