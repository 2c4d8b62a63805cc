"""Settings of GRPO with token weights, and the weighting that they name."""

from dataclasses import dataclass

from trl import GRPOConfig

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.core.transformers_insides import settle_fields
from rolewise.data.tool_calls import CALL_FORMATS
from rolewise.training.rollout_weights import RolloutWeighting, as_rollout_weighting
from rolewise.training.settings import ROLES, GRPOSettings
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.region_schemes.rest import read_end_points, role_curriculum
from rolewise.weighting.registry import REGION_WEIGHTINGS, WEIGHTINGS

ROLE_WEIGHTINGS = ("rest", "rft", "alpha")
"""Weightings of reasoning and boilerplate, in addition to none and registered weightings."""


@dataclass
class WeightedGRPOConfig(GRPOSettings, GRPOConfig):  # type: ignore[misc]  # TRL is untyped
    """TRL's `GRPOConfig` with the settings of token weights.

    `weighting_args` holds the weighting's parameters, e.g. `{"ramp": "cosine"}` for rest. With a `call_format` of None
    the format of the responses' calls is detected automatically.
    """

    def __post_init__(self) -> None:
        settle_fields(self)
        super().__post_init__()
        if self.call_format is not None and self.call_format not in CALL_FORMATS:
            raise InputError(f"call_format {self.call_format!r} is not known; choose one of {', '.join(CALL_FORMATS)}")
        make_rollout_weighting(self)


def make_rollout_weighting(args: WeightedGRPOConfig) -> RolloutWeighting | None:
    """Return the scheme that `args` name; None for `none`, which is plain GRPO.

    Raises:
        InputError: for an unknown name or a value out of range.
    """
    if args.roles not in ROLES:
        raise InputError(f"roles {args.roles!r} is not known; choose one of {', '.join(ROLES)}")
    if args.weighting == "none":
        WEIGHTINGS.complete("none", args.weighting_args)  # refuses them: it has no parameters
        return None
    regions, roles = REGION_WEIGHTINGS.own_names, WEIGHTINGS.own_names
    known = regions if args.roles == "regions" else ROLE_WEIGHTINGS
    if args.weighting not in known and args.weighting not in WEIGHTINGS.names[len(roles) :]:
        if args.weighting not in (*regions, *roles):
            raise InputError(
                f"weighting {args.weighting!r} is not known; choose one of none, {', '.join(known)}, or name the "
                "--plugin that adds it"
            )
        raise InputError(
            f"weighting {args.weighting!r} does not go with roles {args.roles}: choose one of none, "
            f"{', '.join(known)}, or other roles"
        )
    if args.weighting not in regions:
        return as_rollout_weighting(WEIGHTINGS.make(args.weighting, args.weighting_args))
    if args.roles != "regions":
        given = REGION_WEIGHTINGS.complete(args.weighting, args.weighting_args)
        ramp = Ramp.of_length(given["ramp"], given["ramp_length"])
        end_points = read_end_points(given["region_weights"], Role)
        return as_rollout_weighting(role_curriculum(end_points=end_points, ramp=ramp))
    return as_rollout_weighting(REGION_WEIGHTINGS.make(args.weighting, args.weighting_args))
