"""Answers to batches of questions, remembered within bounds."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BatchCache(Generic[K, V]):
    """Remembers answers; equal questions are asked once. When it is full, those that were not needed for longest go.

    Args:
        size: answers that it holds at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[K, V] = {}  # the one that was needed last stands last

    def answers(self, questions: Sequence[K], ask: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """An answer to each question, in order.

        Args:
            questions: equal ones may stand in it several times.
            ask: answers those that are new, each once, in order. What it raises goes through, and nothing is kept.
        """
        distinct = list(dict.fromkeys(questions))
        new = [question for question in distinct if question not in self._known]
        found = {question: self._known.pop(question) for question in distinct if question in self._known}
        self._known |= found
        if new:
            found |= zip(new, ask(new), strict=True)
            self._known |= found
        while len(self._known) > self._size:
            del self._known[next(iter(self._known))]
        return [found[question] for question in questions]
