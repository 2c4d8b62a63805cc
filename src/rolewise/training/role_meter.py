"""Loss, share of tokens and weight per role, summed over batches and processes."""

import torch

from rolewise.core.role import Role

_GROUPS = (Role.REASONING, Role.BOILERPLATE, Role.PLAIN)


class RoleMeter:
    """Sums per role between two log lines, and turns them into the numbers of the line.

    Keys: `loss_<role>` (mean nats per token), `share_<role>` (of the loss tokens), `weight_<role>` (of the total
    weight), for reasoning, boilerplate (FORMAT and TEMPLATE with it) and plain, where such tokens were seen; and
    `loss_token_mean`, the unweighted mean over all of them. With several processes the last evaluation batch may hold
    a few samples twice, as Accelerate fills it up; these sums count them.
    """

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None  # (roles, 3): loss, tokens, weight

    def add(
        self, loss_BT: torch.Tensor, roles_BT: torch.Tensor, mask_BT: torch.Tensor, weights_BT: torch.Tensor
    ) -> None:
        """Add a batch; all of shape (B, T)."""
        if self._sums is None:
            self._sums = torch.zeros(len(Role), 3, device=loss_BT.device)
        columns = torch.stack([loss_BT.detach().float(), mask_BT.float(), weights_BT], dim=-1)
        self._sums.index_add_(0, roles_BT[mask_BT].long(), columns[mask_BT])

    def take(self, accelerator: object | None = None, prefix: str = "") -> dict[str, float]:
        """The numbers so far, over all processes of an `accelerate.Accelerator`; the sums start again at zero."""
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
