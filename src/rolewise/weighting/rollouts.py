"""Steps that weights of a whole rollout need beyond each response's own: one scale, and entropies by region.

Shapes: B responses, T tokens.
"""

from collections.abc import Callable

import torch

from rolewise.core.region import Region

SumOverProcesses = Callable[[torch.Tensor], torch.Tensor]
"""Takes this process's tensor, returns the sum over all processes."""


def rescaled_to_mean_one(
    weights_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> torch.Tensor:
    """Scale weights by one factor so that they average 1 over all loss tokens of the batch, weights of 0 included.

    A loss that is divided by its number of loss tokens, as TRL's token-mean losses are, then becomes
    Σ w · mask · l / Σ w · mask, the paper's aggregation. (The mean in `response_weights` is over positive weights
    only.)

    Args:
        weights_BT: float, zero outside the mask.
        mask_BT: bool.
        sum_over_processes: sums a tensor of two numbers over the processes that share the batch; None for one process.

    Returns:
        float32 of shape (B, T). A batch without any weight stays all zero.
    """
    totals = torch.stack([weights_BT.float().sum(), mask_BT.float().sum()])
    if sum_over_processes is not None:
        totals = sum_over_processes(totals)
    factor = torch.where(totals[0] > 0, totals[1] / totals[0].clamp(min=torch.finfo(torch.float32).tiny), 0.0)
    return weights_BT.float() * factor


def mean_entropies(
    entropy_BT: torch.Tensor,
    regions_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[Region, float]:
    """Return the mean entropy of each region's tokens, for logs and for `EntropyResT`.

    Args:
        entropy_BT: float, nats per token; ignored outside the mask.
        regions_BT: integer `Region` values.
        mask_BT: bool, true where a token carries loss.
        sum_over_processes: sums a tensor over the processes that share the batch; None for one process.

    Returns:
        The means by region; regions without a token are left out.
    """
    codes = regions_BT[mask_BT].long()
    sums = torch.zeros(2, len(Region), dtype=torch.float64, device=codes.device)
    sums[0].index_add_(0, codes, entropy_BT[mask_BT].detach().double())
    sums[1].index_add_(0, codes, torch.ones_like(codes, dtype=torch.float64))
    if sum_over_processes is not None:
        sums = sum_over_processes(sums)
    totals, counts = sums.tolist()
    return {region: totals[region] / counts[region] for region in Region if counts[region]}
