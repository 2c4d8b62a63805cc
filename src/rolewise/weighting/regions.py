"""Weights by a token's region (arXiv 2509.21826): structure first, reasoning later.

Weights belong to one rollout step; a trainer that keeps a rollout for several updates keeps its weights.

Shapes: B responses, T tokens, K codes (of `Region`, or of another enumeration of token kinds).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.grouped import sum_by
from rolewise.weighting.ramp import Ramp

if TYPE_CHECKING:
    import torch

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.001, 8.0
"""Bounds that positive weights are clamped to before they are normalized, as in the official code."""


class RegionWeighting(Weighting):
    """Scheduled weights by a token's region or role; in each response, the nonzero weights average 1.

    `response_weights` is for policy gradients. As a `Weighting` for supervised fine-tuning, the same weights make
    each sample's loss a weighted mean, Σ w · loss / Σ w, and the loss the mean of these over samples.
    """

    unit = "sample"

    def __init__(self, ramps: Mapping[Any, Ramp | float], *, total_steps: int | None = None) -> None:
        """Store the weights.

        Args:
            ramps: for each code, a ramp or a fixed weight; codes that are left out count 0. The codes are `Region`s,
                `Role`s or any others that the columns hold.
            total_steps: length of the run, for use as a `Weighting`; `response_weights` has its own parameter.

        Raises:
            InputError: for a weight that is negative or not finite.
        """
        self.ramps: dict[IntEnum, Ramp] = {
            code: ramp if isinstance(ramp, Ramp) else Ramp(ramp, ramp, steps=1) for code, ramp in ramps.items()
        }
        self.total_steps = total_steps

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        """Return the weight of each code at a rollout step, before clamping and normalization.

        Args:
            step: number of rollouts done.
            total_steps: number of rollouts in the whole run; needed by ramps that are a share of it.
            entropies: mean entropy in nats of each code's tokens; only `EntropyResT` reads it.

        Raises:
            InputError: if `total_steps` is needed and None.
        """
        return {code: ramp.at(step, total_steps) for code, ramp in self.ramps.items()}

    def response_weights(
        self,
        regions_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        *,
        step: int,
        total_steps: int | None = None,
        entropies: Mapping[Any, float] | None = None,
    ) -> torch.Tensor:
        """Return the weights of sampled responses at a rollout step.

        Args:
            regions_BT: integer codes, e.g. from `label_regions`.
            mask_BT: bool, true where a token carries loss.
            step, total_steps, entropies: as for `code_weights`.

        Returns:
            float32 of shape (B, T), zero outside the mask and where the code counts 0; the positive weights of a
            response are clamped, then divided by their own mean. A response without positive weights is all zero.
        """
        weights_BT = self._clamped(regions_BT, mask_BT, self.code_weights(step, total_steps, entropies))
        counts_B1 = (weights_BT > 0).sum(dim=1, keepdim=True).clamp(min=1)
        means_B1 = weights_BT.sum(dim=1, keepdim=True) / counts_B1
        return weights_BT / means_B1.where(means_B1 > 0, 1.0)

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        weights_BT = self._clamped(batch.roles_BT, batch.mask_BT, self.code_weights(batch.step, self.total_steps))
        totals_S = sum_by(batch.sample_BT, weights_BT, batch.sample_bound)
        has_loss_S = sum_by(batch.sample_BT, batch.mask_BT, batch.sample_bound) > 0
        per_sample_BT = totals_S.where(totals_S > 0, 1.0)[batch.sample_BT]
        return weights_BT / per_sample_BT / has_loss_S.sum().clamp(min=1)

    @staticmethod
    def _clamped(codes_BT: torch.Tensor, mask_BT: torch.Tensor, weight_of: Mapping[IntEnum, float]) -> torch.Tensor:
        table_K = mask_BT.float().new_zeros(256)  # codes are uint8
        for code, weight in weight_of.items():
            table_K[int(code)] = min(max(weight, SMALLEST_WEIGHT), LARGEST_WEIGHT) if weight > 0 else 0.0
        return table_K[codes_BT.long()] * mask_BT


def weighs_closed(weighting: Any) -> bool:
    """Return True if a weighting needs regions labelled with `closed`: ResT's official one, or that one held at a
    step."""
    return bool(getattr(getattr(weighting, "weighting", weighting), "closed_tags_only", False))
