"""Held-out loss by role, to show if a model predicts reasoning better, and at what cost for boilerplate.

Shapes: T tokens of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rolewise.core.role import Role
from rolewise.core.statistics import Interval, paired_interval
from rolewise.data.render import RenderedSample
from rolewise.labelling.scoring import collate, plan_shards
from rolewise.training.token_losses import selected_losses

GROUPS = (Role.REASONING, Role.BOILERPLATE)


@dataclass(frozen=True)
class RoleLosses:
    """Mean loss per sample and group, in nats per token; NaN if a sample has no such token.

    Attributes:
        by_sample: group → one mean per sample, in the order of the samples.
        by_token: group → mean over all tokens of the group.
    """

    by_sample: dict[Role, np.ndarray]
    by_token: dict[Role, float]


def token_losses(
    model: nn.Module, samples: Sequence[RenderedSample], *, batch_tokens: int = 2048, device: str = "cpu"
) -> list[np.ndarray]:
    """Return the loss of every token (float32 nats, shape (T,) per sample), NaN for tokens without loss."""
    return [losses_T for losses_T, _ in token_predictions(model, samples, batch_tokens=batch_tokens, device=device)]


def token_predictions(
    model: nn.Module, samples: Sequence[RenderedSample], *, batch_tokens: int = 2048, device: str = "cpu"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, per sample, the loss of every token (as `token_losses`) and whether it was the most probable one.

    The second is bool, shape (T,), false for tokens without loss. Each token is predicted from the given ones before.
    """
    head = model.get_output_embeddings()
    found = [
        (np.full(len(sample.input_ids), np.nan, dtype=np.float32), np.zeros(len(sample.input_ids), dtype=bool))
        for sample in samples
    ]
    for shard in plan_shards(samples, [0] * len(samples), batch_tokens, batch_tokens):
        for batch in shard.batches:
            ids_BT, labels_BT = collate([samples[i] for i in batch.samples], device)
            with torch.inference_mode():
                measured = selected_losses(model, head, {"input_ids": ids_BT, "use_cache": False}, labels_BT)
            losses_BT, correct_BT = measured.loss_BT.float().cpu().numpy(), measured.correct_BT.cpu().numpy()
            for row, i in enumerate(batch.samples):
                positions = np.flatnonzero(samples[i].loss_mask[1:]) + 1  # nothing predicts the first token
                losses_T, correct_T = found[i]
                losses_T[positions], correct_T[positions] = losses_BT[row, positions], correct_BT[row, positions]
    return found


def exact_spans(correct: Sequence[np.ndarray], roles: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return how many runs of truly reasoning tokens are predicted right token for token, and how many there are.

    Args:
        correct: whether each token was the most probable one, per sample of shape (T,).
        roles: true roles (uint8), likewise.
    """
    right = total = 0
    for correct_T, roles_T in zip(correct, roles, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (roles_T == Role.REASONING).astype(np.int8), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            total += 1
            right += bool(correct_T[start:end].all())
    return right, total


def losses_by_role(losses: Sequence[np.ndarray], roles: Sequence[np.ndarray]) -> RoleLosses:
    """Average token losses over roles from the ground truth or a labeller (uint8, shape (T,) per sample)."""
    by_sample: dict[Role, np.ndarray] = {}
    by_token: dict[Role, float] = {}
    for group in GROUPS:
        members = [int(role) for role in Role if role.group is group]
        picked = [
            loss_T[np.isin(roles_T, members) & ~np.isnan(loss_T)] for loss_T, roles_T in zip(losses, roles, strict=True)
        ]
        by_sample[group] = np.array([chosen.mean() if chosen.size else np.nan for chosen in picked])
        by_token[group] = (
            float(np.concatenate(picked).mean()) if any(chosen.size for chosen in picked) else float("nan")
        )
    return RoleLosses(by_sample, by_token)


def paired_difference(first: RoleLosses, second: RoleLosses, group: Role) -> Interval:
    """Return the mean over samples of second − first loss of a group, with interval; skip samples without the group."""
    differences = second.by_sample[group] - first.by_sample[group]
    return paired_interval(differences[~np.isnan(differences)])
