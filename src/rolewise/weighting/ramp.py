"""Ramps: the course of a weight over a run."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rolewise.core.errors import InputError

RampShape = Literal["linear", "cosine", "step"]
RAMP_SHAPES: tuple[str, ...] = get_args(RampShape)


@dataclass(frozen=True)
class Ramp:
    """A weight that moves from `start` to `end` and stays there.

    Attributes:
        start: weight at step 0.
        end: weight from the ramp's last step on.
        shape: "linear"; "cosine", half a period, flat at both ends; "step", from start to end halfway.
        steps: length of the ramp in rollout steps; None if `share` gives the length.
        share: length as a share of the run, if `steps` is None; with 1 the run's last step is at `end`.

    Raises:
        InputError: for a weight below 0, or an invalid shape, length or share.
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
            raise InputError(f"a ramp of {self.steps} steps is too short; give 1 or more, or a share of the run")
        if not 0 < self.share <= 1:
            raise InputError(f"a ramp's share of the run is {self.share}; give more than 0 and at most 1")

    @classmethod
    def of_length(cls, shape: RampShape, length: float) -> "Ramp":
        """Return a ramp from 0 to 1; a length up to 1 is a share of the run, above 1 a number of rollouts.

        Raises:
            InputError: for an unknown shape or a length that is neither.
        """
        if not 0 < length < math.inf or (length > 1 and length != int(length)):
            raise InputError(f"ramp_length is {length}; give a share of the run up to 1, or a whole number above 1")
        return cls(0, 1, shape, share=length) if length <= 1 else cls(0, 1, shape, steps=int(length))

    def progress(self, step: int, total_steps: int | None) -> float:
        """Return the ramp's progress at a step, in [0, 1], with its shape applied.

        Raises:
            InputError: if the ramp is a share of a run of unknown length.
        """
        if self.steps is not None:
            length: float = self.steps
        elif total_steps is None:
            raise InputError("a ramp is a share of a run of unknown length; give the ramp's length in steps")
        else:
            length = self.share * (total_steps - 1)
        part = 1.0 if step >= length else max(step, 0) / length
        if self.shape == "cosine":
            return (1 - math.cos(math.pi * part)) / 2
        if self.shape == "step":
            return float(part >= 0.5)
        return part

    def at(self, step: int, total_steps: int | None) -> float:
        """Return the weight at a step of a run of `total_steps`."""
        progress = self.progress(step, total_steps)
        return (1 - progress) * self.start + progress * self.end
