"""From stored losses to roles: the last step of SHAD (arXiv 2412.14780, eq. 2) and Rho-1, which needs no model."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.lazy_sequence import LazySequence
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.labelled import TokenLabels

SampleLosses = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Base losses, tuned losses (float32) and mask (bool) of a sample, each of shape (T,)."""


def classify(
    base_loss_T: np.ndarray, tuned_loss_T: np.ndarray, mask_T: np.ndarray, threshold: float = 0.0
) -> np.ndarray:
    """Roles (uint8, shape (T,)) from LD = tuned − base loss: above `threshold` REASONING, else BOILERPLATE.

    Loss tokens without measured losses (NaN) are PLAIN, tokens outside `mask_T` (bool) are CONTEXT.
    """
    difference_T = tuned_loss_T - base_loss_T
    roles_T = np.where(difference_T > threshold, Role.REASONING, Role.BOILERPLATE)
    roles_T = np.where(np.isnan(difference_T), Role.PLAIN, roles_T)
    return np.where(mask_T, roles_T, Role.CONTEXT).astype(np.uint8)


class LossLabels(LazySequence[TokenLabels]):
    """Labels of samples whose losses are known; each is made when it is asked for.

    Boilerplate splits by its base loss: below the quantile of all samples' boilerplate FORMAT, the rest TEMPLATE. The
    paper names the two kinds and says that losses tell them apart; it gives no number. None leaves BOILERPLATE.

    Args:
        losses: (base losses, tuned losses, mask) of each sample, of shape (T,); gone through several times.
        threshold: LD above it is reasoning, in nats.
        quantile: of boilerplate's base losses, 0 to 1, or None.
    """

    def __init__(self, losses: Sequence[SampleLosses], threshold: float, quantile: float | None) -> None:
        self._losses, self._threshold = losses, threshold
        self.format_limit = None if quantile is None else streamed_quantile(self._boilerplate_losses, quantile)

    def __len__(self) -> int:
        return len(self._losses)

    def item(self, place: int) -> TokenLabels:
        """The labels of the sample at a place from 0."""
        return self._label(self._losses[place])

    def __iter__(self) -> Iterator[TokenLabels]:
        return map(self._label, self._losses)

    def _label(self, losses: SampleLosses) -> TokenLabels:
        base_T, tuned_T, mask_T = losses
        roles_T = classify(base_T, tuned_T, mask_T, self._threshold)
        if self.format_limit is not None:
            kinds_T = np.where(base_T < self.format_limit, Role.FORMAT, Role.TEMPLATE)
            roles_T = np.where(roles_T == Role.BOILERPLATE, kinds_T, roles_T).astype(np.uint8)
        return TokenLabels(roles_T, base_T, tuned_T)

    def _boilerplate_losses(self) -> Iterator[np.ndarray]:
        for base_T, tuned_T, mask_T in self._losses:
            yield base_T[classify(base_T, tuned_T, mask_T, self._threshold) == Role.BOILERPLATE]


class KeptLabels(LazySequence[TokenLabels]):
    """Labels by the fall of the loss, base − tuned: REASONING where it reaches `limit`, BOILERPLATE where it does not.

    Loss tokens without measured losses (NaN) are PLAIN.

    Args:
        losses: (base losses, tuned losses, mask) of each sample, of shape (T,); gone through several times.
        limit: in nats; see `of_share`.
    """

    def __init__(self, losses: Sequence[SampleLosses], limit: float) -> None:
        self._losses, self.limit = losses, limit

    @classmethod
    def of_share(cls, losses: Sequence[SampleLosses], share: float) -> "KeptLabels":
        """Labels that keep this share of the whole data's tokens, those with the largest fall.

        The limit is the fall of the last token that is kept, the ⌈share · n⌉-th largest of n. Tokens that tie with it
        are kept too, so that no token's label depends on where it stands in the data.
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
        """The labels of the sample at a place from 0."""
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
    """`np.quantile` of float32 numbers that need not fit in memory; None if there are none.

    Args:
        pieces: gives the numbers, piece by piece; called twice.
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
    """The smallest of the ⌈share · n⌉ largest of n float32 numbers that need not fit in memory; None if n is 0.

    Args:
        pieces: gives the numbers, piece by piece; called twice.
        share: above 0, at most 1.
    """

    def places(total: int) -> tuple[int, int]:
        # Exact for shares such as 0.6: their product with a whole number may lie a hair above the whole number meant.
        kept = math.ceil(round(share * total, 6))
        return total - max(1, kept), total - max(1, kept)

    found = _streamed_order(pieces, places)
    return None if found is None else found[1]


def _streamed_order(
    pieces: Callable[[], Iterable[np.ndarray]], places: Callable[[int], tuple[int, int]]
) -> tuple[int, float, float] | None:
    """How many numbers there are, and those at two places (given their number, from 0) of their ascending order."""
    # The upper half of a number's bits tells the few apart among which the wanted ones lie.
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
    """The upper 16 of 32 bits that order float32 numbers when read as integers."""
    bits = np.ascontiguousarray(numbers + 0.0, dtype=np.float32).view(np.uint32)  # + 0.0 makes −0 a 0
    # Bits of numbers from 0 on are in the numbers' own order; those below 0 are in reverse, and have the sign bit.
    ordered: np.ndarray = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> 16
    return ordered


def check_classification(threshold: float, format_quantile: float | None) -> None:
    """Check both numbers before any work is done with them.

    Raises:
        InputError: for a threshold that is not finite, or a quantile outside 0 to 1.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold is {threshold}; it is a finite number of nats")
    if format_quantile is not None and not 0 <= format_quantile <= 1:
        raise InputError(f"format_quantile is {format_quantile}; it lies between 0 and 1, or is none")


def is_boilerplate(roles_T: np.ndarray) -> np.ndarray:
    """Bool, shape (T,): whether a role counts as boilerplate."""
    return np.isin(roles_T, [int(role) for role in BOILERPLATE_ROLES])
