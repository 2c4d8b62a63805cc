"""Roles of responses that a policy samples, by SHAD or by contrast.

SHAD: the model that was tuned on shuffled pairs and its base both read every response after its prompt (arXiv
2412.14780, section 3.1): two forward passes per rollout. Contrast: one model reads it after its prompt and after K
others. None of these models is trained further, so the roles of a text do not change with the policy.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.render import Turn
from rolewise.data.token_text import token_table
from rolewise.labelling.classify import classify, roles_by_score
from rolewise.labelling.contrast import loss_without_input, scores
from rolewise.labelling.history_grid import HistoryScorer
from rolewise.labelling.scoring import LossFunction
from rolewise.labelling.settings.contrast import ContrastConfig
from rolewise.labelling.settings.shad import check_classification
from rolewise.labelling.tuned_losses import paired_losses
from rolewise.training.models import load_model
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


def contrast_rollout_roles(
    model: str,
    histories: Sequence[Sequence[int]],
    tokenizer: Any,
    config: ContrastConfig | None = None,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> RolloutRoles:
    """Return a source of REASONING and BOILERPLATE roles of sampled responses, for `WeightedGRPOTrainer`.

    See `labelling.contrast`. The score has no rarity here, since the responses to come can't be counted.

    Args:
        model: directory or hub id of the model that judges; a copy of it is loaded beside the policy.
        histories: ids of prompts to contrast with, K + 1 at least: a response is never contrasted with its own prompt.
        tokenizer: the model's tokenizer.
        config: settings; `rarity` must be 0.
        device: device of the model.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for a model that can't be loaded, too few different histories, or a rarity.
    """
    settings = config or ContrastConfig()
    if settings.rarity:
        raise InputError("rarity counts the tokens of a whole data set, which sampled responses are not; leave it at 0")
    pool = list(dict.fromkeys(tuple(history) for history in histories if history))[: settings.histories + 1]
    if len(pool) < 2:
        raise InputError("contrast needs prompts of at least 2 different questions")
    network = load_model(model, dtype=settings.dtype, device=device, trust_remote_code=trust_remote_code)
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    scorer = HistoryScorer(network, batch_tokens=settings.batch_tokens or BATCH_TOKENS, limit=limit)
    known = {history: scorer.read(history) for history in pool}
    table = token_table(tokenizer)

    def label(before: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[NDArray[np.uint8]]:
        roles = [np.zeros(0, np.uint8)] * len(responses)
        of_prompt: dict[tuple[int, ...], list[int]] = {}
        for row, (prompt, response) in enumerate(zip(before, responses, strict=True)):
            if len(response):
                of_prompt.setdefault(tuple(prompt), []).append(row)
        for prompt, rows in of_prompt.items():
            outputs = [np.asarray(responses[row]) for row in rows]
            own = scorer.under(*scorer.read(prompt), outputs)
            others = [history for history in pool if history != prompt][: settings.histories]
            under = [scorer.under(*known[history], outputs) for history in others]
            for place, row in enumerate(rows):
                other_KT = np.stack([of_history[place] for of_history in under])
                if not (np.isfinite(own[place]).all() and np.isfinite(other_KT).all()):
                    raise InputError("losses of sampled responses are not finite; give another model")
                text, starts_T, ends_T = table.text(outputs[place].tolist())
                without_T = loss_without_input(other_KT, settings.estimator).astype(np.float32)
                turns = [Turn(0, len(outputs[place]))]
                score_T, _ = scores(own[place], without_T, text, starts_T, ends_T, turns, settings)
                every_T = np.ones(len(score_T), dtype=bool)
                roles[row] = roles_by_score(score_T, every_T, settings.threshold)
        return roles

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
