"""Labellers by name: the regex, functional tokens, and what plugins register."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from rolewise.core.behaviour import RFTT, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.roles.functional import functional_roles
from rolewise.roles.regex import label_format
from rolewise.training.functional_tokens import add_to_tokenizer, functional_token_ids
from rolewise.training.models import load_tokenizer

PLANNED = ("shad", "rho", "reward")
"""The names of the labellers that plan their work first; see `labelling.tuned_losses`."""


@dataclass(frozen=True)
class LabellingContext:
    """What a labeller may need beside the samples.

    Attributes:
        model: directory or hub id whose tokenizer rendered the samples; `training.models.load_model` loads it.
        trust_remote_code: to be passed on with it.
        work: a directory for what should outlive a kill; the same command finds it again.
        progress: where to show a bar (`add_task`, `advance`).
        behaviours: those that the user named, whose functional tokens the samples were rendered with.
    """

    model: str
    trust_remote_code: bool
    work: Path
    progress: Progress
    behaviours: BehaviourSet = RFTT


Labeller = Callable[[Sequence[RenderedSample], LabellingContext], Iterable[TokenLabels]]
"""(samples, context) → labels of each sample, in order.

`TokenLabels.without_losses(roles_T)` takes roles alone, uint8 of shape (T,): a `Role` where `sample.loss_mask` is true,
`Role.CONTEXT` elsewhere. Samples may be more than memory holds, so go through them rather than list them.
"""


def by_regex(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterable[TokenLabels]:
    """Format tokens, as rules know them, against the rest."""
    for sample in samples:
        spans = [(int(sample.char_start[t.start]), int(sample.char_end[t.end - 1])) for t in sample.turns]
        roles_T = label_format(sample.text, sample.char_start, sample.char_end, spans)
        yield TokenLabels.without_losses(np.where(sample.loss_mask, roles_T, Role.CONTEXT).astype(np.uint8))


def by_functional_tokens(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterable[TokenLabels]:
    """By the behaviour of the step that a token stands in, see `roles.functional`.

    Raises:
        InputError: if the model's tokenizer can't have these tokens.
    """
    tokenizer = load_tokenizer(context.model, trust_remote_code=context.trust_remote_code)
    add_to_tokenizer(tokenizer, context.behaviours)
    tokens = functional_token_ids(tokenizer, context.behaviours)
    for sample in samples:
        yield TokenLabels.without_losses(functional_roles(sample.input_ids, sample.loss_mask, tokens))


_labellers: dict[str, Labeller] = {"regex": by_regex, "functional": by_functional_tokens}


def register_labeller(name: str, labeller: Labeller) -> None:
    """Make a labeller of your own known by a name, which `rolewise label --method` then takes.

    Args:
        name: a second registration replaces the first; those of `PLANNED` are taken.
        labeller: see `Labeller`.

    Raises:
        ValueError: for a name of `PLANNED`.
    """
    if name in PLANNED:
        raise ValueError(f"the name {name!r} is taken; choose another")
    _labellers[name] = labeller


def find_labeller(name: str) -> Labeller:
    """The labeller of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in _labellers:
        known = ", ".join([*PLANNED, *_labellers])
        raise InputError(f"method {name!r} is not known; choose one of {known}, or name the --plugin that adds it")
    return _labellers[name]


def checked(labels: Iterable[TokenLabels], samples: Sequence[RenderedSample], name: str) -> Iterable[TokenLabels]:
    """The labels as they come, if they fit their samples.

    Raises:
        InputError: naming the sample, for roles of another length or kind, or a role where there is no loss.
    """
    given = iter(labels)
    for sample in samples:
        label = _next(given, sample.source, name)
        if label is None:
            raise InputError(f"{sample.source}: the labeller {name} gave no labels for this sample and those after it")
        roles_T = label.roles_T
        if not (isinstance(roles_T, np.ndarray) and np.issubdtype(roles_T.dtype, np.integer)):
            raise InputError(f"{sample.source}: the labeller {name} must give roles as a NumPy array of integers")
        in_range = roles_T.min(initial=0) >= 0 and roles_T.max(initial=0) < len(Role)
        if roles_T.shape != sample.loss_mask.shape or not in_range:
            raise InputError(f"{sample.source}: the labeller {name} gave roles that are not one `Role` per token")
        if ((roles_T == Role.CONTEXT) == sample.loss_mask).any():
            raise InputError(
                f"{sample.source}: the labeller {name} must give a role to every loss token, CONTEXT to every other"
            )
        yield label
    if _next(given, "the last sample", name) is not None:
        raise InputError(f"the labeller {name} gave labels for more samples than there are")


def _next(labels: Iterator[TokenLabels], where: str, name: str) -> TokenLabels | None:
    try:
        return next(labels, None)
    except InputError:
        raise
    except Exception as error:  # a labeller is a user's program and can fail in any way
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: the labeller {name} failed: {type(error).__name__}: {reason}") from error
