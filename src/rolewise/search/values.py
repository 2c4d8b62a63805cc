"""What the end of a path is worth: the contract between a search and those who judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rolewise.search.tree import Question, Step


@dataclass(frozen=True)
class Leaf:
    """A path that came to its end.

    Attributes:
        question: what was asked.
        steps: from the first to the last.
        cut_off: whether the last step was cut off at its limit of tokens.
    """

    question: Question
    steps: tuple[Step, ...]
    cut_off: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a path is worth.

    Attributes:
        value: what backup adds along the path.
        answer: that it gives, written so that equal answers are equal texts, for votes; None where there is none.
        right: whether it equals the reference; None where that can't be known.
        process_rewards: for each step, where a process reward model was asked.
    """

    value: float
    answer: str | None = None
    right: bool | None = None
    process_rewards: tuple[float, ...] | None = None


class Values(Protocol):
    """Who judges. Many leaves come at once, from many trees."""

    @property
    def notes(self) -> list[str]:
        """What the user should know of how judgements came about; it may grow."""
        ...

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        """Judgements in order.

        Raises:
            RolewiseError: if there can be none at all; a single path that can't be judged gets a value of 0.
        """
        ...

    def close(self) -> None:
        """Give back what is held, processes say."""
        ...
