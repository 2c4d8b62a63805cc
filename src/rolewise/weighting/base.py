"""The interface between what a token is and how much it counts.

Shapes: B rows of a batch, T tokens of a row. A row holds one sample, or several when packed.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class TokenBatch:
    """What a scheme sees of a batch. All tensors have shape (B, T).

    Attributes:
        loss_BT: float32, nats per token, detached, zero outside the mask.
        roles_BT: integer `Role` values.
        mask_BT: bool, true where a token carries loss.
        sample_BT: int64, the number of each token's sample within the batch, below `sample_bound`.
        sample_bound: more than any sample's number; numbers of samples without a loss token may lie unused.
        scores_BT: float per token for schemes that need one, NaN where there is none; or None.
        step: optimizer steps done.
    """

    loss_BT: torch.Tensor
    roles_BT: torch.Tensor
    mask_BT: torch.Tensor
    sample_BT: torch.Tensor
    sample_bound: int
    scores_BT: torch.Tensor | None
    step: int


class Weighting(ABC):
    """Turns per-token losses and roles into per-token weights; the training loss is Σ weights · loss.

    Every scheme is a mean over *units*, samples or tokens, and says which in `unit`. The weights that it returns are
    normalised over the batch it is given; a trainer that sees a step in several micro-batches scales each one by its
    share of the step's units, so the result does not depend on how a batch is cut, packed or spread. Tokens may count
    unequally as units; see `counts`.
    """

    unit: Literal["sample", "token"]
    """What the loss is a mean over."""
    needs_roles: bool = True
    """Whether data without roles can't be what the user meant."""
    needs_scores: bool = False
    """Whether data without both losses of each token can't be: their difference is the score."""

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """What each token counts in a mean over tokens (`unit` token): here 1 if it carries loss.

        Args:
            roles_BT: integer `Role` values.
            mask_BT: bool, true where a token carries loss.

        Returns:
            float32 of shape (B, T), 0 or more, zero outside the mask.
        """
        return mask_BT.float()

    def weights(
        self,
        loss_BT: torch.Tensor,
        roles_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        *,
        segments_BT: torch.Tensor | None = None,
        scores_BT: torch.Tensor | None = None,
        step: int = 0,
    ) -> torch.Tensor:
        """Weights of a batch's tokens.

        Args:
            loss_BT: float, losses in nats per token; read without gradient, ignored where masked.
            roles_BT: integer `Role` values.
            mask_BT: bool, true where a token carries loss.
            segments_BT: integer sample ids within a packed row; None means one sample per row.
            scores_BT: float, one number per token for schemes that need one; NaN where it is not known.
            step: optimizer steps done, for schemes that follow a curriculum.

        Returns:
            float32 of shape (B, T), detached, zero outside the mask.

        Raises:
            ValueError: if the scheme gives weights of another shape.
        """
        sample_BT, bound = _number_samples(mask_BT, segments_BT)
        loss = torch.where(mask_BT, loss_BT.detach().float(), 0.0)
        batch = TokenBatch(loss, roles_BT, mask_BT, sample_BT, bound, scores_BT, step)
        weights_BT = torch.where(mask_BT, self.weigh(batch).float(), 0.0)
        if weights_BT.shape != mask_BT.shape:
            raise ValueError(f"weights of shape {tuple(weights_BT.shape)} for tokens of shape {tuple(mask_BT.shape)}")
        return weights_BT

    @abstractmethod
    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        """The scheme itself: weights of shape (B, T); what stands outside the mask does not matter."""


def _number_samples(mask_BT: torch.Tensor, segments_BT: torch.Tensor | None) -> tuple[torch.Tensor, int]:
    rows_B1 = torch.arange(mask_BT.size(0), device=mask_BT.device)[:, None]
    if segments_BT is None:
        return rows_B1.expand_as(mask_BT), mask_BT.size(0)
    per_row = int(segments_BT.max()) + 1
    return rows_B1 * per_row + segments_BT.long(), mask_BT.size(0) * per_row
