"""Histories of other conversations under which contrast scores an output: the draw.

An output is an assistant turn; its history is everything before it. The rule of the draw: outputs are split into
classes that begin with the same tokens, since which output format is called for is not what contrast shall measure.
Each class is sorted by length and cut into groups of K, so that a group makes a batch with little padding. Every group
gets K histories that precede outputs of its own class, in random order, each used once before any is used again. A
history is passed over if its conversation has an output in the group, if it begins with the history of one, or if its
query nearly repeats that of one. If a class runs out of histories, the others lend theirs.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rolewise.core.errors import InputError
from rolewise.data.render import RenderedSample
from rolewise.data.shuffle import OutputRef

BEGINNING = 4
"""Number of first tokens that decide the class of an output."""
NEAR_DUPLICATE = 0.8
"""Share of common tokens (Jaccard) from which two queries count as the same."""
COMMON = 0.5
"""Tokens in more than this share of the queries say nothing about the similarity of two."""
HASHES = 64
"""Length of a query's MinHash signature, which estimates the share of common tokens with an error of about 0.05."""
_PRIME = (1 << 31) - 1


@dataclass(frozen=True)
class Group:
    """Outputs that are scored together, each under all of the histories.

    Attributes:
        outputs: the outputs, longest first.
        histories: the histories, each named by the turn that it precedes.
    """

    outputs: tuple[OutputRef, ...]
    histories: tuple[OutputRef, ...]


def draw_histories(
    samples: Sequence[RenderedSample], conversations: Sequence[str], count: int, seed: int, *, same_beginning: bool
) -> list[Group]:
    """Return groups that cover every output exactly once.

    Args:
        samples: the samples; read twice, so they may be larger than memory.
        conversations: conversation of each sample.
        count: number K of histories per output; an output has fewer if the data has no more.
        seed: seed of the order of the histories.
        same_beginning: False puts all outputs in one class.

    Raises:
        InputError: if no other conversation has a history for an output.
    """
    outputs = [OutputRef(i, t) for i, sample in enumerate(samples) for t in range(len(sample.turns))]
    spans = [turn for sample in samples for turn in sample.turns]
    lengths = [turn.end - turn.start for turn in spans]
    signatures = _signatures(samples)
    before, seen = _beginnings(samples)
    rng = np.random.default_rng(seed)

    def fits(history: int, group: Sequence[int]) -> bool:
        return spans[history].start > 0 and not any(
            conversations[outputs[history].sample] == conversations[outputs[output].sample]
            or before[output] in seen[history]
            or float(np.mean(signatures[history] == signatures[output])) >= NEAR_DUPLICATE
            for output in group
        )

    everywhere = rng.permutation(len(outputs)).tolist()
    groups: list[Group] = []
    for members in _classes(samples, 2 * (count + 1)) if same_beginning else [list(range(len(outputs)))]:
        queue = deque(rng.permutation(members).tolist())
        ordered = sorted(members, key=lambda output: (-lengths[output], output))
        pending = [ordered[start : start + count] for start in range(0, len(ordered), count)][::-1]
        while pending:
            group = pending.pop()
            chosen = list(islice((history for history in queue if fits(history, group)), count))
            for history in chosen:  # each is used once before any is used again
                queue.remove(history)
                queue.append(history)
            lent = (history for history in everywhere if history not in chosen and fits(history, group))
            chosen = [*chosen, *islice(lent, count - len(chosen))]
            if len(chosen) < count and len(group) > 1:  # a history that suits all of them may be hard to find
                pending += [[output] for output in reversed(group)]
                continue
            if not chosen:
                raise InputError(
                    f"{samples[outputs[group[0]].sample].source}: no other conversation has a different query, so its "
                    "answers can't be contrasted with anything; give more conversations"
                )
            groups.append(Group(tuple(outputs[i] for i in group), tuple(outputs[i] for i in chosen)))
    return groups


def _beginnings(samples: Sequence[RenderedSample]) -> tuple[list[int], list[frozenset[int]]]:
    """Return a hash of each output's history, and those of the histories that each output's history begins with.

    A record may be the beginning of another one: then the longer one's history contains the shorter one's answer.
    """
    before: list[int] = []
    seen: list[frozenset[int]] = []
    for sample in samples:
        hashes = [hash(sample.input_ids[: turn.start].tobytes()) for turn in sample.turns]
        before += hashes
        seen += [frozenset(hashes[: place + 1]) for place in range(len(hashes))]
    return before, seen


def _classes(samples: Sequence[RenderedSample], least: int) -> list[list[int]]:
    """Return classes of outputs, by number: split by one more of their first tokens while both sides keep `least`."""
    beginnings = [
        tuple(sample.input_ids[turn.start : min(turn.end, turn.start + BEGINNING)].tolist())
        for sample in samples
        for turn in sample.turns
    ]
    classes: list[list[int]] = []
    open_: list[tuple[int, list[int]]] = [(0, list(range(len(beginnings))))]
    while open_:
        depth, members = open_.pop()
        by_token: dict[int | None, list[int]] = {}
        if depth < BEGINNING:
            for output in members:
                token = beginnings[output][depth] if depth < len(beginnings[output]) else None
                by_token.setdefault(token, []).append(output)
        large = [part for part in by_token.values() if len(part) >= least]
        rest = sorted(set(members).difference(*large))
        if not large or 0 < len(rest) < least:
            classes.append(members)
            continue
        open_ += [(depth + 1, part) for part in large]
        if rest:
            classes.append(rest)
    return classes


def _signatures(samples: Sequence[RenderedSample]) -> np.ndarray:
    """Return a MinHash signature (int64, shape (outputs, HASHES)) of the tokens between each turn and the one before.

    Tokens that most of these texts share, as those of a system prompt, are left out.
    """

    def queries() -> Iterable[np.ndarray]:
        for sample in samples:
            previous = 0
            for turn in sample.turns:
                yield np.unique(sample.input_ids[previous : turn.start])
                previous = turn.end

    counts, total = np.zeros(0, np.int64), 0
    for ids in queries():
        size = int(ids.max(initial=0)) + 1
        counts = np.pad(counts, (0, max(0, size - len(counts))))
        counts[ids] += 1
        total += 1
    rng = np.random.default_rng(0)
    factors, offsets = rng.integers(1, _PRIME, HASHES), rng.integers(0, _PRIME, HASHES)
    signatures = np.empty((total, HASHES), np.int64)
    for row, ids in enumerate(queries()):
        telling = ids[counts[ids] <= max(1, COMMON * total)].astype(np.int64)
        # A query of common tokens alone resembles nothing: its signature is its own.
        hashes = (telling[:, None] * factors + offsets) % _PRIME
        signatures[row] = hashes.min(axis=0) if len(telling) else -1 - row
    return signatures
