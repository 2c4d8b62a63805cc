"""How a tree is searched. Imports nothing heavy, so that `--help` answers at once."""

import math
from dataclasses import dataclass
from typing import Literal

from rolewise.core.errors import InputError

EarlyStop = Literal["never", "right", "decided"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Settings of a search; the defaults are RFTT's for its warm-up data (arXiv 2502.13389).

    Attributes:
        rollouts: for each question at most.
        max_depth: steps of a path at most.
        exploration: UCT's constant c.
        step_tokens: tokens of a step at most.
        temperature, top_p, top_k: of sampling.
        seed: the same seed gives the same tree, however many trees are searched beside it.
        in_flight: rollouts under way at once in one tree. From 2 on they see each other through a virtual loss, and the
            tree depends on which answer comes first.
        max_tokens: generated tokens for each question at most; a rollout under way is finished. None for no limit.
        max_seconds: the same in seconds since the first request for the question. None for no limit.
        early_stop: `right` ends a tree with the first right answer; `decided` once no vote that is still to come can
            change the majority.
    """

    rollouts: int = 16
    max_depth: int = 15
    exploration: float = 2.0
    step_tokens: int = 256
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    seed: int = 0
    in_flight: int = 1
    max_tokens: int | None = None
    max_seconds: float | None = None
    early_stop: EarlyStop = "never"

    def __post_init__(self) -> None:
        for name in ("rollouts", "max_depth", "step_tokens", "in_flight", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.exploration < math.inf:
            raise InputError(f"exploration is {self.exploration}; it must be 0 or more")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        for name in ("top_k", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise InputError(f"max_seconds is {self.max_seconds}; it must be above 0")
        if self.early_stop not in ("never", "right", "decided"):
            raise InputError(f"early_stop {self.early_stop!r} is not known; choose never, right or decided")
