"""DFT, dynamic fine-tuning (arXiv 2508.05629, eq. 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolewise.weighting.base import TokenBatch
from rolewise.weighting.registry import WEIGHTINGS
from rolewise.weighting.schemes.plain import TokenMean

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("dft")
class DynamicFineTuning(TokenMean):
    """Each token's loss times its own probability, which carries no gradient (arXiv 2508.05629, eq. 9).

    The same loss as TRL's `loss_type="dft"`: divided by the number of loss tokens, so the weights sum to less than 1.
    """

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        return super().weigh(batch) * (-batch.loss_BT).exp()
