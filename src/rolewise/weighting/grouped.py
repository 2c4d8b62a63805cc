"""Weightings of two groups of tokens, boilerplate and reasoning, sample by sample.

Shapes: B rows, T tokens, S samples, G = 3 groups (boilerplate, reasoning, plain).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.weighting.base import TokenBatch, Weighting

if TYPE_CHECKING:
    import torch

_BOILERPLATE, _REASONING, _PLAIN = 0, 1, 2


class GroupWeighting(Weighting):
    """Σ over samples of (ω_b · mean boilerplate loss + ω_r · mean reasoning loss) / S.

    If a sample lacks one of the two groups, its loss is the other group's mean. Tokens without a role (PLAIN) keep
    their share p of the sample: its loss is p · mean plain loss + (1 − p) · the weighted part, so that general
    chat, all PLAIN, gets the plain loss.
    """

    unit = "sample"

    @abstractmethod
    def omega_S(self, boilerplate_S: torch.Tensor, reasoning_S: torch.Tensor) -> torch.Tensor:
        """Return ω_r of each sample, from its groups' mean losses (float32 of shape (S,)); ω_b is 1 − ω_r."""

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        cell_BT = batch.sample_BT * 3 + _groups(batch.roles_BT)  # one cell per (sample, group)
        bound = batch.sample_bound
        counts_SG = sum_by(cell_BT, batch.mask_BT.float(), bound * 3).view(bound, 3)
        means_SG = sum_by(cell_BT, batch.loss_BT, bound * 3).view(bound, 3) / counts_SG.clamp(min=1)

        omega_r = self.omega_S(means_SG[:, _BOILERPLATE], means_SG[:, _REASONING])
        has_b, has_r = counts_SG[:, _BOILERPLATE] > 0, counts_SG[:, _REASONING] > 0
        omega_r = omega_r.where(has_b & has_r, has_r.float())
        total_S = counts_SG.sum(dim=1)
        plain_S = counts_SG[:, _PLAIN] / total_S.clamp(min=1)
        share_SG = counts_SG.new_empty(bound, 3)
        share_SG[:, _BOILERPLATE] = (1 - plain_S) * (1 - omega_r)
        share_SG[:, _REASONING] = (1 - plain_S) * omega_r
        share_SG[:, _PLAIN] = plain_S

        samples = (total_S > 0).sum().clamp(min=1)
        per_token = (share_SG / counts_SG.clamp(min=1) / samples).view(-1)
        return per_token[cell_BT]


def sum_by(index_BT: torch.Tensor, values_BT: torch.Tensor, bound: int) -> torch.Tensor:
    """Return the sums of the values with the same index, float32 of shape (bound,)."""
    sums = values_BT.float().new_zeros(bound)
    return sums.index_add_(0, index_BT.reshape(-1), values_BT.float().reshape(-1))


def is_boilerplate(roles_BT: torch.Tensor) -> torch.Tensor:
    """Return a bool tensor of shape (B, T), true where the role counts as boilerplate."""
    boilerplate_BT = roles_BT.new_zeros(roles_BT.shape, dtype=bool)
    for role in BOILERPLATE_ROLES:
        boilerplate_BT |= roles_BT == role
    return boilerplate_BT


def _groups(roles_BT: torch.Tensor) -> torch.Tensor:
    groups = roles_BT.new_full(roles_BT.shape, _PLAIN, dtype=int)
    groups[roles_BT == Role.REASONING] = _REASONING
    groups[is_boilerplate(roles_BT)] = _BOILERPLATE
    return groups
