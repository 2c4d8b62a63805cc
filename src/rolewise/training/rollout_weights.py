"""A weighting's view of a rollout, and one calling convention for every kind of weighting.

Shapes: B responses, T tokens of the longest one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from rolewise.core.region import Region
from rolewise.weighting import Weighting
from rolewise.weighting.region_schemes.rest_entropy import EntropyResT
from rolewise.weighting.regions import RegionWeighting
from rolewise.weighting.rollouts import mean_entropies
from rolewise.weighting.users_own import asking, refuse_endless_weights


@dataclass(frozen=True)
class RolloutTokens:
    """A process's share of a generation batch. All tensors have shape (B, T).

    Attributes:
        roles_BT: uint8, the role of each token. Default: a `Region`.
        mask_BT: bool, true for the policy's own tokens.
        step: number of rollouts before this one; a resumed run continues the count.
        total_steps: number of rollouts in the whole run.
        score: returns log-probabilities and entropies (nats, float32) under the policy, at the cost of one more forward
            pass.
        accelerator: the trainer's, for sums over all processes.
    """

    roles_BT: torch.Tensor
    mask_BT: torch.Tensor
    step: int
    total_steps: int
    score: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    accelerator: Any

    def region_entropies(self) -> dict[Region, float]:
        """Return the mean entropy of each region's tokens, over all processes; regions without a token are left out."""
        return mean_entropies(
            self.score()[1],
            self.roles_BT,
            self.mask_BT,
            sum_over_processes=lambda sums: self.accelerator.reduce(sums, reduction="sum"),
        )


RolloutWeighting = Callable[[RolloutTokens], torch.Tensor]
"""Turns a rollout's tokens into weights, float (B, T), 0 or more; only their proportions count."""


def as_rollout_weighting(weighting: Weighting | RolloutWeighting) -> RolloutWeighting:
    """Turn a weighting of any kind into a function that returns the weights of rollouts.

    A `RegionWeighting` gives a response's weights at the rollout's step. Any other `Weighting`, made for
    supervised fine-tuning, gets the sampled tokens' negative log-probabilities as their losses.

    The function raises `RolewiseError` if a weighting of the user's own fails, and `InputError` for weights that are
    nan or infinite.
    """
    ask = _asked(weighting)

    def weights(tokens: RolloutTokens) -> torch.Tensor:
        with asking(weighting):
            weights_BT = ask(tokens)
            if weights_BT.shape != tokens.mask_BT.shape:
                shapes = tuple(weights_BT.shape), tuple(tokens.mask_BT.shape)
                raise ValueError(f"weights of shape {shapes[0]} for tokens of shape {shapes[1]}")
            total = float(weights_BT.sum())
        if not math.isfinite(total):
            refuse_endless_weights(weighting, f"rollout {tokens.step + 1}")
        return weights_BT

    return weights


def _asked(weighting: Weighting | RolloutWeighting) -> RolloutWeighting:
    if isinstance(weighting, RegionWeighting):
        return lambda tokens: weighting.response_weights(
            tokens.roles_BT,
            tokens.mask_BT,
            step=tokens.step,
            total_steps=tokens.total_steps,
            entropies=tokens.region_entropies() if isinstance(weighting, EntropyResT) else None,
        )
    if isinstance(weighting, Weighting):
        return lambda tokens: weighting.weights(-tokens.score()[0], tokens.roles_BT, tokens.mask_BT, step=tokens.step)
    return weighting
