"""Words of an output in terms of tokens.

A labeller's evidence is noisy per token, and the later pieces of a word follow from its first. So a word is judged as a
whole. A word here is a run of letters and digits, with single marks inside (`pal-ind-rome`, `10:30`, `a.b@c.org`,
`10,000`); the space before it belongs to it, as in the tokens of most models. Scripts without spaces between words,
such as Chinese, Japanese and Thai, have no words here: a run of their letters is a whole clause.

Shapes: T tokens.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from rolewise.data.render import Turn

_WITHOUT_SPACES = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan; Myanmar; Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"  # Chinese characters, Hiragana and Katakana in all of these
)
# `\w` has no combining marks, so it would cut most words of Hindi or of decomposed accents into single letters.
_MARKS = "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c) in ("Mn", "Mc"))
_LETTERS = rf"[^\W{_WITHOUT_SPACES}]+(?:[{_MARKS}]+[^\W{_WITHOUT_SPACES}]*)*"
WORD = re.compile(rf"{_LETTERS}(?:(?:[-'./@:]|(?<=\d),(?=\d\d\d)){_LETTERS})*")
"""A word, in any text."""
_OPERATORS = "*/%-"


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
        for match in WORD.finditer(text, int(starts[0]), int(ends[-1])):
            first = max(last, int(np.searchsorted(ends, match.start(), side="right")))
            end = int(np.searchsorted(starts, match.end(), side="left"))
            if first > last and ends[first - 1] == match.start() and text[starts[first - 1] : ends[first - 1]] == " ":
                first -= 1
            if first < end:
                words.append(Word(turn.start + first, turn.start + end, match[0]))
                last = end
    return words


def split_characters(char_start_T: np.ndarray, char_end_T: np.ndarray) -> list[Word]:
    """Return the characters that are written by several tokens, a few bytes each."""
    goes_on_T = np.concatenate([[False], char_start_T[1:] < char_end_T[:-1], [False]]).astype(np.int8)
    edges = np.diff(goes_on_T)
    starts, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    return [Word(start, end + 1, "") for start, end in zip(starts, ends, strict=True)]


def is_punctuation(text: str, char_start_T: np.ndarray, char_end_T: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Return a bool array of shape (T,), true for tokens of punctuation and white space alone, outside of words.

    Signs that calculate are not punctuation here, nor are symbols such as emoji.
    """
    spans = zip(char_start_T.tolist(), char_end_T.tolist(), strict=True)
    punctuation_T = np.array([start < end and all(map(_says_nothing, text[start:end])) for start, end in spans])
    for start, end, _ in words:
        punctuation_T[start:end] = False
    return punctuation_T


def _says_nothing(character: str) -> bool:
    return unicodedata.category(character)[0] in "PZC" and character not in _OPERATORS


def largest_of_word(values_T: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Return the values with the largest of each word's tokens for all of them; NaN counts as absent."""
    pooled_T = values_T.copy()
    for start, end, _ in words:
        known = values_T[start:end]
        known = known[~np.isnan(known)]
        if known.size:
            pooled_T[start:end][~np.isnan(values_T[start:end])] = known.max()
    return pooled_T


def is_repeated(words: Sequence[Word], tokens: int, said: Collection[str] = ()) -> np.ndarray:
    """Return a bool array of shape (T,), true for the tokens of words that occurred earlier in the sequence, or that
    were `said` before it."""
    repeated_T = np.zeros(tokens, dtype=np.bool_)
    seen = set(said)
    for start, end, text in words:
        repeated_T[start:end] = text in seen
        seen.add(text)
    return repeated_T
