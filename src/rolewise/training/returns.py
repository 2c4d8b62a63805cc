"""REINFORCE++'s advantages (arXiv 2501.03262): returns of single tokens, normalized over the whole batch.

Shapes: B paths, T tokens of the longest one.
"""

from collections.abc import Callable

import torch

LEAST_VARIANCE = 1e-8
"""Variance below which returns count as equal: their advantages are then near 0, not magnified rounding errors."""


def returns_to_go(rewards_BT: torch.Tensor) -> torch.Tensor:
    """Return the sum of the rewards of each token and those after it (γ = 1); float (B, T), padding earns 0."""
    return rewards_BT.flip(-1).cumsum(-1).flip(-1)


def normalised(
    values_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    sum_over_processes: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> torch.Tensor:
    """Return values minus their mean, divided by their standard deviation, both over the tokens of all processes.

    Args:
        values_BT: float (B, T).
        mask_BT: bool (B, T), the tokens that count; elsewhere the result is 0.
        sum_over_processes: sums a tensor over all processes.

    Returns:
        Float32 (B, T); all 0 if no token counts.
    """
    values_N = values_BT[mask_BT].double()
    sums = sum_over_processes(torch.stack([values_N.sum(), torch.tensor(float(len(values_N))).to(values_N)]))
    count = sums[1].clamp(min=1)
    mean = sums[0] / count
    variance = sum_over_processes((values_N - mean).square().sum()) / count
    scaled_BT = (values_BT.double() - mean) / variance.clamp(min=LEAST_VARIANCE).sqrt()
    return torch.where(mask_BT, scaled_BT, 0.0).float()
