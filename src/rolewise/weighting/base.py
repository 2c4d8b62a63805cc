"""The interface between a token's role and its weight.

Shapes: B rows of a batch, T tokens of a row. A row holds one sample, or several when packed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a scheme's parameters are listed in `--help`, which must not wait for torch
    import torch


@dataclass(frozen=True)
class TokenBatch:
    """The view of a batch that a scheme gets. All tensors have shape (B, T).

    Attributes:
        loss_BT: float32, nats per token, detached, zero outside the mask.
        roles_BT: integer `Role` values.
        mask_BT: bool, true where a token carries loss.
        sample_BT: int64, the number of each token's sample within the batch, below `sample_bound`.
        sample_bound: greater than every sample's number; numbers of samples without a loss token may be unused.
        scores_BT: float per token for schemes that need scores, NaN where there is none; or None.
        step: number of optimizer steps done.
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

    Every scheme is a mean over *units*, samples or tokens, and declares them in `unit`. The returned weights are
    normalized over the given batch; a trainer that sees a step in several micro-batches scales each one by its share
    of the step's units, so the result does not depend on how a batch is cut, packed or distributed. Tokens may count
    unequally as units; see `counts`.
    """

    unit: Literal["sample", "token"]
    """The unit that the loss is averaged over."""
    needs_roles: bool = True
    """True if trainers refuse data without roles, since the user can't have meant it."""
    needs_scores: bool = False
    """True if trainers refuse data without both losses of each token: their difference is the score."""

    def counts(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Return each token's count in a mean over tokens (`unit` token): here 1 if the token carries loss.

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
        """Return the weights of a batch's tokens.

        Args:
            loss_BT: float, losses in nats per token; read without gradient, ignored outside the mask.
            roles_BT: integer `Role` values.
            mask_BT: bool, true where a token carries loss.
            segments_BT: integer sample ids within a packed row; None means one sample per row.
            scores_BT: float, one number per token for schemes that need scores; NaN if unknown.
            step: number of optimizer steps done, for schemes that follow a curriculum.

        Returns:
            float32 of shape (B, T), detached, zero outside the mask.

        Raises:
            ValueError: if the scheme returns weights of another shape.
        """
        sample_BT, bound = _number_samples(mask_BT, segments_BT)
        loss = loss_BT.detach().float().where(mask_BT, 0.0)
        batch = TokenBatch(loss, roles_BT, mask_BT, sample_BT, bound, scores_BT, step)
        weights_BT = self.weigh(batch).float().where(mask_BT, 0.0)
        if weights_BT.shape != mask_BT.shape:
            raise ValueError(f"weights of shape {tuple(weights_BT.shape)} for tokens of shape {tuple(mask_BT.shape)}")
        return weights_BT

    @abstractmethod
    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        """Return the scheme's own weights, of shape (B, T); values outside the mask do not matter."""


def _number_samples(mask_BT: torch.Tensor, segments_BT: torch.Tensor | None) -> tuple[torch.Tensor, int]:
    rows_B1 = mask_BT.new_ones((mask_BT.size(0), 1), dtype=int).cumsum(dim=0) - 1
    if segments_BT is None:
        return rows_B1.expand_as(mask_BT), mask_BT.size(0)
    per_row = int(segments_BT.max()) + 1
    return rows_B1 * per_row + segments_BT.long(), mask_BT.size(0) * per_row
