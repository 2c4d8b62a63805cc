"""From roles of characters to roles of tokens."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def project(
    spans: Sequence[tuple[int, int, int]],
    char_start_T: npt.NDArray[np.int32],
    char_end_T: npt.NDArray[np.int32],
    default: int = 0,
) -> npt.NDArray[np.uint8]:
    """Return the role of each token: that of the one span that holds all of its characters, else `default`.

    A token across two spans takes `default` even if both have the same role: merge spans that touch. A token
    without characters (`char_start == char_end`) takes `default`. The pieces of a multi-byte character, which a
    byte-level tokenizer gives the same offsets, all take that character's role.

    Args:
        spans: (start, end, role), as `RoleSpan` or with codes of another kind, e.g. regions; in order, not overlapping,
            over the same text as the offsets.
        char_start_T: int32 [T], each token's first character.
        char_end_T: int32 [T], one past each token's last character.
        default: the role of every other token.

    Returns:
        uint8 [T].

    Raises:
        ValueError: for spans that overlap, are out of order or end before they start, and offsets of unequal shape.
    """
    if char_start_T.shape != char_end_T.shape:
        raise ValueError(f"{char_start_T.shape} token starts but {char_end_T.shape} token ends")
    roles_T = np.full(char_start_T.shape, default, dtype=np.uint8)
    if not spans:
        return roles_T
    table = np.array(spans, dtype=np.int64).reshape(-1, 3)
    start_S, end_S, role_S = table[:, 0], table[:, 1], table[:, 2]
    bounds = table[:, :2].ravel()
    disorder = np.flatnonzero(bounds[1:] < bounds[:-1])
    if disorder.size:
        number = (int(disorder[0]) + 1) // 2
        raise ValueError(f"role spans overlap or are out of order at span {number}: {spans[number]}")
    # The only span that can hold a token is the last one that starts at or before it.
    holder_T = np.searchsorted(start_S, char_start_T, side="right") - 1
    inside_T = (holder_T >= 0) & (char_end_T <= end_S[holder_T]) & (char_start_T < char_end_T)
    roles_T[inside_T] = role_S[holder_T[inside_T]]
    return roles_T
