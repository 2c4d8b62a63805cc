"""How much each token counts: one interface, and the schemes that implement it."""

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.ramp import RAMP_SHAPES, Ramp
from rolewise.weighting.registry import WEIGHTINGS, make_weighting, register_weighting
from rolewise.weighting.rest import (
    REGION_WEIGHTINGS,
    EntropyResT,
    RegionWeighting,
    ResT,
    ResTOfficial,
    StaticResT,
    make_region_weighting,
    mean_entropies,
    rescaled_to_mean_one,
)
from rolewise.weighting.schemes import RFT, AlphaFT, RewardSoftmax, SampleMean
from rolewise.weighting.token_means import ConstantWeights, DynamicFineTuning, KeptTokens, TokenMean

__all__ = [
    "RAMP_SHAPES",
    "REGION_WEIGHTINGS",
    "RFT",
    "WEIGHTINGS",
    "AlphaFT",
    "ConstantWeights",
    "DynamicFineTuning",
    "EntropyResT",
    "KeptTokens",
    "Ramp",
    "RegionWeighting",
    "ResT",
    "ResTOfficial",
    "RewardSoftmax",
    "SampleMean",
    "StaticResT",
    "TokenBatch",
    "TokenMean",
    "Weighting",
    "make_region_weighting",
    "make_weighting",
    "mean_entropies",
    "register_weighting",
    "rescaled_to_mean_one",
]
