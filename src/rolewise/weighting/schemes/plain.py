"""The plain losses: a mean over tokens, and one over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.grouped import sum_by
from rolewise.weighting.registry import WEIGHTINGS

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("none")
class TokenMean(Weighting):
    """Plain fine-tuning: every loss token counts the same, 1 / N over the batch's N tokens. Ignores roles."""

    unit = "token"
    needs_roles = False

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        counts_BT = self.counts(batch.roles_BT, batch.mask_BT)
        total = counts_BT.sum()
        return counts_BT / total.where(total > 0, 1.0)


@WEIGHTINGS.own("sample-mean")
class SampleMean(Weighting):
    """Every sample counts the same, and every loss token within it: 1 / (S · n_sample). Ignores roles.

    RFT averages per sample too, so this baseline separates its gain from that of the averaging.
    """

    unit = "sample"
    needs_roles = False

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        counts_S = sum_by(batch.sample_BT, batch.mask_BT.float(), batch.sample_bound)
        return 1 / counts_S.clamp(min=1)[batch.sample_BT] / (counts_S > 0).sum().clamp(min=1)
