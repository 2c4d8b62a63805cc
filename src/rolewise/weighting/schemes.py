"""Weighting schemes for supervised fine-tuning that average per sample: the plain mean, α-FT, RFT, token rewards.

Shapes: B rows, T tokens, S samples, G = 3 groups (boilerplate, reasoning, plain).
"""

import math
from abc import abstractmethod

import torch

from rolewise.core.errors import InputError
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.weighting.base import TokenBatch, Weighting

_BOILERPLATE, _REASONING, _PLAIN = 0, 1, 2


class SampleMean(Weighting):
    """Every sample counts the same, and every loss token within it: 1 / (S · n_sample). Roles are not read.

    RFT averages per sample too, so this is the baseline that tells its gain from the averaging's.
    """

    unit = "sample"
    needs_roles = False

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        counts_S = _sum_by(batch.sample_BT, batch.mask_BT.float(), batch.sample_bound)
        return 1 / counts_S.clamp(min=1)[batch.sample_BT] / (counts_S > 0).sum().clamp(min=1)


class GroupWeighting(Weighting):
    """Σ over samples of (ω_b · mean boilerplate loss + ω_r · mean reasoning loss) / S.

    A sample that lacks one of the two groups has the other group's mean as its loss. Tokens without a role (PLAIN)
    keep their share p of the sample: its loss is p · mean plain loss + (1 − p) · the weighted part, so that general
    chat, all PLAIN, gets the plain loss.
    """

    unit = "sample"

    @abstractmethod
    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        """ω_r of each sample, from its groups' mean losses (float32 of shape (S,)); ω_b is 1 − ω_r."""

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        cell_BT = batch.sample_BT * 3 + _groups(batch.roles_BT)  # one cell per (sample, group)
        bound = batch.sample_bound
        counts_SG = _sum_by(cell_BT, batch.mask_BT.float(), bound * 3).view(bound, 3)
        means_SG = _sum_by(cell_BT, batch.loss_BT, bound * 3).view(bound, 3) / counts_SG.clamp(min=1)

        omega_r = self.omega_S(means_SG[:, _BOILERPLATE], means_SG[:, _REASONING])
        has_b, has_r = counts_SG[:, _BOILERPLATE] > 0, counts_SG[:, _REASONING] > 0
        omega_r = torch.where(has_b & has_r, omega_r, has_r.float())
        total_S = counts_SG.sum(dim=1)
        plain_S = counts_SG[:, _PLAIN] / total_S.clamp(min=1)
        share_SG = torch.stack([(1 - plain_S) * (1 - omega_r), (1 - plain_S) * omega_r, plain_S], dim=1)

        samples = (total_S > 0).sum().clamp(min=1)
        per_token = (share_SG / counts_SG.clamp(min=1) / samples).view(-1)
        return per_token[cell_BT]


class AlphaFT(GroupWeighting):
    """α-FT: L = α · L_b + (1 − α) · L_r with a fixed α (arXiv 2412.14780, eq. 6)."""

    def __init__(self, alpha: float = 0.3):
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha is {alpha}; it is boilerplate's share of the loss and lies between 0 and 1")
        self.alpha = alpha

    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        return torch.full_like(reasoning_S, 1 - self.alpha)


class RFT(GroupWeighting):
    """Reasoning-highlighted fine-tuning (arXiv 2412.14780, eq. 4, 5): (ω_b, ω_r) = softmax(L_b / τ, L_r / τ).

    The paper speaks of total losses; here L_b and L_r are means per group, since totals saturate the softmax, and the
    weights are each sample's own, so they do not depend on what else is in the batch. ω carries no gradient.
    """

    def __init__(self, inv_tau: float = 0.3):
        if not 0 <= inv_tau < math.inf:
            raise InputError(f"inv_tau is {inv_tau}; 1/τ is a finite number, 0 (equal weights) or more")
        self.inv_tau = inv_tau

    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((reasoning_S - boilerplate_S) * self.inv_tau)


class RewardSoftmax(Weighting):
    """RewardFT (as arXiv 2412.14780 compares it): softmax of a sample's token rewards as weights of its token losses.

    Rewards are the scores, log π_dpo(y_t) − log π_ref(y_t); the loss is the mean over samples of Σ softmax_t · loss_t.
    Tokens without a reward (NaN) keep their share p of their sample, as in `GroupWeighting`: general chat, which nobody
    judged, gets the plain loss. Roles are not read.
    """

    unit = "sample"
    needs_roles = False
    needs_scores = True

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        if batch.scores_BT is None:
            raise InputError("the weighting reward needs a score for every token; label the data with --method reward")
        scores_BT, bound = batch.scores_BT.float(), batch.sample_bound
        known_BT = batch.mask_BT & ~scores_BT.isnan()
        scores_BT = torch.where(known_BT, scores_BT, -math.inf)
        top_S = scores_BT.new_full((bound,), -math.inf)
        top_S.scatter_reduce_(0, batch.sample_BT.reshape(-1), scores_BT.reshape(-1), "amax")
        exp_BT = torch.where(known_BT, (scores_BT - top_S[batch.sample_BT]).exp(), 0.0)
        softmax_BT = exp_BT / _sum_by(batch.sample_BT, exp_BT, bound).clamp(min=1)[batch.sample_BT]

        total_S = _sum_by(batch.sample_BT, batch.mask_BT.float(), bound)
        share_S = _sum_by(batch.sample_BT, known_BT.float(), bound) / total_S.clamp(min=1)
        plain_BT = 1 / total_S.clamp(min=1)[batch.sample_BT]
        weights_BT = torch.where(known_BT, share_S[batch.sample_BT] * softmax_BT, plain_BT)
        return weights_BT / (total_S > 0).sum().clamp(min=1)


def _groups(roles_BT: torch.Tensor) -> torch.Tensor:
    groups = torch.full_like(roles_BT, _PLAIN, dtype=torch.long)
    groups[roles_BT == Role.REASONING] = _REASONING
    for role in BOILERPLATE_ROLES:
        groups[roles_BT == role] = _BOILERPLATE
    return groups


def _sum_by(index_BT: torch.Tensor, values_BT: torch.Tensor, bound: int) -> torch.Tensor:
    sums = torch.zeros(bound, dtype=torch.float32, device=values_BT.device)
    return sums.index_add_(0, index_BT.reshape(-1), values_BT.reshape(-1))
