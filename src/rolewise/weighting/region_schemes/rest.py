"""ResT in Rolewise's form (arXiv 2509.21826), over the regions of a response or over roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Annotated, Any, TypeVar

from rolewise.core.errors import InputError
from rolewise.core.region import ARGUMENT_REGIONS, Region
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.weighting.ramp import Ramp, RampShape
from rolewise.weighting.regions import RegionWeighting
from rolewise.weighting.registry import REGION_WEIGHTINGS

Code = TypeVar("Code", Region, Role)

FLOOR = 0.2
"""Weight of tokens outside regions in `ResT`. The official code gives them weight 0, and so no gradient at all to a
response without tags, or to the token that ends the turn."""

Shape = Annotated[RampShape, "Shape of the weights' ramp over the run."]
Length = Annotated[float, "Length of the ramp: up to 1 a share of the run, above 1 a number of rollouts."]
EndPoints = Annotated[
    str | dict[str, Any] | None, "Start and end weights that differ from the defaults: think=0.2:1,tool_name=1.5."
]
"""The parameters that several schemes take."""


@REGION_WEIGHTINGS.own("rest")
def rest(ramp: Shape = Ramp.shape, ramp_length: Length = Ramp.share, region_weights: EndPoints = None) -> ResT:
    """Make a `ResT` from options.

    Raises:
        InputError: for a value out of range, or an unknown region.
    """
    return ResT(end_points=read_end_points(region_weights, Region), ramp=Ramp.of_length(ramp, ramp_length))


class ResT(RegionWeighting):
    """ResT in Rolewise's form: the official end points, reached at the end of the run; no weight is 0.

    Tokens outside regions count `FLOOR`, the reply to the user counts as thought, and every region's end points can
    be set, those of argument names and argument values separately.
    """

    def __init__(
        self,
        *,
        end_points: Mapping[Region, tuple[float, float]] | None = None,
        ramp: Ramp | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Apply settings that differ from the defaults.

        Args:
            end_points: (start, end) of regions; ARGUMENTS also stands for its names and values, unless they are named.
            ramp: shape and length of all ramps; its own end points are ignored. None: linear, over the whole run.
            total_steps: as for `RegionWeighting`.
        """
        points: dict[IntEnum, tuple[float, float]] = {
            Region.OTHER: (FLOOR, FLOOR),
            Region.TAG: (1.0, 1.0),
            Region.TOOL_NAME: (1.2, 1.2),
            Region.THINK: (0.6, 1.0),
            Region.RESPONSE: (0.6, 1.0),
        }
        given: dict[IntEnum, tuple[float, float]] = dict((end_points or {}).items())
        points |= dict.fromkeys(ARGUMENT_REGIONS, given.get(Region.ARGUMENTS, (0.6, 1.2)))
        points |= given
        course = ramp or Ramp(0.0, 1.0)
        ramps = {code: replace(course, start=start, end=end) for code, (start, end) in points.items()}
        super().__init__(ramps, total_steps=total_steps)
        self.course = course


def role_curriculum(
    *,
    end_points: Mapping[Role, tuple[float, float]] | None = None,
    ramp: Ramp | None = None,
    total_steps: int | None = None,
) -> RegionWeighting:
    """Return ResT's curriculum over reasoning and boilerplate: structure first, reasoning later.

    Args:
        end_points: (start, end) of roles. Default: 0.6 to 1 for reasoning and 1 for all others. BOILERPLATE also stands
            for its two kinds, unless they are named.
        ramp, total_steps: as for `ResT`.
    """
    given = dict((end_points or {}).items())
    points = dict.fromkeys(Role, (1.0, 1.0)) | {Role.REASONING: (0.6, 1.0)}
    points |= dict.fromkeys(BOILERPLATE_ROLES, given.get(Role.BOILERPLATE, (1.0, 1.0))) | given
    course = ramp or Ramp(0.0, 1.0)
    ramps = {role: replace(course, start=start, end=end) for role, (start, end) in points.items()}
    return RegionWeighting(ramps, total_steps=total_steps)


def read_end_points(given: str | Mapping[str, Any] | None, kind: type[Code]) -> dict[Code, tuple[float, float]]:
    """Read `think=0.2:1,tool_name=1.5`, or the same as a mapping, as (start, end) by region or role.

    A single number is both start and end.

    Raises:
        InputError: for an unknown region or role, or a value that is not a number.
    """
    if not isinstance(given, Mapping):
        entries = [part.strip().partition("=") for part in (given or "").split(",") if part.strip()]
        given = {name.strip(): numbers for name, _, numbers in entries}
    known = {code.label: code for code in kind}
    points = {}
    for name, numbers in given.items():
        if name not in known:
            raise InputError(
                f"region_weights: {name!r} is not a {kind.__name__.lower()}; choose from {', '.join(known)}"
            )
        pair = numbers if isinstance(numbers, list | tuple) else str(numbers).split(":")
        try:
            start, end = float(pair[0]), float(pair[-1])
        except (ValueError, TypeError, IndexError):
            raise InputError(f"region_weights: {name}={numbers} is not of the form think=0.2:1 or think=0.5") from None
        points[known[name]] = (start, end)
    return points
