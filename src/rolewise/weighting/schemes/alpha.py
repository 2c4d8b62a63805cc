"""α-FT: fixed weights by role (arXiv 2412.14780, eq. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from rolewise.core.errors import InputError
from rolewise.weighting.grouped import GroupWeighting
from rolewise.weighting.registry import WEIGHTINGS

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("alpha")
class AlphaFT(GroupWeighting):
    """Fixed weights by role, α-FT (arXiv 2412.14780, eq. 6): L = α · L_b + (1 − α) · L_r."""

    def __init__(self, alpha: Annotated[float, "Boilerplate's share of the loss, 0 to 1; the paper: up to 0.5."] = 0.3):
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha is {alpha}; as boilerplate's share of the loss it must lie between 0 and 1")
        self.alpha = alpha

    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        return reasoning_S.new_full(reasoning_S.shape, 1 - self.alpha)
