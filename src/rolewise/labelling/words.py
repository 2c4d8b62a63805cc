"""Words of an output in terms of tokens.

A labeller's evidence is noisy per token, and the later pieces of a word follow from its first. So a word is judged as a
whole. A word here is a run of letters and digits, with single marks inside (`pal-ind-rome`, `10:30`, `a.b@c.org`); the
space before it belongs to it, as in the tokens of most models.

Shapes: T tokens.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rolewise.data.render import Turn

_WORD = re.compile(r"\w+(?:[-'./@:]\w+)*")


class Word(NamedTuple):
    """Tokens `start` to `end` (half-open) and the word that they write."""

    start: int
    end: int
    text: str


def words_of(text: str, char_start_T: np.ndarray, char_end_T: np.ndarray, turns: Sequence[Turn]) -> list[Word]:
    """Return the words of the turns in order; each token belongs to one word at most."""
    words: list[Word] = []
    for turn in turns:
        starts, ends = char_start_T[turn.start : turn.end], char_end_T[turn.start : turn.end]
        last = 0
        for match in _WORD.finditer(text, int(starts[0]), int(ends[-1])):
            first = max(last, int(np.searchsorted(ends, match.start(), side="right")))
            end = int(np.searchsorted(starts, match.end(), side="left"))
            if first > last and ends[first - 1] == match.start() and text[starts[first - 1] : ends[first - 1]] == " ":
                first -= 1
            if first < end:
                words.append(Word(turn.start + first, turn.start + end, match[0]))
                last = end
    return words


def largest_of_word(values_T: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Return the values with the largest of each word's tokens for all of them; NaN counts as absent."""
    pooled_T = values_T.copy()
    for start, end, _ in words:
        known = values_T[start:end]
        known = known[~np.isnan(known)]
        if known.size:
            pooled_T[start:end][~np.isnan(values_T[start:end])] = known.max()
    return pooled_T


def is_repeated(words: Sequence[Word], tokens: int) -> np.ndarray:
    """Return a bool array of shape (T,), true for the tokens of words that occurred earlier in the sequence."""
    repeated_T = np.zeros(tokens, dtype=np.bool_)
    seen: set[str] = set()
    for start, end, text in words:
        repeated_T[start:end] = text in seen
        seen.add(text)
    return repeated_T
