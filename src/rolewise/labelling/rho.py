"""Rho-1's selection of tokens (arXiv 2404.07965), in the form that arXiv 2412.14780 compares SHAD with.

Rho-1 tunes a reference model on data of high quality and trains on the tokens whose loss the model has most to lose in
comparison with it. Here the reference is the model's own ("self-reference"): tuned on 5 % of the very data, with the
plain loss. A token is kept if its loss fell from high to low (H→L) while the reference was tuned, else it is masked.

The comparison says no more, so these are our choices. Falls are measured once, before the training, and the tokens
with the largest falls are kept, a fixed share (60 %) of the whole data set's: a fall of many nats needs a high loss to
begin with. The reference is tuned and read as SHAD's model is: below 1,000 samples a LoRA adapter at 1e-3, in float32;
with cross-fitting, so that no conversation is judged by a model that was tuned on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.labelling.classify import KeptLabels
from rolewise.labelling.tuned_losses import (
    TunedLossesConfig,
    TunedLossesPlan,
    TuningLabeller,
    conversations,
    fold_by_conversation,
)
from rolewise.labelling.tuning import sample_rows, tune
from rolewise.training import processes


@dataclass(frozen=True, kw_only=True)
class RhoConfig(TunedLossesConfig):
    """Settings of Rho-1; those of the tuning are `TunedLossesConfig`'s.

    Attributes:
        reference_share: share of the samples that a reference model is tuned on (paper: 5 %).
        min_references: samples at least, as far as the data goes; without cross-fitting as far as half of the
            conversations go, since nobody could judge the others.
        keep_share: share of the tokens that are kept.
    """

    reference_share: float = 0.05
    min_references: int = 64
    keep_share: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reference_share", "keep_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it is a share above 0 and at most 1")
        if self.min_references < 1:
            raise InputError(f"min_references is {self.min_references}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RhoPlan(TunedLossesPlan):
    """What Rho-1 is going to do with a data set.

    Attributes:
        references: per model, the numbers of the samples it is tuned on.
    """

    references: list[list[int]]


class Rho(TuningLabeller):
    """Labels the tokens that are kept REASONING, the others BOILERPLATE; arguments as `TuningLabeller`.

    Both losses of every token are stored; the score of a token is what its loss fell by, base − tuned.
    """

    def __init__(
        self,
        model: str,
        config: RhoConfig | None = None,
        *,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ):
        self.config = config or RhoConfig()
        super().__init__(model, self.config, max_length=max_length, trust_remote_code=trust_remote_code)

    def plan(self, samples: Sequence[RenderedSample]) -> RhoPlan:
        """Draw the samples to tune on and cut the batches, without loading the model.

        Raises:
            InputError: for too few conversations.
        """
        config = self.config
        groups = conversations(samples)
        fold_of = fold_by_conversation(groups, config.seed) if config.cross_fit else [0] * len(samples)
        if not config.cross_fit and len(set(groups)) < 2:
            raise InputError("1 conversation is too few: some are tuned on and the others judged; give more")
        wanted = max(config.min_references, round(config.reference_share * len(samples)))
        references = []
        for fold in sorted(set(fold_of)):
            members = [i for i in range(len(samples)) if fold_of[i] == fold]
            references.append(_draw(members, groups, wanted, config.seed + fold, all_of_them=config.cross_fit))

        judged_by = [1 - fold for fold in fold_of]
        if not config.cross_fit:
            seen = {groups[i] for i in references[0]}
            judged_by = [-1 if group in seen else 0 for group in groups]
        lengths = [len(samples[i].input_ids) for fold in references for i in fold]
        return RhoPlan(
            **self.layout(samples, judged_by),
            references=references,
            tuning=config.tuning_of(len(references[0])),
            examples=[len(numbers) for numbers in references],
            kind="samples",
            longest_example=max(lengths),
            tokens_to_tune=config.epochs * sum(lengths),
        )

    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: TunedLossesPlan | None = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Roles and losses of every sample, and which samples the reported metrics must leave out."""
        processes.start()
        plan = plan if isinstance(plan, RhoPlan) else self.plan(samples)
        tuned = [work / f"tuned-{fold}" for fold in range(len(plan.references))]
        for fold, numbers in enumerate(plan.references):
            tune(
                self.model,
                partial(sample_rows, numbers, samples),
                tuned[fold],
                plan.tuning,
                device=plan.device,
                trust_remote_code=self.trust_remote_code,
                progress=progress,
                description=f"tune a reference on {len(numbers)} samples ({fold + 1} of {len(plan.references)})",
            )
        measured = self.measure(samples, plan, tuned, work, progress)
        excluded = [fold < 0 for fold in plan.folds]
        return KeptLabels.of_share(measured, self.config.keep_share), excluded


def _draw(members: Sequence[int], groups: Sequence[str], wanted: int, seed: int, *, all_of_them: bool) -> list[int]:
    """Whole conversations drawn at random until they have `wanted` samples, or half of all (unless `all_of_them`)."""
    of_conversation: dict[str, list[int]] = {}
    for i in members:
        of_conversation.setdefault(groups[i], []).append(i)
    names = list(of_conversation)
    at_most = len(names) if all_of_them else len(names) // 2
    drawn: list[int] = []
    for place in np.random.default_rng(seed).permutation(len(names))[:at_most]:
        if len(drawn) < wanted:
            drawn += of_conversation[names[place]]
    return sorted(drawn)
