"""SHAD's roles for responses that a policy samples: each token is judged by its change of loss under shuffled data.

The model that was tuned on shuffled pairs and its base both read every response after its prompt (arXiv 2412.14780,
section 3.1): two forward passes per rollout. Neither is trained further, so the roles of a text do not change with the
policy, and the tuned model has memorized none of the responses.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.labelling.classify import classify
from rolewise.labelling.scoring import LossFunction
from rolewise.labelling.settings.shad import check_classification
from rolewise.labelling.tuned_losses import paired_losses
from rolewise.training.rollout_roles import RolloutRoles

BATCH_TOKENS = 8192
"""Maximum number of padded tokens per pass through the models (a longer row goes alone)."""


def shad_rollout_roles(
    model: str,
    tuned: str | Path,
    *,
    threshold: float = 0.0,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> RolloutRoles:
    """Return a source of REASONING and BOILERPLATE roles of sampled responses, for `WeightedGRPOTrainer`.

    Args:
        model: directory or hub id of the base of the tuned model; a copy of it is loaded beside the policy.
        tuned: directory of its adapter, or of a whole model, tuned on shuffled pairs: `tuned-0` of
            `rolewise label --keep-tuned`.
        threshold: a token is reasoning if its loss under the tuned model is higher by more than this (nats).
        dtype: dtype of both models; lower precision than float32 flips labels.
        device: device of both models.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for models that can't be loaded or do not belong together.
    """
    check_classification(threshold, None)
    directory = Path(tuned)
    if not directory.is_dir():
        raise InputError(
            f"{tuned}: no such folder; give one made by rolewise label --keep-tuned, such as OUTPUT/tuned-0"
        )
    losses = paired_losses(model, [directory], dtype=dtype, device=device, trust_remote_code=trust_remote_code)

    def label(before: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[NDArray[np.uint8]]:
        return _label(before, responses, losses, threshold, device)

    return RolloutRoles(label, {int(role): role.label for role in Role}, outside=int(Role.CONTEXT))


def _label(
    before: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    losses: LossFunction,
    threshold: float,
    device: str,
) -> list[NDArray[np.uint8]]:
    lengths = [len(start) + len(ids) for start, ids in zip(before, responses, strict=True)]
    longest_first = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    roles: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)] * len(lengths)
    start = 0
    while start < len(lengths):
        rows = longest_first[start : start + max(1, BATCH_TOKENS // max(1, lengths[longest_first[start]]))]
        ids_BT = torch.zeros(len(rows), lengths[rows[0]], dtype=torch.long)
        labels_BT = torch.full_like(ids_BT, -100)
        for place, row in enumerate(rows):
            ids_BT[place, : lengths[row]] = torch.tensor([*before[row], *responses[row]])
            labels_BT[place, len(before[row]) : lengths[row]] = torch.tensor(responses[row])
        labels_BT[:, 0] = -100  # nothing predicts the first token
        is_scored_BT = (labels_BT != -100).numpy()
        measured = [np.full(ids_BT.shape, np.nan, np.float32) for _ in ("base", "tuned")]
        for losses_BT, losses_N in zip(measured, losses(0, ids_BT.to(device), labels_BT.to(device)), strict=True):
            if not torch.isfinite(losses_N).all():
                raise InputError("losses of sampled responses under the SHAD model are not finite; give another model")
            losses_BT[is_scored_BT] = losses_N.float().cpu().numpy()
        for place, row in enumerate(rows):
            own = slice(len(before[row]), lengths[row])
            base_T, tuned_T = (losses_BT[place, own] for losses_BT in measured)
            roles[row] = classify(base_T, tuned_T, np.ones(len(responses[row]), dtype=bool), threshold)
        start += len(rows)
    return roles
