"""A bounded cache of answers to batches of questions."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BatchCache(Generic[K, V]):
    """A cache of answers; equal questions are asked once. When it is full, the least recently used answers are dropped.

    Args:
        size: maximum number of answers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[K, V] = {}  # least recently used first

    def answers(self, questions: Sequence[K], ask: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """Return an answer to each question, in order.

        Args:
            questions: the questions; the same one may occur several times.
            ask: answers the new ones, each once, in order. Its exceptions pass through, and then nothing is kept.
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
