"""Loss, share of tokens and weight per role, summed over batches and processes."""

from collections.abc import Callable

import torch

from rolewise.core.role import Role

_GROUPS = (Role.REASONING, Role.BOILERPLATE, Role.PLAIN)


class RoleMeter:
    """Accumulates sums per role between two log lines, and computes the numbers of the line from them.

    Keys: `loss_<role>` (mean nats per token), `share_<role>` (share of the loss tokens), `weight_<role>` (share of the
    total weight), for reasoning, boilerplate (including FORMAT and TEMPLATE) and plain, if such tokens were seen; and
    `loss_token_mean`, the unweighted mean over all of them.
    """

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None  # (roles, 3): loss, tokens, weight
        self._totals: torch.Tensor | None = None  # (2,): weighted loss, units

    def add(
        self,
        loss_BT: torch.Tensor,
        roles_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        weights_BT: torch.Tensor,
        units_B: torch.Tensor | None = None,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Add a batch; all tensors have shape (B, T).

        Args:
            units_B: each row's number of units in a mean of the weighted loss; see `weighted_loss`.
            gather: collects the rows of all processes and drops those that only fill up the last batch
                (`Accelerator.gather_for_metrics`); the sums then already cover all processes.
        """
        rows = len(loss_BT)
        columns = torch.stack([loss_BT.detach().float(), mask_BT.float(), weights_BT], dim=-1)
        cells_BT = roles_BT.long() + len(Role) * torch.arange(rows, device=loss_BT.device)[:, None]
        sums_B = torch.zeros(rows * len(Role), 3, device=loss_BT.device)
        sums_B.index_add_(0, cells_BT[mask_BT], columns[mask_BT])
        gather = gather or (lambda rows_B: rows_B)
        sums = gather(sums_B.view(rows, len(Role), 3)).sum(dim=0)
        self._sums = sums if self._sums is None else self._sums + sums
        if units_B is not None:
            weighted_B = (weights_BT * loss_BT.detach().float()).sum(dim=1)
            totals = gather(torch.stack([weighted_B, units_B.float()], dim=1)).sum(dim=0)
            self._totals = totals if self._totals is None else self._totals + totals

    def weighted_loss(self) -> float | None:
        """Return Σ weights · loss over Σ units of all batches so far; None without units."""
        if self._totals is None or not self._totals[1]:
            return None
        return float(self._totals[0] / self._totals[1])

    def take(self, accelerator: object | None = None, prefix: str = "") -> dict[str, float]:
        """Return the numbers so far, over all processes of an `accelerate.Accelerator`, and reset the sums."""
        if self._sums is None:
            return {}
        sums = self._sums if accelerator is None else accelerator.reduce(self._sums, reduction="sum")  # type: ignore[attr-defined]
        self._sums = None
        table = sums.cpu().double()
        total_loss, total_tokens, total_weight = table.sum(dim=0).tolist()
        if total_tokens == 0:
            return {}
        numbers = {f"{prefix}loss_token_mean": total_loss / total_tokens}
        for group in _GROUPS:
            members = [role for role in Role if role.group == group]
            loss, tokens, weight = table[members].sum(dim=0).tolist()
            if tokens:
                numbers[f"{prefix}loss_{group.label}"] = loss / tokens
                numbers[f"{prefix}share_{group.label}"] = tokens / total_tokens
                numbers[f"{prefix}weight_{group.label}"] = weight / total_weight if total_weight else 0.0
        return numbers
