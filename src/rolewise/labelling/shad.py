"""SHAD, the shuffle-aware discriminator (arXiv 2412.14780, section 3.1).

Boilerplate stays predictable when outputs are shuffled among inputs, reasoning does not. SHAD therefore tunes the model
a little on shuffled pairs and compares each token's loss before and after. If the loss fell, the token is boilerplate;
otherwise it is reasoning.

A model can't judge an output that it was tuned on, since memory lowers the loss. The data is therefore split into two
folds by conversation, each judged by the model that was tuned on shuffled pairs of the other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.data.shuffle import OutputRef, ShuffledPair, pair_ids, shuffle_pairs
from rolewise.labelling.classify import LossLabels
from rolewise.labelling.settings.shad import SHADConfig
from rolewise.labelling.tuned_losses import (
    TunedLossesPlan,
    TuningLabeller,
    conversations,
    fold_by_conversation,
)
from rolewise.labelling.tuning import pair_rows, tune
from rolewise.training import processes


@dataclass(frozen=True, kw_only=True)
class SHADPlan(TunedLossesPlan):
    """SHAD's plan for a data set.

    Attributes:
        pairs: per model, the shuffled pairs to tune it on.
        tuned_on: outputs that occur in the tuning data of any model.
    """

    pairs: list[list[ShuffledPair]]
    tuned_on: frozenset[OutputRef]


class SHAD(TuningLabeller):
    """Labels tokens of rendered samples as reasoning or boilerplate; arguments as for `TuningLabeller`."""

    def __init__(
        self,
        model: str,
        config: SHADConfig | None = None,
        *,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ):
        self.config = config or SHADConfig()
        super().__init__(model, self.config, max_length=max_length, trust_remote_code=trust_remote_code)

    def plan(self, samples: Sequence[RenderedSample]) -> SHADPlan:
        """Draw the pairs and form the batches, without loading the model.

        Raises:
            InputError: if there are too few conversations to shuffle.
        """
        config = self.config
        groups = conversations(samples)
        fold_of = fold_by_conversation(groups, config.seed) if config.cross_fit else [0] * len(samples)
        turns_of = [len(sample.turns) for sample in samples]
        wanted = max(config.min_pairs, round(config.shuffle_share * sum(turns_of)))
        pairs = []
        for fold in sorted(set(fold_of)):
            outputs = [OutputRef(i, t) for i, turns in enumerate(turns_of) if fold_of[i] == fold for t in range(turns)]
            pairs.append(_draw_pairs(outputs, groups, wanted, config.seed + fold))
        tuned_on = frozenset(pair.output for fold_pairs in pairs for pair in fold_pairs)

        judged_by = [1 - fold for fold in fold_of] if config.cross_fit else list(fold_of)
        if not config.cross_fit:
            fully_used = [all(OutputRef(i, t) in tuned_on for t in range(turns)) for i, turns in enumerate(turns_of)]
            judged_by = [-1 if used else 0 for used in fully_used]
        pair_lengths = [_pair_length(pair, samples, self.max_length) for fold in pairs for pair in fold]
        return SHADPlan(
            **self.layout(samples, judged_by),
            pairs=pairs,
            tuning=config.tuning_of(len(pairs[0])),
            examples=[len(fold_pairs) for fold_pairs in pairs],
            kind="shuffled pairs",
            longest_example=max(pair_lengths),
            tokens_to_tune=config.epochs * sum(pair_lengths),
            tuned_on=tuned_on,
        )

    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: TunedLossesPlan | None = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Return roles and losses of every sample, and a flag per sample to leave it out of the reported metrics.

        `work` keeps finished parts (tuned models, shards of losses); call again with the same samples and settings to
        resume a killed run. Several processes share the work; each gets all labels.
        """
        processes.start()
        plan = plan if isinstance(plan, SHADPlan) else self.plan(samples)
        tuned = [work / f"tuned-{fold}" for fold in range(len(plan.pairs))]
        for fold, pairs in enumerate(plan.pairs):
            tune(
                self.model,
                partial(pair_rows, pairs, samples, self.max_length),
                tuned[fold],
                plan.tuning,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
                progress=progress,
                description=f"tune on {len(pairs)} shuffled pairs ({fold + 1} of {len(plan.pairs)})",
            )
        measured = self.measure(samples, plan, tuned, work, progress)
        if not self.config.cross_fit:
            for ref in plan.tuned_on:  # the model has memorized them
                turn = samples[ref.sample].turns[ref.turn]
                measured.forget(ref.sample, turn.start, turn.end)
        excluded = [
            not self.config.cross_fit and any(OutputRef(i, t) in plan.tuned_on for t in range(len(sample.turns)))
            for i, sample in enumerate(samples)
        ]
        return LossLabels(measured, self.config.threshold, self.config.format_quantile), excluded


def _draw_pairs(outputs: list[OutputRef], groups: Sequence[str], wanted: int, seed: int) -> list[ShuffledPair]:
    """Return shuffled pairs of outputs drawn at random, at most half of them from one conversation."""
    counts: Counter[str] = Counter()
    chosen: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(outputs)).tolist():
        group = groups[outputs[i].sample]
        if len(chosen) < wanted and counts[group] < wanted // 2:
            counts[group] += 1
            chosen.append(i)
    largest = max(counts, key=counts.__getitem__)
    surplus = 2 * counts[largest] - len(chosen)
    if len(counts) > 1 and surplus > 0:  # more turns than all others together: drop the surplus, which has no partners
        given_up = [i for i in chosen if groups[outputs[i].sample] == largest][-surplus:]
        chosen = [i for i in chosen if i not in given_up]
    drawn = [outputs[i] for i in sorted(chosen)]
    return shuffle_pairs(drawn, [groups[ref.sample] for ref in drawn], seed)


def _pair_length(pair: ShuffledPair, samples: Sequence[RenderedSample], max_length: int | None) -> int:
    return len(pair_ids(pair, samples, max_length)[0])
