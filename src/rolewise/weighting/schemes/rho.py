"""Rho-1's loss on the tokens that its labeller kept (arXiv 2404.07965, eq. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolewise.weighting.grouped import is_boilerplate
from rolewise.weighting.registry import WEIGHTINGS
from rolewise.weighting.schemes.plain import TokenMean

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("rho")
class KeptTokens(TokenMean):
    """The mean over the tokens that the labeller kept (arXiv 2404.07965, eq. 5); the others are masked.

    All tokens except boilerplate are kept: REASONING, as `--method rho` labels it, and PLAIN tokens, which have no
    judgment.
    """

    needs_roles = True

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        return (mask_BT & ~is_boilerplate(roles_BT)).float()
