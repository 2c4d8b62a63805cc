"""Rule-based labellers, and the interface of a labeller of your own."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from rolewise.core.behaviour import RFTT, BehaviourSet
from rolewise.core.components import hints_of
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.labelling.registry import LABELLERS
from rolewise.roles.functional import functional_roles
from rolewise.roles.regex import label_format
from rolewise.training.functional_tokens import add_to_tokenizer, functional_token_ids
from rolewise.training.models import load_tokenizer


@dataclass(frozen=True)
class LabellingContext:
    """Further inputs of a labeller, beside the samples.

    Attributes:
        model: directory or hub id whose tokenizer rendered the samples; `training.models.load_model` loads it.
        trust_remote_code: pass it on when loading the model.
        work: a directory for files that should survive a kill; a rerun of the command finds it again.
        progress: display for a progress bar (`add_task`, `advance`).
        behaviours: the behaviours that the user named; the samples were rendered with their functional tokens.
    """

    model: str
    trust_remote_code: bool
    work: Path
    progress: Progress
    behaviours: BehaviourSet = RFTT


Labeller = Callable[[Sequence[RenderedSample], LabellingContext], Iterable[TokenLabels]]
"""(samples, context) → labels of each sample, in order.

`TokenLabels.without_losses(roles_T)` takes only roles, uint8 of shape (T,): a `Role` where `sample.loss_mask` is true,
`Role.CONTEXT` elsewhere. The samples may exceed memory, so iterate over them instead of making a list.
"""


def by_regex(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterable[TokenLabels]:
    """Label format tokens, as found by rules, and the rest."""
    for sample in samples:
        spans = [(int(sample.char_start[t.start]), int(sample.char_end[t.end - 1])) for t in sample.turns]
        roles_T = label_format(sample.text, sample.char_start, sample.char_end, spans)
        yield TokenLabels.without_losses(np.where(sample.loss_mask, roles_T, Role.CONTEXT).astype(np.uint8))


def by_functional_tokens(samples: Sequence[RenderedSample], context: LabellingContext) -> Iterable[TokenLabels]:
    """Label each token by the behaviour of its step; see `roles.functional`.

    Raises:
        InputError: if the model's tokenizer can't hold these tokens.
    """
    tokenizer = load_tokenizer(context.model, trust_remote_code=context.trust_remote_code)
    add_to_tokenizer(tokenizer, context.behaviours)
    tokens = functional_token_ids(tokenizer, context.behaviours)
    for sample in samples:
        yield TokenLabels.without_losses(functional_roles(sample.input_ids, sample.loss_mask, tokens))


def register_labeller(name: str, labeller: Callable[..., Iterable[TokenLabels]]) -> None:
    """Register a labeller of your own under a name that `rolewise label --method` then accepts.

    Args:
        name: a second registration replaces the first; the names of Rolewise's own labellers are reserved.
        labeller: see `Labeller`. Further parameters are options: `--method-arg NAME=VALUE`.

    Raises:
        ValueError: for the name of one of Rolewise's own labellers.
    """

    def make(**arguments: Any) -> Labeller:
        return partial(labeller, **arguments) if arguments else labeller

    signature = inspect.signature(labeller)
    further = [
        parameter.replace(kind=parameter.KEYWORD_ONLY)
        for parameter in list(signature.parameters.values())[2:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    make.__signature__ = signature.replace(parameters=further)  # type: ignore[attr-defined]
    make.__annotations__ = hints_of(labeller)
    LABELLERS.register(name, make)


def checked(labels: Iterable[TokenLabels], samples: Sequence[RenderedSample], name: str) -> Iterable[TokenLabels]:
    """Yield the labels as they arrive, after checking that they fit their samples.

    Raises:
        InputError: naming the sample, for roles of the wrong length or type, or a role on a token without loss.
    """
    given = iter(labels)
    for sample in samples:
        label = _next(given, sample.source, name)
        if label is None:
            raise InputError(f"{sample.source}: the labeller {name} gave no labels from this sample on")
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
