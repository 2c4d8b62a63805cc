"""SHAD's first step: outputs paired with other inputs at random, none with its own (arXiv 2412.14780, section 3.1)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rolewise.core.errors import InputError
from rolewise.data.render import RenderedSample


@dataclass(frozen=True)
class OutputRef:
    """The assistant turn `turn` of sample `sample`, both indices into the rendered data."""

    sample: int
    turn: int


@dataclass(frozen=True)
class ShuffledPair:
    """The history before turn `context`, followed by turn `output` of another conversation."""

    context: OutputRef
    output: OutputRef


def shuffle_pairs(outputs: Sequence[OutputRef], groups: Sequence[str], seed: int) -> list[ShuffledPair]:
    """Re-pair each history with an output of another conversation; every output is used exactly once.

    Args:
        outputs: the drawn (history, turn) pairs.
        groups: conversation of each pair; an output is never paired with a history of its own conversation.
        seed: seed of the random draw.

    Raises:
        InputError: if one conversation holds more than half of the pairs, so that no such pairing exists.
    """
    counts = Counter(groups)
    if len(outputs) < 2 or max(counts.values()) > len(outputs) / 2:
        raise InputError(
            f"{len(outputs)} assistant turns of {len(counts)} conversations can't be shuffled so that none stays with "
            "its own conversation; give more conversations"
        )
    rng = np.random.default_rng(seed)
    # Conversations in random order, largest first, with the turns of each side by side; shifting by the size of the
    # largest then moves every turn out of its own conversation, and the random order keeps the pairing random.
    order = rng.permutation(len(outputs))
    tie_break = {group: rank for rank, group in enumerate(dict.fromkeys(groups[i] for i in order))}
    ranked = sorted(order.tolist(), key=lambda i: (-counts[groups[i]], tie_break[groups[i]]))
    shift = max(counts.values())
    moved = ranked[shift:] + ranked[:shift]
    pairs = [ShuffledPair(outputs[i], outputs[j]) for i, j in zip(ranked, moved, strict=True)]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def pair_ids(pair: ShuffledPair, samples: Sequence[RenderedSample], max_length: int | None) -> tuple[list[int], int]:
    """Return the token ids of a shuffled pair and the index at which its output starts.

    Outputs stay complete: if the pair is longer than `max_length` tokens, the history loses its beginning.
    """
    turn = samples[pair.output.sample].turns[pair.output.turn]
    output = samples[pair.output.sample].input_ids[turn.start : turn.end]
    start = samples[pair.context.sample].turns[pair.context.turn].start
    history = samples[pair.context.sample].input_ids[:start]
    if max_length is not None:
        # At least one token must precede the output, or its first token could not be predicted.
        keep = max(1, max_length - len(output))
        history = history[-keep:]
    return [*history.tolist(), *output.tolist()], len(history)
