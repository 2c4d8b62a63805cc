"""The tasks of a suite, and their verdicts."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """One task of a suite.

    Attributes:
        id: unique within the suite.
        category: category for the scores; `--limit` draws across categories.
        data: data that the suite needs to play it.
    """

    id: str
    category: str
    data: Any


@dataclass(frozen=True)
class Verdict:
    """Outcome of an example.

    Attributes:
        score: score in [0, 1]; 1 is right, 0 wrong, values between are the share of right samples.
        reason: reason for people, e.g. the checker's message.
        detail: further data to keep, as JSON values.
    """

    score: float
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
