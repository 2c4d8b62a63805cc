"""Settings of our trainers beside TRL's own fields. Imports nothing heavy, so that `--help` responds at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rolewise.core.components import Components
from rolewise.core.options import adapt
from rolewise.weighting.registry import REGION_WEIGHTINGS, WEIGHTINGS

MAX_LENGTH = 3072
"""Maximum tokens per sample: the limit in SHAD + RFT's paper (arXiv 2412.14780)."""
LM_HEADS = ("auto", "fused", "selected")
ROLES = ("regions", "shad", "contrast")


def _setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    # TRL's and Transformers' parsers pass the metadata on to argparse, so it contains nothing else.
    return field(default=default, metadata={"help": help} | ({"choices": list(choices)} if choices else {}))


@dataclass(kw_only=True)
class WeightingSettings:
    """Settings of the token weighting."""

    TITLE: ClassVar[str] = "weights"
    PARTS: ClassVar[Mapping[str, tuple[Components[Any], ...]]] = {"weighting": (WEIGHTINGS,)}

    weighting: str = _setting("rft", "Token weighting.")
    weighting_args: dict[str, Any] | str | None = _setting(None, "The weighting's parameters.")


@dataclass(kw_only=True)
class SFTSettings(WeightingSettings):
    """Fields that `WeightedSFTConfig` adds to TRL's `SFTConfig`."""

    max_length: int | None = _setting(MAX_LENGTH, "Cut samples to this many tokens; also the length of packed rows.")
    lm_head: str = _setting(
        "auto",
        "Loss computation: fused (TRL's fused head), selected (logits of loss tokens only) or auto.",
        LM_HEADS,
    )


@dataclass(kw_only=True)
@adapt("weighting", default="rest")
class GRPOSettings(WeightingSettings):
    """Fields that `WeightedGRPOConfig` adds to TRL's `GRPOConfig`."""

    PARTS: ClassVar[Mapping[str, tuple[Components[Any], ...]]] = {"weighting": (REGION_WEIGHTINGS, WEIGHTINGS)}

    roles: str = _setting(
        "regions",
        "Basis of the weights: regions of tool calls, or reasoning and boilerplate by shad or contrast.",
        ROLES,
    )
    call_format: str | None = _setting(None, "Format of the responses' tool calls: rlla, hermes, llama3, …")
    gradient_variance: bool = _setting(False, "Log an estimate of the policy gradient's variance, from one layer.")


@dataclass(kw_only=True)
class ReinforceSettings:
    """Fields that `ReinforceConfig` adds to TRL's `GRPOConfig`."""

    TITLE: ClassVar[str] = "tree"

    train_choices: bool = _setting(True, "Also train on the opening tokens that the search chose.")
