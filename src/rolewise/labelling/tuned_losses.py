"""Losses of a data set under a model and under the same model tuned: what SHAD, Rho-1 and token rewards all rest on.

An output that a model was tuned on can't be judged by it, its loss fell by memory. So the data can be cut into two
folds by conversation, each judged by the model that was tuned on the other.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.labelling.scoring import (
    LossFunction,
    MeasuredLosses,
    Shard,
    batch_losses,
    plan_shards,
    score,
    scored_length,
)
from rolewise.labelling.tuning import TuningConfig
from rolewise.training import processes
from rolewise.training.models import default_device, load_model

MANY_EXAMPLES = 1000
"""From so many examples on, tuning takes the paper's fine-tuning batch and (full tuning) its learning rate."""


@dataclass(frozen=True, kw_only=True)
class TunedLossesConfig:
    """How a model is tuned and both are read. None stands for a default by the size of the data or the device.

    Attributes:
        cross_fit: judge each half of the data with the model tuned on the other. Without it one model is tuned, and
            outputs that it was tuned on are left PLAIN.
        tuning: `lora` or `full`.
        learning_rate: default below 1,000 examples 1e-3 for LoRA and 1e-4 for full tuning (a few dozen steps at the
            usual 2e-4 hardly move LoRA's matrices), else 2e-4 and 1e-5.
        rank: of the LoRA matrices.
        batch_size: examples per optimizer step; default 2 below 1,000 examples, else 32.
        micro_batch_size: examples that go through the model together while tuning, at most.
        epochs: passes over the examples.
        dtype: of weights and arithmetic in tuning and scoring. With bfloat16 the rounding of a lightly tuned model
            flips the sign of the difference on many tokens.
        batch_tokens: padded tokens that go through the model together; default 2,048 on a CPU, else 16,384.
        seed: of the draw and the tuning.
    """

    cross_fit: bool = True
    tuning: str = "lora"
    learning_rate: float | None = None
    rank: int = 16
    batch_size: int | None = None
    micro_batch_size: int = 4
    epochs: int = 1
    dtype: str = "float32"
    batch_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tuning not in ("lora", "full"):
            raise InputError(f"tuning {self.tuning!r} is not known; choose lora or full")
        for name in ("rank", "micro_batch_size", "epochs", "batch_size", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if self.learning_rate is not None and not (0 < self.learning_rate < math.inf):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be a finite number above 0")

    def tuning_of(self, examples: int) -> TuningConfig:
        """Settings of a tuning on so many examples, on as many processes as there are."""
        few = examples < MANY_EXAMPLES
        rates = {"lora": 1e-3 if few else 2e-4, "full": 1e-4 if few else 1e-5}
        return TuningConfig(
            method=self.tuning,
            learning_rate=self.learning_rate or rates[self.tuning],
            rank=self.rank,
            batch_size=_shared_batch(self.batch_size, 2 if few else 32),
            micro_batch_size=self.micro_batch_size,
            epochs=self.epochs,
            dtype=self.dtype,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class TunedLossesPlan:
    """What is going to be tuned and scored; the same for the same data and settings.

    Attributes:
        folds: per sample, the number of the model that judges it; −1 where none may.
        shards: the batches to score.
        tuning: settings of the tuning.
        device: where it runs.
        batch_tokens: padded tokens scored at once, at most (a longer sample goes alone).
        examples: of each model to tune, how many it is tuned on, and `kind` says what they are.
        longest_example: tokens of the longest.
        tokens_to_tune, tokens_to_score: tokens through the model, each of the latter once plain and once tuned.
    """

    folds: list[int]
    shards: list[Shard]
    tuning: TuningConfig
    device: str
    batch_tokens: int
    examples: list[int]
    kind: str
    longest_example: int
    tokens_to_tune: int
    tokens_to_score: int


class TuningLabeller(ABC):
    """A labeller that tunes a model, measures losses before and after, and turns them into roles.

    Args:
        model: directory or hub id of the base model.
        config: its settings.
        max_length: tokens that samples are cut to, which what it is tuned on shall not exceed either.
        trust_remote_code: passed on to Transformers.
    """

    def __init__(
        self,
        model: str,
        config: TunedLossesConfig,
        *,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.model = model
        self.settings = config
        self.max_length = max_length
        self.trust_remote_code = trust_remote_code

    @abstractmethod
    def plan(self, samples: Sequence[RenderedSample]) -> TunedLossesPlan:
        """Draw what to tune on and cut the batches, without loading the model.

        Raises:
            InputError: for data that is too small or can't be used.
        """

    @abstractmethod
    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: TunedLossesPlan | None = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Roles and losses of every sample, and which samples the reported metrics must leave out.

        `work` keeps what is finished (tuned models, shards of losses), so a killed run goes on where it was when
        called again with the same samples and settings. Several processes share the work; each gets all labels.
        """

    def layout(self, samples: Sequence[RenderedSample], folds: list[int]) -> dict[str, Any]:
        """The part of a plan that says how samples are scored, given each one's model."""
        device = default_device()
        batch_tokens = self.settings.batch_tokens or (2048 if device == "cpu" else 16384)
        # A killed run loses one shard's work at most: less than a minute either way.
        shard_tokens = (4 if device == "cpu" else 64) * batch_tokens
        return {
            "folds": folds,
            "shards": plan_shards(samples, folds, batch_tokens, shard_tokens),
            "device": device,
            "batch_tokens": batch_tokens,
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
        """Losses of every sample under the base model and under its fold's tuned one, adapter or whole model."""
        scores = work / "losses"
        task = progress.add_task("score, base and tuned", total=plan.tokens_to_score)
        missing = [shard for shard in plan.shards if not shard.path(scores).exists()]
        processes.wait()  # until all have looked, or the first to write would spoil the others' count
        mine = missing[processes.number() :: processes.count()]
        left = sum(scored_length(samples[i]) for shard in missing for batch in shard.batches for i in batch.samples)
        progress.update(task, completed=plan.tokens_to_score - left)
        if mine:
            losses = paired_losses(
                self.model,
                tuned,
                dtype=self.settings.dtype,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
            )
            for tokens in score(mine, samples, losses, scores, plan.device):
                left = max(0, left - tokens * processes.count())  # the others are as quick
                progress.update(task, completed=plan.tokens_to_score - left)
        processes.wait()
        progress.update(task, completed=plan.tokens_to_score)
        return MeasuredLosses(plan.shards, samples, scores)


def paired_losses(
    model: str, tuned: Sequence[Path], *, dtype: str, device: str, trust_remote_code: bool = False
) -> LossFunction:
    """What gives losses under a model and under the same model tuned.

    Args:
        model: directory or hub id of the base model.
        tuned: directories of its tuned ones, by fold: adapters of it, or whole models.
        dtype, device: of weights and arithmetic.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for a model that can't be loaded, or an adapter of another.
    """

    def load(name: str) -> torch.nn.Module:
        return load_model(name, dtype=dtype, device=device, trust_remote_code=trust_remote_code)

    if (tuned[0] / "adapter_config.json").exists():
        return _adapter_losses(load(model), tuned)
    return _two_model_losses(load(model), lambda fold: load(str(tuned[fold])))


def conversations(samples: Sequence[RenderedSample]) -> list[str]:
    """The conversation of each sample; one that occurs twice counts as one, or memory would judge its copy."""
    texts: dict[str, str] = {}  # hashes, since the data may be larger than memory
    sources: list[str] = []
    for sample in samples:  # a conversation may be rendered as several samples, one per turn
        sources.append(sample.source)
        texts[sample.source] = digest([texts.get(sample.source), sample.text])
    first_with: dict[str, str] = {}
    first = {source: first_with.setdefault(text, source) for source, text in texts.items()}
    return [first[source] for source in sources]


def fold_by_conversation(groups: Sequence[str], seed: int) -> list[int]:
    """0 or 1 per sample: a random half of the conversations each.

    Raises:
        InputError: for fewer than four conversations.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 4:
        raise InputError(
            f"{len(names)} conversations are too few: a model is tuned on each of two halves, of at least 2; give "
            "more, or turn cross-fit off"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    half = {names[i]: int(rank >= len(names) / 2) for rank, i in enumerate(order)}
    return [half[group] for group in groups]


def _shared_batch(given: int | None, default: int) -> int:
    """Examples per optimizer step, as many for each process; by default the next larger number that can be shared."""
    count = processes.count()
    if given is None:
        return math.ceil(default / count) * count
    if given % count:
        raise InputError(f"batch_size {given} can't be shared by {count} processes; give a multiple of {count}")
    return given


def _adapter_losses(base: torch.nn.Module, adapters: Iterable[Path]) -> LossFunction:
    """One copy of the weights: base losses with the adapter off, tuned losses with the fold's adapter on."""
    first, *others = adapters
    try:
        model = PeftModel.from_pretrained(base, str(first), adapter_name="fold0")
    except (RuntimeError, ValueError) as error:  # what PEFT raises for shapes and for layers that are not there
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
    """Two copies of the weights; batches come fold by fold, so each tuned model is loaded once."""
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
