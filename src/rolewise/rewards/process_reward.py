"""Process-reward models, which score each step of a solution from 0 to 1.

`ClassifierReward` and `TokenReward` (`process_reward_models`) run in this process, `ServerReward`
(`process_reward_server`) uses a server.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from rolewise.core.batch_cache import BatchCache
from rolewise.core.errors import RolewiseError

_REMEMBERED = 20_000
"""Maximum number of cached solutions; with their texts, some tens of megabytes."""


class ProcessRewardError(RolewiseError):
    """Scores are temporarily unavailable, such as when a server is gone. Callers that don't need them may continue."""


class Solution(NamedTuple):
    """A question and the steps toward its answer, as texts."""

    question: str
    steps: tuple[str, ...]


class ProcessRewardModel(ABC):
    """A model that scores steps. Use it as a context manager, or call `close`. Scores are cached, within bounds."""

    def __init__(self) -> None:
        self._remembered: BatchCache[Solution, list[float] | None] = BatchCache(_REMEMBERED)

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how the scores were produced; the list may grow."""
        return []

    def score(self, solutions: Sequence[tuple[str, Sequence[str]]]) -> list[list[float] | None]:
        """Return a score from 0 to 1 for each step of each solution; None for a solution that the model can't score,
        for example because it is longer than the model's context.

        Args:
            solutions: question and steps of each.

        Raises:
            ProcessRewardError: if scores are temporarily unavailable.
            RolewiseError: if the model returns invalid scores, which retries can't fix.
        """
        asked = [Solution(question, tuple(steps)) for question, steps in solutions]
        return self._remembered.answers(asked, self._score_all)

    def _score_all(self, solutions: list[Solution]) -> list[list[float] | None]:
        """Return scores in the order of the request; a solution without steps needs no model."""
        with_steps = [number for number, solution in enumerate(solutions) if solution.steps]
        scores: list[list[float] | None] = [[] for _ in solutions]
        if with_steps:
            for number, found in zip(with_steps, self.score_new([solutions[n] for n in with_steps]), strict=True):
                scores[number] = found
        return scores

    @abstractmethod
    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        """Like `score`, for distinct solutions that are not cached and have steps."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the description of the model for a run's records; JSON values."""

    def close(self) -> None:  # noqa: B027, it may hold nothing
        """Release its resources."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def misfit(scores: Any, steps: int) -> str | None:
    """Return the error in a solution's scores, for a message; None if they are a number from 0 to 1 for each step."""
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
