"""Labels of one tokenizer's tokens, transferred to another's through the characters that both render.

Shape suffixes: T tokens of a sample, C characters of a text.

The chat templates differ, and so do the texts. Each assistant turn of the new rendering is aligned with the same turn
of the old one: their common start and end, then lines, then words and signs. That aligns the content if both templates
show it, trimmed or not, and the parts of calls that both templates write, such as names and arguments. A character that
only the new template writes has no role, since nothing is known about it.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.labelled import LabelledSample, TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.data.turns import TurnText

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
PIECES_COMPARED = 1000
"""Comparison takes time quadratic in the pieces. Texts that differ in more lines, or words, are not aligned."""

_REASONING_WINS = (Role.REASONING, Role.BOILERPLATE, Role.PLAIN)
"""Ties go to the first. Predicting a token means working out all of it, so half of it is enough to be reasoning."""


class Transferred(NamedTuple):
    """Labels for one new sample; `mask_T` (bool) marks its loss tokens: only in turns that carried loss before."""

    labels: TokenLabels
    mask_T: NDArray[np.bool_]


def transfer(
    old: LabelledSample, old_turns: Sequence[TurnText], new: RenderedSample, new_turns: Sequence[TurnText]
) -> Transferred:
    """Label a sample's new rendering.

    A token takes the role of most of its characters; the end-of-turn token takes the role of the old one. Reasoning,
    boilerplate and plain are counted first, ties go to the first in that order; then, for boilerplate, its kinds, ties
    go to the first of BOILERPLATE, FORMAT, TEMPLATE. Characters without a role do not count; a token with no others is
    PLAIN. Losses are kept only if an old token has exactly the same characters, and are NaN otherwise.

    A turn that did not carry loss carries none now. If the old sample was cut within a turn, the text after the last
    known character carries none.

    Args:
        old: the labelled sample.
        old_turns: its turns that carry loss, in its text.
        new: the other tokenizer's rendering of the same conversation.
        new_turns: its turns, numbered alike, in its text.
    """
    source_C = np.full(len(new.text), -1, dtype=np.int64)
    mask_T = np.zeros_like(new.loss_mask)
    by_number = {turn.number: turn for turn in old_turns}
    old_role_C = _character_roles(old)
    closing_role: list[tuple[NDArray[np.bool_], int]] = []
    for turn in new_turns:
        before = by_number.get(turn.number)
        if before is None:
            continue
        for block in _turn_blocks(old.text, before, new.text, turn):
            source_C[block.new : block.new + block.size] = np.arange(block.old, block.old + block.size)
        in_turn_T = new.loss_mask & (new.char_start >= turn.start) & (new.char_start < turn.end)
        if before.end > len(old.text):
            known = np.flatnonzero(source_C[turn.start : turn.end] >= 0)
            in_turn_T &= new.char_start <= (turn.start + known[-1] if len(known) else -1)
        mask_T |= in_turn_T
        role = old_role_C[before.closing] if before.closing < len(old_role_C) else Role.PLAIN
        closing_role.append((in_turn_T & (new.char_start >= turn.closing), int(role)))

    role_C = np.where(source_C >= 0, old_role_C[source_C], Role.CONTEXT) if len(old_role_C) else source_C * 0
    roles_T = majority_roles(role_C, new.char_start, new.char_end)
    for at_T, role_of_end in closing_role:
        roles_T[at_T] = role_of_end
    roles_T = np.where(mask_T, roles_T, Role.CONTEXT).astype(np.uint8)
    measured = _same_tokens(old, new, source_C, mask_T)
    return Transferred(TokenLabels(roles_T, *measured), mask_T)


def majority_roles(
    role_C: NDArray[np.integer], char_start_T: NDArray[np.int32], char_end_T: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """Return the roles (uint8 [T]) of tokens from the roles of a text's characters; for the rule see `transfer`.

    Args:
        role_C: a `Role` per character, CONTEXT if there is none.
        char_start_T: each token's first character.
        char_end_T: one past its last.
    """
    count_CR = np.zeros((len(role_C) + 1, len(Role)), dtype=np.int64)
    np.cumsum(role_C[:, None] == np.arange(len(Role)), axis=0, out=count_CR[1:])
    count_TR = count_CR[char_end_T] - count_CR[char_start_T]
    kinds = sorted(BOILERPLATE_ROLES)
    groups_TG = np.stack([count_TR[:, Role.REASONING], count_TR[:, kinds].sum(axis=1), count_TR[:, Role.PLAIN]], axis=1)
    group_T = np.array(_REASONING_WINS)[groups_TG.argmax(axis=1)]
    kind_T = np.array(kinds)[count_TR[:, kinds].argmax(axis=1)]
    roles_T = np.where(group_T == Role.BOILERPLATE, kind_T, group_T)
    return np.where(groups_TG.any(axis=1), roles_T, Role.PLAIN).astype(np.uint8)


class Block(NamedTuple):
    """`size` equal characters: from `old` on in one text, from `new` on in the other."""

    old: int
    new: int
    size: int


def align(old: str, new: str) -> list[Block]:
    """Return the blocks of characters that two texts share, in order in both."""
    return list(_align(old, new, 0, 0, (_LINE, _WORD)))


def _align(old: str, new: str, old_at: int, new_at: int, pieces: Sequence[re.Pattern[str]]) -> Iterator[Block]:
    start = _common_start(old, new)
    end = _common_start(old[start:][::-1], new[start:][::-1])
    if start:
        yield Block(old_at, new_at, start)
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    if middle_old and middle_new and pieces:
        yield from _align_pieces(middle_old, middle_new, old_at + start, new_at + start, pieces)
    if end:
        yield Block(old_at + len(old) - end, new_at + len(new) - end, end)


def _align_pieces(old: str, new: str, old_at: int, new_at: int, pieces: Sequence[re.Pattern[str]]) -> Iterator[Block]:
    # One piece above the limit is enough to detect too many.
    old_pieces, new_pieces = (
        [piece.group() for piece in islice(pieces[0].finditer(text), PIECES_COMPARED + 1)] for text in (old, new)
    )
    if max(len(old_pieces), len(new_pieces)) > PIECES_COMPARED:
        return
    old_bound = old_at + np.cumsum([0, *map(len, old_pieces)])
    new_bound = new_at + np.cumsum([0, *map(len, new_pieces)])
    for tag, i, j, k, m in SequenceMatcher(None, old_pieces, new_pieces, autojunk=False).get_opcodes():
        at = int(old_bound[i]), int(new_bound[k])
        if tag == "equal":
            yield Block(*at, int(old_bound[j]) - at[0])
        elif tag == "replace":
            yield from _align("".join(old_pieces[i:j]), "".join(new_pieces[k:m]), *at, pieces[1:])


def _common_start(old: str, new: str) -> int:
    """Return the length of the common prefix, by bisection: comparing slices is fast, comparing characters is not."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _turn_blocks(old_text: str, before: TurnText, new_text: str, turn: TurnText) -> Iterator[Block]:
    """Yield the common blocks of a turn's old and new text; the end-of-turn token only if it is the same."""
    content = align(old_text[before.start : before.closing], new_text[turn.start : turn.closing])
    yield from (Block(block.old + before.start, block.new + turn.start, block.size) for block in content)
    ending = new_text[turn.closing : turn.end]
    if old_text[before.closing : before.end] == ending:
        yield Block(before.closing, turn.closing, len(ending))


def _character_roles(sample: LabelledSample) -> NDArray[np.uint8]:
    """Return the role of each character (uint8 [C]), CONTEXT outside loss tokens.

    If tokens share a character (a split multi-byte one), the first token's role counts.
    """
    role_C = np.full(len(sample.text), Role.CONTEXT, dtype=np.uint8)
    for t in np.flatnonzero(sample.mask_T)[::-1]:
        role_C[sample.char_start_T[t] : sample.char_end_T[t]] = sample.roles_T[t]
    return role_C


def _same_tokens(
    old: LabelledSample, new: RenderedSample, source_C: NDArray[np.int64], mask_T: NDArray[np.bool_]
) -> list[NDArray[np.float32]]:
    """Return base and tuned losses, and the scores if there are, of new tokens with exactly the characters of one old
    token, NaN for the rest."""
    columns = [old.base_loss_T, old.tuned_loss_T, *([] if old.score_T is None else [old.score_T])]
    found = [np.full(len(mask_T), np.nan, dtype=np.float32) for _ in columns]
    old_at = _alone(zip(old.char_start_T.tolist(), old.char_end_T.tolist(), strict=True))
    new_at = _alone(zip(new.char_start.tolist(), new.char_end.tolist(), strict=True))
    for (start, end), t in new_at.items():
        if not mask_T[t] or start == end:
            continue
        sources = source_C[start:end]
        if sources[0] < 0 or (np.diff(sources) != 1).any():
            continue
        same = old_at.get((int(sources[0]), int(sources[-1]) + 1))
        if same is not None:
            for new_T, old_T in zip(found, columns, strict=True):
                new_T[t] = old_T[same]
    return found


def _alone(spans: Iterator[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return tokens by their characters, without those that share all of theirs with another token."""
    found: dict[tuple[int, int], int] = {}
    shared = set()
    for t, span in enumerate(spans):
        if found.setdefault(span, t) != t:
            shared.add(span)
    return {span: t for span, t in found.items() if span not in shared}
