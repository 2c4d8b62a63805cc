"""How much each token counts: one interface, and the schemes that implement it."""

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.registry import WEIGHTINGS, make_weighting, register_weighting
from rolewise.weighting.schemes import RFT, AlphaFT, RewardSoftmax, SampleMean
from rolewise.weighting.token_means import ConstantWeights, DynamicFineTuning, KeptTokens, TokenMean

__all__ = [
    "RFT",
    "WEIGHTINGS",
    "AlphaFT",
    "ConstantWeights",
    "DynamicFineTuning",
    "KeptTokens",
    "RewardSoftmax",
    "SampleMean",
    "TokenBatch",
    "TokenMean",
    "Weighting",
    "make_weighting",
    "register_weighting",
]
