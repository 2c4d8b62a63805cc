"""Entropy, share, weight and clipping per region of sampled responses, summed over batches and processes.

Shapes: B responses, T tokens of a response.
"""

from collections.abc import Mapping

import torch


class RegionMeter:
    """Accumulates sums per region between two log lines, and computes the numbers of the line from them.

    Keys, for every region with a token: `share/<region>` (share of the loss tokens), `weight/<region>` (mean weight of
    its tokens; 1 is the mean over all of them), `entropy/<region>` (mean nats of the policy's next-token distribution)
    and `clip_ratio/<region>` (share of its tokens with a clipped ratio).

    Args:
        names: label of each region by its number in `regions_BT`.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = dict(names)
        self._sums: torch.Tensor | None = None  # (regions, 4): tokens, weight, entropy, clipped tokens

    def add(
        self,
        regions_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        weights_BT: torch.Tensor,
        entropies_BT: torch.Tensor,
        clipped_BT: torch.Tensor,
    ) -> None:
        """Add a batch; all tensors have shape (B, T). Values outside `mask_BT` are ignored."""
        columns = (torch.ones_like(weights_BT), weights_BT, entropies_BT, clipped_BT)
        values = torch.stack([column.detach().double() for column in columns], dim=-1)
        sums = values.new_zeros(max(self._names) + 1, len(columns))
        sums.index_add_(0, regions_BT[mask_BT].long(), values[mask_BT])
        self._sums = sums if self._sums is None else self._sums + sums

    def take(self, accelerator: object) -> dict[str, float]:
        """Return the numbers so far, over all processes of an `accelerate.Accelerator`, and reset the sums."""
        if self._sums is None:
            return {}
        sums = accelerator.reduce(self._sums, reduction="sum")  # type: ignore[attr-defined]
        self._sums = None
        table = sums.tolist()
        total = sum(row[0] for row in table)
        numbers = {}
        for region, name in self._names.items():
            tokens, weight, entropy, clipped = table[region]
            if tokens:
                numbers[f"share/{name}"] = tokens / total
                numbers[f"weight/{name}"] = weight / tokens
                numbers[f"entropy/{name}"] = entropy / tokens
                numbers[f"clip_ratio/{name}"] = clipped / tokens
        return numbers
