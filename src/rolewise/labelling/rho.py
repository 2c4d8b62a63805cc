"""Rho-1's selection of tokens (arXiv 2404.07965), in the form that arXiv 2412.14780 compares with SHAD.

Rho-1 tunes a reference model on data of high quality and trains on the tokens with the largest excess loss of the model
over that reference. Here the reference is the model itself ("self-reference"), tuned on 5 % of the same data with the
plain loss. A token is kept if its loss fell from high to low (H→L) while the reference was tuned; otherwise it is
masked.

The comparison gives no further detail, so the following are our choices. Falls are measured once, before training, and
the tokens with the largest falls are kept, a fixed share (60 %) of the tokens of the whole data set: a fall of many
nats requires a high initial loss. The reference is tuned and evaluated like SHAD's model: below 1,000 samples a LoRA
adapter at 1e-3, in float32; with cross-fitting, so that no conversation is judged by a model that was tuned on it.
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
from rolewise.labelling.settings.rho import RhoConfig
from rolewise.labelling.tuned_losses import (
    TunedLossesPlan,
    TuningLabeller,
    conversations,
    fold_by_conversation,
)
from rolewise.labelling.tuning import sample_rows, tune
from rolewise.training import processes


@dataclass(frozen=True, kw_only=True)
class RhoPlan(TunedLossesPlan):
    """Rho-1's plan for a data set.

    Attributes:
        references: per model, the numbers of the samples to tune it on.
    """

    references: list[list[int]]


class Rho(TuningLabeller):
    """Labels kept tokens REASONING, the others BOILERPLATE; arguments as for `TuningLabeller`.

    Both losses of every token are stored; the score of a token is the fall of its loss, base − tuned.
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
        """Draw the samples to tune on and form the batches, without loading the model.

        Raises:
            InputError: for too few conversations.
        """
        config = self.config
        groups = conversations(samples)
        fold_of = fold_by_conversation(groups, config.seed) if config.cross_fit else [0] * len(samples)
        if not config.cross_fit and len(set(groups)) < 2:
            raise InputError("1 conversation is too few: some are used for tuning and the others are judged; give more")
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
        """Return roles and losses of every sample, and a flag per sample to leave it out of the reported metrics."""
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
    """Draw whole conversations at random until they have `wanted` samples, or half of all (unless `all_of_them`)."""
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
