"""Sequences whose items are made or read on demand."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """A `Sequence` whose subclasses only implement the length and the item at a place, from 0."""

    @abstractmethod
    def item(self, place: int) -> T:
        """Return the item at `place`, from 0 to below the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.item(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.item(index % len(self))

    def __iter__(self) -> Iterator[T]:
        return (self.item(place) for place in range(len(self)))
