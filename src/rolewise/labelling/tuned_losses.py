"""Losses of a data set under a model and under its tuned version: the basis of SHAD, Rho-1 and token rewards.

A model can't judge an output that it was tuned on, since memory lowers the loss. The data can therefore be split into
two folds by conversation, each judged by the model that was tuned on the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.render import RenderedSample
from rolewise.labelling.measuring import MeasuringLabeller, MeasuringPlan, score_missing
from rolewise.labelling.scoring import (
    LossFunction,
    MeasuredLosses,
    Shard,
    batch_losses,
    plan_shards,
    score,
    scored_length,
)
from rolewise.labelling.settings.base import TunedLossesConfig
from rolewise.labelling.tuning import TuningConfig
from rolewise.training.models import load_model


@dataclass(frozen=True, kw_only=True)
class TunedLossesPlan(MeasuringPlan):
    """Plan of the tuning and scoring; the same for the same data and settings.

    Attributes:
        folds: per sample, the number of the model that judges it; −1 if none may.
        shards: the batches to score.
        tuning: settings of the tuning.
        examples: per model to tune, the number of its examples.
        kind: plural name of the examples, for messages.
        longest_example: number of tokens of the longest example.
        tokens_to_tune: number of tokens to tune on; those to score go through the base model and the tuned model once
            each.
    """

    folds: list[int]
    shards: list[Shard]
    tuning: TuningConfig
    examples: list[int]
    kind: str
    longest_example: int
    tokens_to_tune: int


class TuningLabeller(MeasuringLabeller):
    """A labeller that tunes a model, measures losses before and after, and turns them into roles.

    Arguments as for `MeasuringLabeller`; `max_length` is also the limit for tuning examples.
    """

    settings: TunedLossesConfig

    def layout(self, samples: Sequence[RenderedSample], folds: list[int]) -> dict[str, Any]:
        """Return the scoring part of a plan, given the model that judges each sample."""
        scoring = self.scoring()
        return {
            "folds": folds,
            "shards": plan_shards(samples, folds, scoring["batch_tokens"], scoring.pop("shard_tokens")),
            **scoring,
            "tokens_to_score": sum(scored_length(s) for s, fold in zip(samples, folds, strict=True) if fold >= 0),
        }

    def measure(
        self,
        samples: Sequence[RenderedSample],
        plan: TunedLossesPlan,
        tuned: Sequence[Path],
        work: Path,
        progress: Progress,
    ) -> MeasuredLosses:
        """Return the losses of every sample under the base model and its fold's tuned model (adapter or whole)."""
        scores = work / "losses"

        def score_shards(shards: list[Shard]) -> Iterator[int]:
            losses = paired_losses(
                self.model,
                tuned,
                dtype=self.settings.dtype,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
            )
            yield from score(shards, samples, losses, scores, plan.device)

        def tokens_of(shard: Shard) -> int:
            return sum(scored_length(samples[i]) for batch in shard.batches for i in batch.samples)

        score_missing(
            plan.shards, scores, tokens_of, score_shards, progress, "score, base and tuned", plan.tokens_to_score
        )
        return MeasuredLosses(plan.shards, samples, scores)


def paired_losses(
    model: str, tuned: Sequence[Path], *, dtype: str, device: str, trust_remote_code: bool = False
) -> LossFunction:
    """Return a function that computes losses under a model and under its tuned versions.

    Args:
        model: directory or hub id of the base model.
        tuned: directories of its tuned versions, by fold: adapters or whole models.
        dtype, device: dtype and device of weights and computation.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for a model that can't be loaded, or an adapter of another model.
    """

    def load(name: str) -> torch.nn.Module:
        return load_model(name, dtype=dtype, device=device, trust_remote_code=trust_remote_code)

    if (tuned[0] / "adapter_config.json").exists():
        return _adapter_losses(load(model), tuned)
    return _two_model_losses(load(model), lambda fold: load(str(tuned[fold])))


def conversations(samples: Sequence[RenderedSample]) -> list[str]:
    """Return the conversation of each sample; duplicates count as one, as a model tuned on one copy knows the other."""
    texts: dict[str, str] = {}  # hashes, since the data may be larger than memory
    sources: list[str] = []
    for sample in samples:  # a conversation may be rendered as several samples, one per turn
        sources.append(sample.source)
        texts[sample.source] = digest([texts.get(sample.source), sample.text])
    first_with: dict[str, str] = {}
    first = {source: first_with.setdefault(text, source) for source, text in texts.items()}
    return [first[source] for source in sources]


def fold_by_conversation(groups: Sequence[str], seed: int) -> list[int]:
    """Return 0 or 1 per sample: a random half of the conversations each.

    Raises:
        InputError: for fewer than four conversations.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 4:
        raise InputError(
            f"{len(names)} conversations are too few: each of two halves, of at least 2, tunes a model; give more, or "
            "turn cross-fit off"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    half = {names[i]: int(rank >= len(names) / 2) for rank, i in enumerate(order)}
    return [half[group] for group in groups]


def _adapter_losses(base: torch.nn.Module, adapters: Iterable[Path]) -> LossFunction:
    """Use one copy of the weights: base losses with the adapter off, tuned losses with the fold's adapter on."""
    first, *others = adapters
    try:
        model = PeftModel.from_pretrained(base, str(first), adapter_name="fold0")
    except (RuntimeError, ValueError) as error:  # PEFT raises these for wrong shapes and missing layers
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{first}: this adapter does not fit the model ({reason}); give its own") from error
    for fold, adapter in enumerate(others, start=1):
        model.load_adapter(str(adapter), adapter_name=f"fold{fold}")
    head = model.get_output_embeddings()

    def losses(fold: int, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model.set_adapter(f"fold{fold}", inference_mode=True)
        tuned_N = batch_losses(model, head, ids_BT, labels_BT)
        with model.disable_adapter():
            return batch_losses(model, head, ids_BT, labels_BT), tuned_N

    return losses


def _two_model_losses(base: torch.nn.Module, load_tuned: Callable[[int], torch.nn.Module]) -> LossFunction:
    """Use two copies of the weights; batches come fold by fold, so each tuned model is loaded once."""
    loaded: dict[int, torch.nn.Module] = {}

    def losses(fold: int, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if fold not in loaded:
            loaded.clear()
            loaded[fold] = load_tuned(fold)
        base_N, tuned_N = (
            batch_losses(model, model.get_output_embeddings(), ids_BT, labels_BT) for model in (base, loaded[fold])
        )
        return base_N, tuned_N

    return losses
