"""Losses per token, without logits for the tokens that carry no loss.

Shapes: B rows, T tokens, V vocabulary, N labelled tokens, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

ENTROPY_ROWS = 128
"""Number of rows of logits per chunk in the computation of entropies."""


@dataclass(frozen=True)
class TokenLosses:
    """Results of a forward pass for the labelled tokens. All have shape (B, T) and are zero where the label is −100.

    Attributes:
        loss_BT: float32 nats, with gradient; entry t is the loss of predicting token t.
        entropy_BT: float32 nats, detached: entropy of the prediction of token t.
        correct_BT: bool: true if token t was the most probable one.
        aux_loss: load-balancing loss of mixture-of-experts models, or None.
    """

    loss_BT: torch.Tensor
    entropy_BT: torch.Tensor
    correct_BT: torch.Tensor
    aux_loss: torch.Tensor | None


@contextmanager
def only_positions(head: nn.Module, positions_BT: torch.Tensor) -> Iterator[None]:
    """Restrict the LM head, within the context, to the hidden states where `positions_BT` (bool) is true.

    The model's logits then have shape (1, N, V), in row-major order of the positions. The model's own changes to its
    logits (scaling, soft-capping) still apply, since its own forward runs.
    """

    def select(_head: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (args[0][positions_BT.to(args[0].device)][None],)

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def selected_logits(model: nn.Module, head: nn.Module, inputs: dict[str, Any], labels_BT: torch.Tensor) -> Any:
    """Run `model` and return its output; `logits`, of shape (N, V), predict the labelled tokens in row-major order."""
    positions_BT = torch.zeros_like(labels_BT, dtype=torch.bool)
    positions_BT[:, :-1] = labels_BT[:, 1:] != -100  # the state before a token predicts it
    with only_positions(head, positions_BT):
        output = model(**inputs)
    output.logits = output.logits[0]
    return output


def selected_losses(model: nn.Module, head: nn.Module, inputs: dict[str, Any], labels_BT: torch.Tensor) -> TokenLosses:
    """Return losses from the plain forward, projecting only labelled positions: the fastest method on a CPU.

    Args:
        model: called as `model(**inputs)`; may be wrapped (PEFT, DDP).
        head: the model's output embeddings.
        inputs: ids, mask and positions, without labels.
        labels_BT: token ids, −100 where a token carries no loss.
    """
    output = selected_logits(model, head, inputs, labels_BT)
    mask = labels_BT != -100
    mask[:, 0] = False  # nothing predicts the first token
    logits_NV = output.logits.float()
    losses_N = F.cross_entropy(logits_NV, labels_BT[mask], reduction="none")
    with torch.no_grad():
        # In chunks: a few more arrays of (N, V) would set the memory peak of the whole step.
        entropy_N = torch.cat(
            [Categorical(logits=piece, validate_args=False).entropy() for piece in logits_NV.split(ENTROPY_ROWS)]
        )
        correct_N = logits_NV.argmax(dim=-1) == labels_BT[mask]
    return TokenLosses(
        loss_BT=losses_N.new_zeros(mask.shape).masked_scatter(mask, losses_N),
        entropy_BT=entropy_N.new_zeros(mask.shape).masked_scatter(mask, entropy_N),
        correct_BT=torch.zeros_like(mask).masked_scatter(mask, correct_N),
        aux_loss=getattr(output, "aux_loss", None),
    )


def fused_losses(model: nn.Module, inputs: dict[str, Any], labels_BT: torch.Tensor) -> TokenLosses:
    """Return losses from TRL's fused LM head, which never builds the logits: the memory-saving method on a GPU.

    `model` must have been patched by TRL's `add_fused_lm_head`, as its trainers do.
    """
    output = model(**inputs, labels=labels_BT, fused_lm_head=True)
    return TokenLosses(
        loss_BT=F.pad(-output.log_probs.float(), (1, 0)),
        entropy_BT=F.pad(output.entropy.detach().float(), (1, 0)),
        correct_BT=F.pad(output.is_top1.bool(), (1, 0)),
        aux_loss=output.aux_loss,
    )
