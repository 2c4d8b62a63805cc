"""Tokens whose role is beyond doubt without annotation: a yardstick for labels where the truth is not known.

*Sure reasoning*: words that an answer takes from its own input. The input has the word, the answer has not said it
before, and hardly any answer says it whose input lacks it. *Sure boilerplate*: format tokens that rules identify with
certainty, and stock phrases: runs of four words that the answers of several other conversations have too, and that the
input has not.

Neither uses a model. What remains (paraphrases, decisions, conversions) has no sure role, so the yardstick sees the
easier part of reasoning.

Shapes: T tokens of a sample.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rolewise.data.labelled import LabelledSample
from rolewise.data.render import Turn
from rolewise.labelling.words import WORD, Word, is_repeated, words_of
from rolewise.roles.regex import sure_format_mask

RUN = 4
"""Length in words of a stock phrase."""
OTHERS = 2
"""Minimum number of other conversations whose answers have a stock phrase."""
UNPROMPTED = 0.005
"""Largest share of the answers without a word in their input that may say a sure reasoning word."""
LACKING = 0.5
"""Smallest share of the conversations whose input lacks a sure reasoning word."""


@dataclass(frozen=True)
class SureTokens:
    """Tokens of a sample with a sure role; bool arrays of shape (T,).

    Attributes:
        format_T: the part of `boilerplate_T` that is format.
    """

    reasoning_T: np.ndarray
    boilerplate_T: np.ndarray
    format_T: np.ndarray


@dataclass(frozen=True)
class _Read:
    """A sample's words: of its outputs by place, and of its input before each turn."""

    words: list[list[Word]]
    inputs: list[frozenset[str]]


def sure_tokens(samples: Sequence[LabelledSample]) -> list[SureTokens]:
    """Return the sure tokens of each sample; samples of one conversation have one `source`."""
    read = [_read(sample) for sample in samples]
    said: dict[str, set[str]] = {}
    given: dict[str, set[str]] = {}
    runs: dict[str, set[tuple[str, ...]]] = {}
    for sample, of in zip(samples, read, strict=True):
        for words, input_ in zip(of.words, of.inputs, strict=True):
            said.setdefault(sample.source, set()).update(word.text for word in words)
            given.setdefault(sample.source, set()).update(input_)
            runs.setdefault(sample.source, set()).update(run for _, run in _runs(words))
    has_input = Counter(word for words in given.values() for word in words)
    unprompted = Counter(word for source, words in said.items() for word in words - given[source])
    shared = Counter(run for found in runs.values() for run in found)
    conversations = len(said)

    def is_sure(word: str) -> bool:
        lacking = conversations - has_input[word]
        return lacking >= LACKING * conversations and unprompted[word] <= UNPROMPTED * lacking

    found = []
    before: dict[str, set[str]] = {}
    for sample, of in zip(samples, read, strict=True):
        tokens = len(sample.roles_T)
        reasoning_T, stock_T = np.zeros(tokens, dtype=bool), np.zeros(tokens, dtype=bool)
        # An earlier turn of the conversation may be a sample of its own.
        earlier = before.setdefault(sample.source, set())
        repeated_T = is_repeated(
            [word for words in of.words for word in words], tokens, earlier.intersection(*of.inputs[:1])
        )
        earlier.update(word.text for words in of.words for word in words)
        for words, input_ in zip(of.words, of.inputs, strict=True):
            for word in words:
                reasoning_T[word.start : word.end] |= word.text in input_ and is_sure(word.text)
            for place, run in _runs(words):
                if shared[run] > OTHERS and not any(word in input_ and is_sure(word) for word in run):
                    stock_T[words[place].start : words[place + RUN - 1].end] = True
        measured_T = sample.mask_T
        format_T = measured_T & sure_format_mask(
            sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans
        )
        reasoning_T &= measured_T & ~repeated_T & ~format_T
        found.append(SureTokens(reasoning_T, (format_T | stock_T) & measured_T & ~reasoning_T, format_T))
    return found


def _read(sample: LabelledSample) -> _Read:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.mask_T.astype(np.int8), [0]])))
    turns = [Turn(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    words = [words_of(sample.text, sample.char_start_T, sample.char_end_T, [turn]) for turn in turns]
    inputs: list[frozenset[str]] = []
    known: frozenset[str] = frozenset()
    end = 0
    for turn in turns:
        known |= frozenset(WORD.findall(sample.text, end, int(sample.char_start_T[turn.start])))
        inputs.append(known)
        end = int(sample.char_end_T[turn.end - 1])
    return _Read(words, inputs)


def _runs(words: Sequence[Word]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the place of each run of `RUN` words, and its words."""
    for place in range(len(words) - RUN + 1):
        yield place, tuple(word.text for word in words[place : place + RUN])
