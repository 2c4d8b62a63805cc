"""Process-reward models: how good each step of a solution is, from 0 to 1.

In this process they are `ClassifierReward` and `TokenReward` (`process_reward_models`), behind a server `ServerReward`
(`process_reward_server`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from rolewise.core.batch_cache import BatchCache
from rolewise.core.errors import RolewiseError

_REMEMBERED = 20_000
"""Solutions; with their texts some tens of megabytes."""


class ProcessRewardError(RolewiseError):
    """There are no scores for now, say because a server is gone. Who can do without them may go on."""


class Solution(NamedTuple):
    """A question and the steps towards its answer, as texts."""

    question: str
    steps: tuple[str, ...]


class ProcessRewardModel(ABC):
    """Scores steps. Use it as a context manager, or call `close`. Scores are remembered, within bounds."""

    def __init__(self) -> None:
        self._remembered: BatchCache[Solution, list[float] | None] = BatchCache(_REMEMBERED)

    @property
    def notes(self) -> list[str]:
        """What the user should know of how the scores came about; it may grow."""
        return []

    def score(self, solutions: Sequence[tuple[str, Sequence[str]]]) -> list[list[float] | None]:
        """For each solution a score, from 0 to 1, for each of its steps; None for one that the model can't score,
        because it is longer than the model's context, say.

        Args:
            solutions: question and steps of each.

        Raises:
            ProcessRewardError: if there are no scores for now.
            RolewiseError: if there never will be: what scores says nonsense.
        """
        asked = [Solution(question, tuple(steps)) for question, steps in solutions]
        return self._remembered.answers(asked, self._score_all)

    def _score_all(self, solutions: list[Solution]) -> list[list[float] | None]:
        """Scores as they were asked for; what has no steps needs no model."""
        with_steps = [number for number, solution in enumerate(solutions) if solution.steps]
        scores: list[list[float] | None] = [[] for _ in solutions]
        if with_steps:
            for number, found in zip(with_steps, self.score_new([solutions[n] for n in with_steps]), strict=True):
                scores[number] = found
        return scores

    @abstractmethod
    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        """As `score`, for different solutions that are not remembered and have steps."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a record of a run should say of it; JSON values."""

    def close(self) -> None:  # noqa: B027, it may hold nothing
        """Give back what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def misfit(scores: Any, steps: int) -> str | None:
    """What is wrong with a solution's scores, for a message; None if they are a number from 0 to 1 for each step."""
    if not isinstance(scores, list):
        return f"expected a list of {steps} scores, one for each step, but got {_short(scores)}"
    if len(scores) != steps:
        return f"expected {steps} scores, one for each step, but got {len(scores)}"
    for number, score in enumerate(scores, start=1):
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not is_number or math.isnan(score) or not 0 <= score <= 1:
            return f"the score of step {number} is {_short(score)}; it must be a number from 0 to 1"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
