"""RFT, reasoning-highlighted fine-tuning (arXiv 2412.14780, eq. 4, 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from rolewise.core.errors import InputError
from rolewise.weighting.grouped import GroupWeighting
from rolewise.weighting.registry import WEIGHTINGS

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("rft")
class RFT(GroupWeighting):
    """Adaptive weights by role (arXiv 2412.14780, eq. 4, 5): (ω_b, ω_r) = softmax(L_b / τ, L_r / τ).

    The paper uses total losses; here L_b and L_r are means per group, since totals saturate the softmax, and each
    sample has its own weights, so they do not depend on the rest of the batch. ω carries no gradient.
    """

    def __init__(
        self,
        inv_tau: Annotated[float, "1/τ: 0 weights both groups alike; larger values favor the higher loss."] = 0.3,
    ):
        if not 0 <= inv_tau < math.inf:
            raise InputError(f"inv_tau is {inv_tau}; 1/τ must be a finite number, 0 (equal weights) or more")
        self.inv_tau = inv_tau

    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        return ((reasoning_S - boilerplate_S) * self.inv_tau).sigmoid()
