"""A weighting of one's own: a turn's first tokens count most, since that is where an agent decides what to do.

    rolewise sft --weighting turn-decay --plugin examples/extending/my_weighting.py --data labelled --model MODEL \\
        --weighting-arg scale=50 --output tuned

The weight falls as 1 / (1 + place / scale), slowly enough that the end-of-turn token is still learnt. It reads no
roles, so conversations will do as data.
"""

import math
from typing import Annotated

import torch

from rolewise import InputError, Weighting, register_weighting
from rolewise.weighting import TokenBatch


class TurnDecay(Weighting):
    """Σ over samples of the decaying mean of their token losses, / S. Shapes: B rows, T tokens, S samples."""

    unit = "sample"
    needs_roles = False

    def __init__(
        self, scale: Annotated[float, "Tokens into its turn at which a token counts half as much as the first."] = 50.0
    ) -> None:
        if not 0 < scale < math.inf:
            raise InputError(f"scale is {scale}; give a number of tokens above 0")
        self.scale = scale

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        raw_BT = batch.mask_BT / (1 + place_in_turn(batch.mask_BT) / self.scale)
        total_S = raw_BT.new_zeros(batch.sample_bound).index_add(0, batch.sample_BT.flatten(), raw_BT.flatten())
        samples = (total_S > 0).sum().clamp(min=1)
        # A sample number without a loss token has a total of 0, and no token that would be divided by it.
        return raw_BT / total_S.clamp(min=1e-9)[batch.sample_BT] / samples


def place_in_turn(mask_BT: torch.Tensor) -> torch.Tensor:
    """How many loss tokens of the same turn, a run of them, stand before each; (B, T)."""
    count_BT = mask_BT.cumsum(dim=1)
    before_turn_BT = torch.where(mask_BT, 0, count_BT).cummax(dim=1).values
    return (count_BT - before_turn_BT - 1).clamp(min=0)


register_weighting("turn-decay", TurnDecay)
