"""RewardFT: weights from token rewards, as in the comparison of arXiv 2412.14780."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rolewise.core.errors import InputError
from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.grouped import sum_by
from rolewise.weighting.registry import WEIGHTINGS

if TYPE_CHECKING:
    import torch


@WEIGHTINGS.own("reward")
class RewardSoftmax(Weighting):
    """RewardFT (as compared in arXiv 2412.14780): softmax of a sample's token rewards as weights of its token losses.

    Rewards are the scores, log π_dpo(y_t) − log π_ref(y_t); the loss is the mean over samples of Σ softmax_t · loss_t.
    Tokens without a reward (NaN) keep their share p of their sample, as in `GroupWeighting`: general chat, which has no
    rewards, gets the plain loss. Ignores roles.
    """

    unit = "sample"
    needs_roles = False
    needs_scores = True

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        if batch.scores_BT is None:
            raise InputError("the weighting reward needs a score for every token; label the data with --method reward")
        scores_BT, bound = batch.scores_BT.float(), batch.sample_bound
        known_BT = batch.mask_BT & ~scores_BT.isnan()
        scores_BT = scores_BT.where(known_BT, -math.inf)
        top_S = scores_BT.new_full((bound,), -math.inf)
        top_S.scatter_reduce_(0, batch.sample_BT.reshape(-1), scores_BT.reshape(-1), "amax")
        exp_BT = (scores_BT - top_S[batch.sample_BT]).exp().where(known_BT, 0.0)
        softmax_BT = exp_BT / sum_by(batch.sample_BT, exp_BT, bound).clamp(min=1)[batch.sample_BT]

        total_S = sum_by(batch.sample_BT, batch.mask_BT.float(), bound)
        share_S = sum_by(batch.sample_BT, known_BT.float(), bound) / total_S.clamp(min=1)
        plain_BT = 1 / total_S.clamp(min=1)[batch.sample_BT]
        weights_BT = (share_S[batch.sample_BT] * softmax_BT).where(known_BT, plain_BT)
        return weights_BT / (total_S > 0).sum().clamp(min=1)
