"""ResT with measured weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from rolewise.core.region import Region
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.region_schemes.rest import EndPoints, Length, ResT, Shape, read_end_points
from rolewise.weighting.registry import REGION_WEIGHTINGS


class EntropyResT(ResT):
    """ResT with measured weights: the lower the mean entropy of a region's tokens, the higher its weight at the start.

    The regions' weights are spread over [`LOW`, `HIGH`], the official start points: `HIGH` for the lowest entropy,
    `LOW` for the highest, linear in between. Along the ramp they all move to the thought's end point. Regions without a
    measurement, and tokens outside regions, follow `ResT`.
    """

    LOW, HIGH = 0.6, 1.2

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        weights = super().code_weights(step, total_steps)
        measured = {
            code: float(entropy)
            for code, entropy in (entropies or {}).items()
            if code in weights and code != Region.OTHER and math.isfinite(entropy)
        }
        if not measured:
            return weights
        least, greatest = min(measured.values()), max(measured.values())
        progress = self.course.progress(step, total_steps)
        for code, entropy in measured.items():
            place = (entropy - least) / (greatest - least) if greatest > least else 0.0
            start = self.HIGH - (self.HIGH - self.LOW) * place
            weights[code] = (1 - progress) * start + progress * self.ramps[Region.THINK].end
        return weights


@REGION_WEIGHTINGS.own("rest-entropy")
def rest_entropy(
    ramp: Shape = Ramp.shape, ramp_length: Length = Ramp.share, region_weights: EndPoints = None
) -> EntropyResT:
    """Make an `EntropyResT` from options.

    Raises:
        InputError: for a value out of range.
    """
    return EntropyResT(end_points=read_end_points(region_weights, Region), ramp=Ramp.of_length(ramp, ramp_length))
