"""Values of the ends of paths: the interface between a search and its judges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rolewise.search.tree import Question, Step


@dataclass(frozen=True)
class Leaf:
    """A finished path.

    Attributes:
        question: question of the path.
        steps: steps from the first to the last.
        cut_off: True if the last step was cut off at its limit of tokens.
    """

    question: Question
    steps: tuple[Step, ...]
    cut_off: bool = False


@dataclass(frozen=True)
class Judgement:
    """Judgement of a path.

    Attributes:
        value: value that backup adds along the path.
        answer: answer of the path, written so that equal answers are equal texts, for votes; None if there is none.
        right: True if it equals the reference; None if unknown.
        process_rewards: score of each step, if a process reward model was asked.
    """

    value: float
    answer: str | None = None
    right: bool | None = None
    process_rewards: tuple[float, ...] | None = None


class Values(Protocol):
    """A judge of leaves, which come many at once, from many trees."""

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how judgements were made; the list may grow."""
        ...

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        """Return judgements in order.

        Raises:
            RolewiseError: if judging is impossible; a single path that can't be judged gets a value of 0.
        """
        ...

    def close(self) -> None:
        """Release resources, such as processes."""
        ...
