"""Roles without a labeller: functional tokens name the function of the text between them.

No data set has a column of behaviours: the ids themselves hold them, and `label_behaviours` derives them, for sampled
tokens as for rendered ones.

Shapes: T tokens of one sample.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rolewise.core.role import Role

RESTATING = ("clarify", "output")
"""Behaviours of RFTT that restate the question or earlier steps: boilerplate."""

FunctionalIds = Mapping[str, tuple[int, int]]
"""Names of behaviours, in the order of their set, with the ids of their opening and closing tokens."""


class Behaviours(NamedTuple):
    """Behaviours of T tokens, derived from functional tokens.

    Attributes:
        steps_T: uint8, the behaviour of a token's step (functional tokens belong to their step), as its number in the
            set from 1; 0 outside of steps.
        tokens_T: bool, True for functional tokens themselves.
    """

    steps_T: npt.NDArray[np.uint8]
    tokens_T: npt.NDArray[np.bool_]


def label_behaviours(ids_T: Sequence[int] | npt.NDArray[np.int32], tokens: FunctionalIds) -> Behaviours:
    """Return the behaviour of every token of a response.

    A step extends from its opening token to the next functional one: its closing token belongs to it; any other begins
    another step or, if it closes a step that was never opened, is a step by itself. A step without an end (in a cut
    sample) extends to the end.

    Args:
        ids_T: token ids of one turn.
        tokens: result of `training.functional_tokens.functional_token_ids`; at most 255 behaviours.
    """
    opened = {opening: number for number, (opening, _) in enumerate(tokens.values(), start=1)}
    closed = {closing: number for number, (_, closing) in enumerate(tokens.values(), start=1)}
    steps_T = np.zeros(len(ids_T), dtype=np.uint8)
    tokens_T = np.zeros(len(ids_T), dtype=np.bool_)
    current = 0
    for place, token_id in enumerate(int(value) for value in ids_T):
        tokens_T[place] = token_id in opened or token_id in closed
        if token_id in opened:
            current = opened[token_id]
        steps_T[place] = closed.get(token_id, current)
        if token_id in closed:
            current = 0
    return Behaviours(steps_T, tokens_T)


def functional_roles(
    ids_T: Sequence[int] | npt.NDArray[np.int32],
    mask_T: npt.NDArray[np.bool_],
    tokens: FunctionalIds,
    *,
    restating: Collection[str] = RESTATING,
) -> npt.NDArray[np.uint8]:
    """Return roles by behaviour, so that every weighting that reads roles can train on steps.

    Functional tokens are FORMAT, and so are the tokens between and after the steps of a turn: line breaks, the
    end-of-turn token. The text of a step is REASONING; that of a restating step is BOILERPLATE. A turn without any
    functional token is PLAIN.

    Args:
        ids_T: token ids of a whole sample.
        mask_T: bool, True for tokens that carry loss; each run of these is a separate turn.
        tokens: as for `label_behaviours`.
        restating: names of behaviours whose text is BOILERPLATE.

    Returns:
        uint8 [T] of `Role`; CONTEXT if the mask is False.
    """
    role_of = np.array([Role.FORMAT, *(Role.BOILERPLATE if name in restating else Role.REASONING for name in tokens)])
    roles_T = np.full(len(ids_T), Role.CONTEXT, dtype=np.uint8)
    edges = np.flatnonzero(np.diff(mask_T.astype(np.int8), prepend=0, append=0))
    for start, end in edges.reshape(-1, 2):
        found = label_behaviours(ids_T[start:end], tokens)
        roles_T[start:end] = np.where(found.tokens_T, Role.FORMAT, role_of[found.steps_T])
        if not found.tokens_T.any():
            roles_T[start:end] = Role.PLAIN
    return roles_T
