"""How a weight moves over a run."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rolewise.core.errors import InputError

RampShape = Literal["linear", "cosine", "step"]
RAMP_SHAPES: tuple[str, ...] = get_args(RampShape)


@dataclass(frozen=True)
class Ramp:
    """A weight that goes from `start` to `end` and stays there.

    Attributes:
        start: at step 0.
        end: from the ramp's last step on.
        shape: "linear"; "cosine", half a period of it, flat at both ends; "step", from start to end at half way.
        steps: the ramp's length in rollout steps; None gives it as a share of the run.
        share: where `steps` is None: the part of the run that the ramp takes; with 1 the run's last step is at `end`.

    Raises:
        InputError: for a weight below 0, and a shape, length or share that makes no ramp.
    """

    start: float
    end: float
    shape: RampShape = "linear"
    steps: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if not 0 <= value < math.inf:
                raise InputError(f"a ramp's {name} is {value}; weights are finite numbers, 0 or more")
        if self.shape not in RAMP_SHAPES:
            raise InputError(f"ramp shape {self.shape!r} is not known; choose one of {', '.join(RAMP_SHAPES)}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"a ramp of {self.steps} steps is none; give 1 or more, or a share of the run")
        if not 0 < self.share <= 1:
            raise InputError(f"a ramp's share of the run is {self.share}; give more than 0 and at most 1")

    def progress(self, step: int, total_steps: int | None) -> float:
        """How far the ramp is at a step, in [0, 1], its shape included.

        Raises:
            InputError: if the ramp is a share of a run whose length is not known.
        """
        if self.steps is not None:
            length: float = self.steps
        elif total_steps is None:
            raise InputError("a ramp is a share of a run whose length is not known; give its length in steps")
        else:
            length = self.share * (total_steps - 1)
        part = 1.0 if step >= length else max(step, 0) / length
        if self.shape == "cosine":
            return (1 - math.cos(math.pi * part)) / 2
        if self.shape == "step":
            return float(part >= 0.5)
        return part

    def at(self, step: int, total_steps: int | None) -> float:
        """The weight at a step of a run of `total_steps`."""
        progress = self.progress(step, total_steps)
        return (1 - progress) * self.start + progress * self.end
