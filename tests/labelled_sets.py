"""Labelled data sets made in the process, with roles and losses drawn at random instead of measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.core.role import Role
from rolewise.data.conversation import Conversation
from rolewise.data.labelled import LabelledData, LabelledInfo, TokenLabels, load_labelled, save_labelled
from rolewise.data.render import Renderer, tokenizer_fingerprint
from rolewise.labelling.classify import LossLabels

THRESHOLD, QUANTILE = 0.1, 0.4


def make_labelled(
    directory: Path, tokenizer: Any, conversations: Sequence[Conversation], *, seed: int = 0, **rendering: Any
) -> LabelledData:
    """Conversations with random losses and the roles that follow from them, saved and opened."""
    rng = np.random.default_rng(seed)
    renderer = Renderer(tokenizer, **rendering)
    samples = [sample for conversation in conversations for sample in renderer.render(conversation)]
    losses = []
    for sample in samples:
        base, tuned = (np.where(sample.loss_mask, rng.random(len(sample.input_ids)), np.nan) for _ in range(2))
        losses.append((base.astype(np.float32), tuned.astype(np.float32), sample.loss_mask))
    labels = LossLabels(losses, THRESHOLD, QUANTILE)
    info = LabelledInfo(
        method="shad",
        model="someone/model",
        model_hash="",
        tokenizer=tokenizer_fingerprint(tokenizer),
        rendering=renderer.fingerprint(),
        threshold=THRESHOLD,
        format_quantile=QUANTILE,
        counts={},
        settings={},
        versions={"rolewise": "0"},
    )
    directory.mkdir(parents=True)
    save_labelled(directory, samples, labels, [False] * len(samples), info)
    return load_labelled(directory)


def without_losses(directory: Path, tokenizer: Any, conversations: Sequence[Conversation]) -> LabelledData:
    """As a labeller leaves it that measures no losses: every loss token is REASONING."""
    renderer = Renderer(tokenizer)
    samples = [sample for conversation in conversations for sample in renderer.render(conversation)]
    labels = [
        TokenLabels.without_losses(np.where(s.loss_mask, Role.REASONING, Role.CONTEXT).astype(np.uint8))
        for s in samples
    ]
    info = LabelledInfo("regex", "", "", tokenizer_fingerprint(tokenizer), "", None, None, {}, {}, {})
    directory.mkdir(parents=True)
    save_labelled(directory, samples, labels, [False] * len(samples), info)
    return load_labelled(directory)
