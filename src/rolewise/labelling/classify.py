"""From stored losses to roles: the last step of SHAD (arXiv 2412.14780, eq. 2) and Rho-1, which needs no model."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from rolewise.core.lazy_sequence import LazySequence
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.labelled import TokenLabels

SampleLosses = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Base losses, tuned losses (both float32) and mask (bool) of a sample, each of shape (T,)."""


def classify(
    base_loss_T: np.ndarray, tuned_loss_T: np.ndarray, mask_T: np.ndarray, threshold: float = 0.0
) -> np.ndarray:
    """Return roles (uint8, shape (T,)) from LD = tuned − base loss: REASONING above `threshold`, else BOILERPLATE.

    Loss tokens without measured losses (NaN) are PLAIN, tokens outside `mask_T` (bool) are CONTEXT.
    """
    return roles_by_score(tuned_loss_T - base_loss_T, mask_T, threshold)


def roles_by_score(score_T: np.ndarray, mask_T: np.ndarray, threshold: float) -> np.ndarray:
    """Return roles (uint8, shape (T,)) from scores: REASONING above `threshold`, else BOILERPLATE; NaN is PLAIN."""
    roles_T = np.where(score_T > threshold, Role.REASONING, Role.BOILERPLATE)
    roles_T = np.where(np.isnan(score_T), Role.PLAIN, roles_T)
    return np.where(mask_T, roles_T, Role.CONTEXT).astype(np.uint8)


def split_boilerplate(roles_T: np.ndarray, is_format_T: np.ndarray) -> np.ndarray:
    """Return roles with BOILERPLATE split by rules: FORMAT where `is_format_T` is true, else TEMPLATE."""
    kinds_T = np.where(is_format_T, Role.FORMAT, Role.TEMPLATE)
    return np.where(roles_T == Role.BOILERPLATE, kinds_T, roles_T).astype(np.uint8)


class LossLabels(LazySequence[TokenLabels]):
    """Labels of samples with known losses; each label is made on demand.

    Boilerplate splits by its base loss: below the quantile of all samples' boilerplate FORMAT, the rest TEMPLATE. The
    paper names the two kinds and states that losses separate them; it gives no number. None keeps BOILERPLATE.

    Args:
        losses: (base losses, tuned losses, mask) of each sample, of shape (T,); read several times.
        threshold: LD in nats above which a token is reasoning.
        quantile: quantile of boilerplate's base losses, 0 to 1, or None.
    """

    def __init__(self, losses: Sequence[SampleLosses], threshold: float, quantile: float | None) -> None:
        self._losses, self._threshold = losses, threshold
        self.format_limit = None if quantile is None else streamed_quantile(self._boilerplate_losses, quantile)

    def __len__(self) -> int:
        return len(self._losses)

    def item(self, place: int) -> TokenLabels:
        """Return the labels of the sample at a place, from 0."""
        return self._label(self._losses[place])

    def __iter__(self) -> Iterator[TokenLabels]:
        return map(self._label, self._losses)

    def _label(self, losses: SampleLosses) -> TokenLabels:
        base_T, tuned_T, mask_T = losses
        roles_T = classify(base_T, tuned_T, mask_T, self._threshold)
        if self.format_limit is not None:
            roles_T = split_boilerplate(roles_T, base_T < self.format_limit)
        return TokenLabels(roles_T, base_T, tuned_T)

    def _boilerplate_losses(self) -> Iterator[np.ndarray]:
        for base_T, tuned_T, mask_T in self._losses:
            yield base_T[classify(base_T, tuned_T, mask_T, self._threshold) == Role.BOILERPLATE]


class KeptLabels(LazySequence[TokenLabels]):
    """Labels by the fall of the loss, base − tuned: REASONING if it reaches `limit`, BOILERPLATE otherwise.

    Loss tokens without measured losses (NaN) are PLAIN.

    Args:
        losses: (base losses, tuned losses, mask) of each sample, of shape (T,); read several times.
        limit: smallest fall of a kept token, in nats; see `of_share`.
    """

    def __init__(self, losses: Sequence[SampleLosses], limit: float) -> None:
        self._losses, self.limit = losses, limit

    @classmethod
    def of_share(cls, losses: Sequence[SampleLosses], share: float) -> "KeptLabels":
        """Return labels that keep this share of the tokens of the whole data, those with the largest fall.

        The limit is the fall of the last kept token, the ⌈share · n⌉-th largest of n. Tokens that tie with it are kept
        too, so that no token's label depends on its place in the data.
        """

        def falls() -> Iterator[np.ndarray]:
            for base_T, tuned_T, _ in losses:
                fall_T = base_T - tuned_T
                yield fall_T[~np.isnan(fall_T)]

        limit = streamed_limit(falls, share)
        return cls(losses, 0.0 if limit is None else limit)

    def __len__(self) -> int:
        return len(self._losses)

    def item(self, place: int) -> TokenLabels:
        """Return the labels of the sample at a place, from 0."""
        return self._label(self._losses[place])

    def __iter__(self) -> Iterator[TokenLabels]:
        return map(self._label, self._losses)

    def _label(self, losses: SampleLosses) -> TokenLabels:
        base_T, tuned_T, mask_T = losses
        fall_T = base_T - tuned_T
        roles_T = np.where(fall_T >= self.limit, Role.REASONING, Role.BOILERPLATE)
        roles_T = np.where(np.isnan(fall_T), Role.PLAIN, roles_T)
        return TokenLabels(np.where(mask_T, roles_T, Role.CONTEXT).astype(np.uint8), base_T, tuned_T)


def streamed_quantile(pieces: Callable[[], Iterable[np.ndarray]], quantile: float) -> float | None:
    """Return `np.quantile` of float32 numbers that need not fit in memory; None if there are none.

    Args:
        pieces: returns the numbers, piece by piece; called twice.
        quantile: 0 to 1.
    """

    def places(total: int) -> tuple[int, int]:
        return math.floor(quantile * (total - 1)), math.ceil(quantile * (total - 1))

    found = _streamed_order(pieces, places)
    if found is None:
        return None
    total, below, above = found
    place = quantile * (total - 1)
    return below + (above - below) * (place - math.floor(place))


def streamed_limit(pieces: Callable[[], Iterable[np.ndarray]], share: float) -> float | None:
    """Return the smallest of the ⌈share · n⌉ largest of n float32 numbers that need not fit in memory; None if n is 0.

    Args:
        pieces: returns the numbers, piece by piece; called twice.
        share: above 0, at most 1.
    """

    def places(total: int) -> tuple[int, int]:
        # Exact for shares such as 0.6: their product with a whole number may be slightly above the intended integer.
        kept = math.ceil(round(share * total, 6))
        return total - max(1, kept), total - max(1, kept)

    found = _streamed_order(pieces, places)
    return None if found is None else found[1]


def _streamed_order(
    pieces: Callable[[], Iterable[np.ndarray]], places: Callable[[int], tuple[int, int]]
) -> tuple[int, float, float] | None:
    """Return the count of the numbers, and the two at the ranks `places(count)`, from 0, in ascending order."""
    # The upper half of a number's bits narrows the search to a few candidates for the wanted numbers.
    counts = np.zeros(1 << 16, dtype=np.int64)
    for piece in pieces():
        np.add.at(counts, _upper_bits(piece), 1)
    total = int(counts.sum())
    if not total:
        return None
    ranks = places(total)
    up_to = np.cumsum(counts)
    first, last = np.searchsorted(up_to, ranks, side="right")
    near = [piece[(bits >= first) & (bits <= last)] for piece in pieces() if len(bits := _upper_bits(piece))]
    ordered = np.sort(np.concatenate(near)).astype(np.float64)
    below, above = (float(ordered[rank - (up_to[first - 1] if first else 0)]) for rank in ranks)
    return total, below, above


def _upper_bits(numbers: np.ndarray) -> np.ndarray:
    """Return the upper 16 of 32 bits that order float32 numbers when read as integers."""
    bits = np.ascontiguousarray(numbers + 0.0, dtype=np.float32).view(np.uint32)  # + 0.0 turns −0 into 0
    # Bits of numbers from 0 on sort as the numbers do; those of negative numbers have the sign bit and sort in reverse.
    ordered: np.ndarray = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> 16
    return ordered


def has_role(roles_T: np.ndarray) -> np.ndarray:
    """Return a bool array of shape (T,), true for reasoning and boilerplate: neither context nor plain."""
    return np.asarray((roles_T == Role.REASONING) | is_boilerplate(roles_T))


def is_boilerplate(roles_T: np.ndarray) -> np.ndarray:
    """Return a bool array of shape (T,), true where the role counts as boilerplate."""
    return np.isin(roles_T, [int(role) for role in BOILERPLATE_ROLES])
