"""What a weighting is told of a rollout, and how each kind of weighting is asked.

Shapes: B responses, T tokens of the longest one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from rolewise.core.region import Region
from rolewise.weighting import Weighting
from rolewise.weighting.rest import EntropyResT, RegionWeighting, mean_entropies
from rolewise.weighting.users_own import asking, refuse_endless_weights


@dataclass(frozen=True)
class RolloutTokens:
    """A process's share of a generation batch. All tensors have shape (B, T).

    Attributes:
        roles_BT: uint8, the role of each token, a `Region` unless other roles were asked for.
        mask_BT: bool, true for the policy's own tokens.
        step: rollouts before this one; a resumed run counts on.
        total_steps: rollouts of the whole run.
        score: gives log-probabilities and entropies (nats, float32) under the policy, by one forward pass more.
        accelerator: the trainer's, for what is to be summed over all processes.
    """

    roles_BT: torch.Tensor
    mask_BT: torch.Tensor
    step: int
    total_steps: int
    score: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    accelerator: Any

    def region_entropies(self) -> dict[Region, float]:
        """Mean entropy of each region's tokens, over all processes; without those that have no token."""
        return mean_entropies(
            self.score()[1],
            self.roles_BT,
            self.mask_BT,
            sum_over_processes=lambda sums: self.accelerator.reduce(sums, reduction="sum"),
        )


RolloutWeighting = Callable[[RolloutTokens], torch.Tensor]
"""Turns a rollout's tokens into weights, float (B, T), 0 or more; only their proportions count."""


def as_rollout_weighting(weighting: Weighting | RolloutWeighting) -> RolloutWeighting:
    """A weighting of any kind, to be asked for the weights of rollouts.

    A `RegionWeighting` is asked for a response's weights at the rollout's step. Any other `Weighting`, made for
    supervised fine-tuning, sees the sampled tokens' negative log-probabilities as their losses.

    Asking for weights raises `RolewiseError` for a weighting of the user's own that fails, and `InputError` for weights
    that are nan or infinite.
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
