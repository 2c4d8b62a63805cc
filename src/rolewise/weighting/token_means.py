"""Weighting schemes that are means over tokens, some of which count less or not at all.

Shapes: B rows, T tokens.
"""

import math

import torch

from rolewise.core.errors import InputError
from rolewise.core.role import BOILERPLATE_ROLES
from rolewise.weighting.base import TokenBatch, Weighting


class TokenMean(Weighting):
    """Plain fine-tuning: every loss token counts the same, 1 / N over the batch's N tokens. Roles are not read."""

    unit = "token"
    needs_roles = False

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        counts_BT = self.counts(batch.roles_BT, batch.mask_BT)
        total = counts_BT.sum()
        return counts_BT / torch.where(total > 0, total, 1.0)


class ConstantWeights(TokenMean):
    """Boilerplate counts `format_weight`, every other loss token 1: the loss is Σ c · loss / Σ c over the batch.

    With the regex's labels it is the baseline "Regex" of arXiv 2412.14780, which gives format tokens a constant weight
    and does not say which; 0.5 is our choice.
    """

    needs_roles = True

    def __init__(self, format_weight: float = 0.5):
        if not 0 <= format_weight < math.inf:
            raise InputError(f"format_weight is {format_weight}; it is a finite number, 0 (no weight) or more")
        self.format_weight = format_weight

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        return torch.where(_is_boilerplate(roles_BT), self.format_weight, 1.0) * mask_BT


class KeptTokens(TokenMean):
    """Rho-1's loss (arXiv 2404.07965, eq. 5): the mean over the tokens that the labeller kept, the others are masked.

    Kept is what is not boilerplate: REASONING, as `--method rho` labels it, and PLAIN tokens, which nobody judged.
    """

    needs_roles = True

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        return (mask_BT & ~_is_boilerplate(roles_BT)).float()


class DynamicFineTuning(TokenMean):
    """DFT (arXiv 2508.05629, eq. 9): each token's loss times its own probability, which carries no gradient.

    The same loss as TRL's `loss_type="dft"`: divided by the number of loss tokens, so the weights sum to less than 1.
    """

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        return super().weigh(batch) * (-batch.loss_BT).exp()


def _is_boilerplate(roles_BT: torch.Tensor) -> torch.Tensor:
    boilerplate_BT = torch.zeros_like(roles_BT, dtype=torch.bool)
    for role in BOILERPLATE_ROLES:
        boilerplate_BT |= roles_BT == role
    return boilerplate_BT
