"""Settings of GRPO with token weights, and what they name."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from trl import GRPOConfig

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.core.role import Role
from rolewise.core.transformers_insides import settle_checkpointing
from rolewise.data.tool_calls import CALL_FORMATS
from rolewise.training.rollout_weights import RolloutTokens, RolloutWeighting, as_rollout_weighting
from rolewise.weighting import WEIGHTINGS, make_weighting
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.rest import REGION_WEIGHTINGS, RegionWeighting, make_region_weighting, role_curriculum

ROLES = ("regions", "shad")
ROLE_WEIGHTINGS = ("rest", "rft", "alpha")
"""Weightings of reasoning and boilerplate, beside none and registered ones."""


Code = TypeVar("Code", Region, Role)


@dataclass
class WeightedGRPOConfig(GRPOConfig):  # type: ignore[misc]  # TRL is untyped
    """TRL's `GRPOConfig`, and how tokens are weighted."""

    weighting: str = field(
        default="rest",
        metadata={
            "help": f"How tokens count: none (plain GRPO), {', '.join(REGION_WEIGHTINGS)}, or a registered name; by "
            f"roles of shad {', '.join(ROLE_WEIGHTINGS)}."
        },
    )
    ramp: str = field(
        default="linear",
        metadata={"help": "How weights move over the run: linear, cosine or step (rest, rest-entropy)."},
    )
    ramp_length: float = field(
        default=1.0, metadata={"help": "How long they move: up to 1 a share of the run, above it rollouts."}
    )
    region_weights: str | None = field(
        default=None,
        metadata={"help": "Start and end points of regions, where they differ from rest's: think=0.2:1,tool_name=1.5."},
    )
    static_step: int = field(default=0, metadata={"help": "rest-static: the rollout whose weights hold throughout."})
    roles: str = field(
        default="regions",
        metadata={"help": f"What tokens are weighted by: {', '.join(ROLES)}; for shad pass `roles` to the trainer."},
    )
    inv_tau: float = field(default=0.3, metadata={"help": "rft, with roles shad: 1/τ of the softmax; 0 is ½, ½."})
    alpha: float = field(default=0.3, metadata={"help": "alpha, with roles shad: boilerplate's share of the weight."})
    call_format: str | None = field(
        default=None,
        metadata={"help": f"Format of the responses' tool calls: {', '.join(CALL_FORMATS)}; None recognises it."},
    )
    gradient_variance: bool = field(
        default=False,
        metadata={"help": "Log an estimate of the policy gradient's variance, taken on the last attention layer."},
    )

    def __post_init__(self) -> None:
        # TRL's default is bf16 wherever fp16 is off; without an accelerator that only loses precision.
        if self.bf16 is None and not torch.accelerator.is_available():  # type: ignore[has-type]  # TRL is untyped
            self.bf16 = False
        settle_checkpointing(self)
        super().__post_init__()
        if self.call_format is not None and self.call_format not in CALL_FORMATS:
            raise InputError(f"call_format {self.call_format!r} is not known; choose one of {', '.join(CALL_FORMATS)}")
        make_rollout_weighting(self)


def make_rollout_weighting(args: WeightedGRPOConfig) -> RolloutWeighting | None:
    """The scheme that `args` name; None for `none`, which is plain GRPO.

    Raises:
        InputError: for an unknown name or a value out of range.
    """
    if args.roles not in ROLES:
        raise InputError(f"roles {args.roles!r} is not known; choose one of {', '.join(ROLES)}")
    if args.weighting == "none":
        return None
    known = REGION_WEIGHTINGS if args.roles == "regions" else ROLE_WEIGHTINGS
    if args.weighting not in known and args.weighting in (*REGION_WEIGHTINGS, *WEIGHTINGS):
        raise InputError(
            f"weighting {args.weighting!r} does not go with roles {args.roles}: choose one of none, "
            f"{', '.join(known)}, or other roles"
        )
    if args.weighting not in REGION_WEIGHTINGS:
        return as_rollout_weighting(make_weighting(args.weighting, inv_tau=args.inv_tau, alpha=args.alpha))
    _make(args, total_steps=1)  # what can't be made is refused before the run, not within it

    def weights(tokens: RolloutTokens) -> torch.Tensor:
        return as_rollout_weighting(_make(args, tokens.total_steps))(tokens)

    return weights


def _make(args: WeightedGRPOConfig, total_steps: int) -> RegionWeighting:
    """The region weighting for a run of so many rollouts, a number that is known only within it."""
    if args.ramp_length <= 0 or (args.ramp_length > 1 and args.ramp_length != int(args.ramp_length)):
        raise InputError(f"ramp_length is {args.ramp_length}; give a share of the run up to 1, or a whole number above")
    if args.static_step < 0:
        raise InputError(f"static_step is {args.static_step}; it is the number of a rollout, from 0")
    shape: Any = args.ramp
    ramp = Ramp(0, 1, shape, share=args.ramp_length)
    if args.ramp_length > 1:
        ramp = Ramp(0, 1, shape, steps=int(args.ramp_length))
    if args.roles == "shad":
        return role_curriculum(
            end_points=read_weights(args.region_weights or "", Role), ramp=ramp, total_steps=total_steps
        )
    own = args.weighting == "rest-official"
    if own and (args.ramp, args.ramp_length, args.region_weights) != ("linear", 1.0, None):
        raise InputError("rest-official has its own ramps and end points; choose rest to set them")
    return make_region_weighting(
        args.weighting,
        end_points=None if own else read_weights(args.region_weights or "", Region),
        ramp=None if own else ramp,
        static_step=args.static_step,
        total_steps=total_steps,
    )


def read_weights(text: str, kind: type[Code]) -> dict[Code, tuple[float, float]]:
    """`think=0.2:1,tool_name=1.5` as (start, end) by region, or by role; a single number holds from start to end.

    Raises:
        InputError: for an unknown one, or what is no number.
    """
    known = {code.label: code for code in kind}
    points = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, numbers = entry.partition("=")
        if name.strip() not in known:
            raise InputError(
                f"region_weights: {name.strip()!r} is no {kind.__name__.lower()}; choose from {', '.join(known)}"
            )
        start, _, end = numbers.partition(":")
        try:
            points[known[name.strip()]] = (float(start), float(end or start))
        except ValueError:
            raise InputError(f"region_weights: {entry!r} is not of the form think=0.2:1 or think=0.5") from None
    return points
