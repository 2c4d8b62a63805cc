"""Settings of a tree search. The module imports nothing heavy, so that `--help` is fast."""

import math
from dataclasses import dataclass
from typing import Literal

from rolewise.core.errors import InputError
from rolewise.core.options import Options, option
from rolewise.core.sampling_settings import SamplingSettings

EarlyStop = Literal["never", "right", "decided"]
PathChoice = Literal["random", "contrast"]
VoteBy = Literal["majority", "value", "best"]


@dataclass(kw_only=True)
class TreeSettings(Options, title="tree"):
    """The shape of a tree.

    Attributes:
        rollouts: maximum number of rollouts per question.
        max_depth: maximum number of steps per path.
        exploration: constant c of UCT.
        step_tokens: maximum number of tokens per step.
    """

    rollouts: int = option(16, "Rollouts per question.", least=1)
    max_depth: int = option(15, "Maximum steps per path.", least=1)
    exploration: float = option(2.0, "Exploration constant of UCT.")
    step_tokens: int = option(256, "Maximum tokens per step.", least=1)

    def validate(self) -> None:
        if not 0 <= self.exploration < math.inf:
            raise InputError(f"exploration is {self.exploration}; it must be 0 or more")


@dataclass(kw_only=True)
class SearchSettings(TreeSettings, SamplingSettings, title="search"):
    """Settings of a search; the defaults are RFTT's for its warm-up data (arXiv 2502.13389).

    Attributes:
        in_flight: concurrent rollouts in one tree. From 2 on they see each other through a virtual loss, and the tree
            depends on the order of the answers.
        max_tokens: maximum generated tokens per question; rollouts in progress are finished. None for no limit.
        max_seconds: the same limit in seconds since the first request for the question. None for no limit.
        early_stop: `right` ends a tree at its first right answer; `decided` ends it when no remaining vote can change
            the majority.
    """

    in_flight: int = option(1, "Concurrent rollouts per tree; above 1 a seed no longer fixes the tree.", least=1)
    max_tokens: int | None = option(None, "Maximum generated tokens per question.", least=1)
    max_seconds: float | None = option(None, "Maximum seconds per question.")
    early_stop: EarlyStop = option(
        "never", "End a tree at its first right answer (right), or when no vote can change the majority (decided)."
    )

    def validate(self) -> None:
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise InputError(f"max_seconds is {self.max_seconds}; it must be above 0")
