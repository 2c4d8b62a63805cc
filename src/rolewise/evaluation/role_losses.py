"""Held-out loss by role, to show if a model predicts reasoning better, and at what cost for boilerplate.

Shapes: T tokens of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from rolewise.core.role import Role
from rolewise.core.statistics import Interval, paired_interval
from rolewise.data.render import RenderedSample
from rolewise.labelling.scoring import batch_losses, collate, plan_shards

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
    head = model.get_output_embeddings()
    losses = [np.full(len(sample.input_ids), np.nan, dtype=np.float32) for sample in samples]
    for shard in plan_shards(samples, [0] * len(samples), batch_tokens, batch_tokens):
        for batch in shard.batches:
            ids_BT, labels_BT = collate([samples[i] for i in batch.samples], device)
            losses_N = batch_losses(model, head, ids_BT, labels_BT).cpu().numpy()
            start = 0
            for i in batch.samples:
                positions = np.flatnonzero(samples[i].loss_mask[1:]) + 1  # nothing predicts the first token
                losses[i][positions] = losses_N[start : start + len(positions)]
                start += len(positions)
    return losses


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
