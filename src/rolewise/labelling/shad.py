"""SHAD, the shuffle-aware discriminator (arXiv 2412.14780, section 3.1).

Boilerplate stays predictable when outputs are shuffled among inputs, reasoning does not. So: tune the model a little
on shuffled pairs, and compare each token's loss before and after. Where the loss fell, boilerplate; else reasoning.

An output that the model was tuned on can't be judged by it, its loss fell by memory. The data is therefore cut into
two folds by conversation, each judged by the model that was tuned on shuffled pairs of the other.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.data.shuffle import OutputRef, ShuffledPair, pair_ids, shuffle_pairs
from rolewise.labelling.classify import LossLabels, check_classification
from rolewise.labelling.scoring import (
    LossFunction,
    MeasuredLosses,
    Shard,
    batch_losses,
    plan_shards,
    score,
    scored_length,
)
from rolewise.labelling.tuning import TuningConfig, tune
from rolewise.training import processes
from rolewise.training.models import default_device, load_model

MANY_PAIRS = 1000
"""From so many pairs on, tuning takes the paper's fine-tuning batch and (full tuning) its learning rate."""


@dataclass(frozen=True, kw_only=True)
class SHADConfig:
    """Settings of SHAD. None stands for a default that depends on the size of the data or on the device.

    Attributes:
        shuffle_share: share of the assistant turns that are shuffled (paper: 1 %).
        min_pairs: shuffled pairs at least, as far as the data goes.
        cross_fit: judge each half of the data with the model tuned on the other. Without it one model is tuned, as
            in the paper, and outputs that it was tuned on are left PLAIN.
        tuning: `lora` or `full`.
        learning_rate: default below 1,000 pairs 1e-3 for LoRA and 1e-4 for full tuning (a few dozen steps at the usual
            2e-4 hardly move LoRA's matrices), else 2e-4 and 1e-5.
        rank: of the LoRA matrices.
        batch_size: pairs per optimizer step; default 2 below 1,000 pairs, else 32.
        micro_batch_size: pairs that go through the model together while tuning, at most.
        epochs: passes over the shuffled pairs.
        threshold: LD above it is reasoning, in nats.
        format_quantile: boilerplate whose base loss lies below this quantile of boilerplate's is FORMAT; None for no
            split.
        dtype: of weights and arithmetic in tuning and scoring. With bfloat16 the rounding of a lightly tuned model
            flips the sign of LD on many tokens.
        batch_tokens: padded tokens that go through the model together; default 2,048 on a CPU, else 16,384.
        seed: of the shuffling and tuning.
    """

    shuffle_share: float = 0.01
    min_pairs: int = 64
    cross_fit: bool = True
    tuning: str = "lora"
    learning_rate: float | None = None
    rank: int = 16
    batch_size: int | None = None
    micro_batch_size: int = 4
    epochs: int = 1
    threshold: float = 0.0
    format_quantile: float | None = 0.5
    dtype: str = "float32"
    batch_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.shuffle_share <= 1:
            raise InputError(f"shuffle_share is {self.shuffle_share}; it is a share above 0 and at most 1")
        if self.min_pairs < 2:
            raise InputError(f"min_pairs is {self.min_pairs}; shuffling needs at least 2")
        if self.tuning not in ("lora", "full"):
            raise InputError(f"tuning {self.tuning!r} is not known; choose lora or full")
        for name in ("rank", "micro_batch_size", "epochs", "batch_size", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if self.learning_rate is not None and not (0 < self.learning_rate < math.inf):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be a finite number above 0")
        check_classification(self.threshold, self.format_quantile)


@dataclass(frozen=True)
class SHADPlan:
    """What SHAD is going to do with a data set; the same for the same data and settings.

    Attributes:
        folds: per sample, the number of the model that judges it; −1 where none may.
        pairs: per model, the shuffled pairs it is tuned on.
        shards: the batches to score.
        tuning: settings of the tuning.
        device: where it runs.
        batch_tokens: padded tokens scored at once, at most (a longer sample goes alone).
        longest_pair: tokens of the longest shuffled pair.
        tokens_to_tune, tokens_to_score: tokens through the model, each of the latter once plain and once tuned.
        tuned_on: outputs that some model was tuned on.
    """

    folds: list[int]
    pairs: list[list[ShuffledPair]]
    shards: list[Shard]
    tuning: TuningConfig
    device: str
    batch_tokens: int
    longest_pair: int
    tokens_to_tune: int
    tokens_to_score: int
    tuned_on: frozenset[OutputRef]


class SHAD:
    """Labels rendered samples as reasoning or boilerplate.

    Args:
        model: directory or hub id of the base model.
        config: settings.
        max_length: of a shuffled pair, in tokens.
        trust_remote_code: passed on to transformers.
    """

    def __init__(
        self,
        model: str,
        config: SHADConfig | None = None,
        *,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ):
        self.model = model
        self.config = config or SHADConfig()
        self.max_length = max_length
        self.trust_remote_code = trust_remote_code

    def plan(self, samples: Sequence[RenderedSample]) -> SHADPlan:
        """Draw the pairs and cut the batches, without loading the model.

        Raises:
            InputError: if there are too few conversations to shuffle.
        """
        config = self.config
        groups = _conversations(samples)
        fold_of = _fold_by_conversation(groups, config.seed) if config.cross_fit else [0] * len(samples)
        turns_of = [len(sample.turns) for sample in samples]
        wanted = max(config.min_pairs, round(config.shuffle_share * sum(turns_of)))
        pairs = []
        for fold in sorted(set(fold_of)):
            outputs = [OutputRef(i, t) for i, turns in enumerate(turns_of) if fold_of[i] == fold for t in range(turns)]
            pairs.append(_draw_pairs(outputs, groups, wanted, config.seed + fold))
        tuned_on = frozenset(pair.output for fold_pairs in pairs for pair in fold_pairs)

        device = default_device()
        judged_by = [1 - fold for fold in fold_of] if config.cross_fit else list(fold_of)
        if not config.cross_fit:
            fully_used = [all(OutputRef(i, t) in tuned_on for t in range(turns)) for i, turns in enumerate(turns_of)]
            judged_by = [-1 if used else 0 for used in fully_used]
        batch_tokens = config.batch_tokens or (2048 if device == "cpu" else 16384)
        # A killed run loses one shard's work at most: less than a minute either way.
        shard_tokens = (4 if device == "cpu" else 64) * batch_tokens
        shards = plan_shards(samples, judged_by, batch_tokens, shard_tokens)
        pair_lengths = [_pair_length(pair, samples, self.max_length) for fold in pairs for pair in fold]
        return SHADPlan(
            folds=judged_by,
            pairs=pairs,
            shards=shards,
            tuning=self._tuning(len(pairs[0])),
            device=device,
            batch_tokens=batch_tokens,
            longest_pair=max(pair_lengths),
            tokens_to_tune=config.epochs * sum(pair_lengths),
            tokens_to_score=sum(scored_length(s) for s, fold in zip(samples, judged_by, strict=True) if fold >= 0),
            tuned_on=tuned_on,
        )

    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: SHADPlan | None = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Roles and losses of every sample, and which samples the reported metrics must leave out.

        `work` keeps what is finished (tuned models, shards of losses), so a killed run goes on where it was when
        called again with the same samples and settings. Several processes share the work; each gets all labels.
        """
        processes.start()
        plan = plan or self.plan(samples)
        tuned = [work / f"tuned-{fold}" for fold in range(len(plan.pairs))]
        for fold, pairs in enumerate(plan.pairs):
            tune(
                self.model,
                pairs,
                samples,
                tuned[fold],
                plan.tuning,
                max_length=self.max_length,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
                progress=progress,
                description=f"tune on {len(pairs)} shuffled pairs ({fold + 1} of {len(plan.pairs)})",
            )
        scores = work / "losses"
        task = progress.add_task("score, base and tuned", total=plan.tokens_to_score)
        missing = [shard for shard in plan.shards if not shard.path(scores).exists()]
        processes.wait()  # until all have looked, or the first to write would spoil the others' count
        mine = missing[processes.number() :: processes.count()]
        left = sum(scored_length(samples[i]) for shard in missing for batch in shard.batches for i in batch.samples)
        progress.update(task, completed=plan.tokens_to_score - left)
        if mine:
            losses = self._loss_function(tuned, plan.device)
            for tokens in score(mine, samples, losses, scores, plan.device):
                left = max(0, left - tokens * processes.count())  # the others are as quick
                progress.update(task, completed=plan.tokens_to_score - left)
        processes.wait()
        progress.update(task, completed=plan.tokens_to_score)
        measured = MeasuredLosses(plan.shards, samples, scores)
        if not self.config.cross_fit:
            for ref in plan.tuned_on:  # the model knows them by heart
                turn = samples[ref.sample].turns[ref.turn]
                measured.forget(ref.sample, turn.start, turn.end)
        excluded = [
            not self.config.cross_fit and any(OutputRef(i, t) in plan.tuned_on for t in range(len(sample.turns)))
            for i, sample in enumerate(samples)
        ]
        return LossLabels(measured, self.config.threshold, self.config.format_quantile), excluded

    def _tuning(self, pairs: int) -> TuningConfig:
        config = self.config
        few = pairs < MANY_PAIRS
        rates = {"lora": 1e-3 if few else 2e-4, "full": 1e-4 if few else 1e-5}
        return TuningConfig(
            method=config.tuning,
            learning_rate=config.learning_rate or rates[config.tuning],
            rank=config.rank,
            batch_size=_shared_batch(config.batch_size, 2 if few else 32),
            micro_batch_size=config.micro_batch_size,
            epochs=config.epochs,
            dtype=config.dtype,
            seed=config.seed,
        )

    def _loss_function(self, tuned: list[Path], device: str) -> LossFunction:
        base = load_model(self.model, dtype=self.config.dtype, device=device, trust_remote_code=self.trust_remote_code)
        if self.config.tuning == "lora":
            return _adapter_losses(base, tuned)
        return _two_model_losses(
            base,
            lambda fold: load_model(
                str(tuned[fold]), dtype=self.config.dtype, device=device, trust_remote_code=self.trust_remote_code
            ),
        )


def _shared_batch(given: int | None, default: int) -> int:
    """Pairs per optimizer step, as many for each process; by default the next larger number that can be shared."""
    count = processes.count()
    if given is None:
        return math.ceil(default / count) * count
    if given % count:
        raise InputError(f"batch_size {given} can't be shared by {count} processes; give a multiple of {count}")
    return given


def _adapter_losses(base: torch.nn.Module, adapters: list[Path]) -> LossFunction:
    """One copy of the weights: base losses with the adapter off, tuned losses with the fold's adapter on."""
    model = PeftModel.from_pretrained(base, str(adapters[0]), adapter_name="fold0")
    for fold, adapter in enumerate(adapters[1:], start=1):
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


def _conversations(samples: Sequence[RenderedSample]) -> list[str]:
    """The conversation of each sample; one that occurs twice counts as one, or memory would judge its copy."""
    texts: dict[str, str] = {}  # hashes, since the data may be larger than memory
    sources: list[str] = []
    for sample in samples:  # a conversation may be rendered as several samples, one per turn
        sources.append(sample.source)
        texts[sample.source] = digest([texts.get(sample.source), sample.text])
    first_with: dict[str, str] = {}
    first = {source: first_with.setdefault(text, source) for source, text in texts.items()}
    return [first[source] for source in sources]


def _fold_by_conversation(groups: Sequence[str], seed: int) -> list[int]:
    """0 or 1 per sample: a random half of the conversations each."""
    names = list(dict.fromkeys(groups))
    if len(names) < 4:
        raise InputError(
            f"{len(names)} conversations are too few: two halves of at least 2 each must be shuffled; give more, or "
            "turn cross-fit off"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    half = {names[i]: int(rank >= len(names) / 2) for rank, i in enumerate(order)}
    return [half[group] for group in groups]


def _draw_pairs(outputs: list[OutputRef], groups: Sequence[str], wanted: int, seed: int) -> list[ShuffledPair]:
    """Shuffled pairs of outputs drawn at random, no more than half of them of one conversation."""
    counts: Counter[str] = Counter()
    chosen: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(outputs)).tolist():
        group = groups[outputs[i].sample]
        if len(chosen) < wanted and counts[group] < wanted // 2:
            counts[group] += 1
            chosen.append(i)
    largest = max(counts, key=counts.__getitem__)
    surplus = 2 * counts[largest] - len(chosen)
    if len(counts) > 1 and surplus > 0:  # more turns than all others together: it gives up what none could take
        given_up = [i for i in chosen if groups[outputs[i].sample] == largest][-surplus:]
        chosen = [i for i in chosen if i not in given_up]
    drawn = [outputs[i] for i in sorted(chosen)]
    return shuffle_pairs(drawn, [groups[ref.sample] for ref in drawn], seed)


def _pair_length(pair: ShuffledPair, samples: Sequence[RenderedSample], max_length: int | None) -> int:
    return len(pair_ids(pair, samples, max_length)[0])
