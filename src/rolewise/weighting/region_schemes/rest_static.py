"""ResT without its curriculum: the ablation."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any

from rolewise.core.errors import InputError
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.region_schemes.rest import EndPoints, Length, Shape, rest
from rolewise.weighting.regions import RegionWeighting
from rolewise.weighting.registry import REGION_WEIGHTINGS


class StaticResT(RegionWeighting):
    """Another weighting, held at one step: the ablation of the curriculum."""

    def __init__(self, weighting: RegionWeighting, *, at_step: int = 0) -> None:
        """Fix the weights of `weighting` at those of `at_step`."""
        super().__init__(weighting.ramps, total_steps=weighting.total_steps)
        self.weighting, self.at_step = weighting, at_step

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        return self.weighting.code_weights(self.at_step, total_steps, entropies)


@REGION_WEIGHTINGS.own("rest-static")
def rest_static(
    static_step: Annotated[int, "Number of the rollout, from 0, whose weights hold throughout."] = 0,
    ramp: Shape = Ramp.shape,
    ramp_length: Length = Ramp.share,
    region_weights: EndPoints = None,
) -> StaticResT:
    """Make a `ResT` held at one step.

    Raises:
        InputError: for a value out of range.
    """
    if static_step < 0:
        raise InputError(f"static_step is {static_step}; it is the number of a rollout, from 0")
    return StaticResT(rest(ramp, ramp_length, region_weights), at_step=static_step)
