"""Weights of tokens: one interface, and the schemes that implement it."""

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.ramp import RAMP_SHAPES, Ramp
from rolewise.weighting.region_schemes.rest import ResT
from rolewise.weighting.region_schemes.rest_entropy import EntropyResT
from rolewise.weighting.region_schemes.rest_official import ResTOfficial
from rolewise.weighting.region_schemes.rest_static import StaticResT
from rolewise.weighting.regions import RegionWeighting
from rolewise.weighting.registry import REGION_WEIGHTINGS, WEIGHTINGS, make_weighting, register_weighting
from rolewise.weighting.schemes.alpha import AlphaFT
from rolewise.weighting.schemes.dft import DynamicFineTuning
from rolewise.weighting.schemes.plain import SampleMean, TokenMean
from rolewise.weighting.schemes.regex import ConstantWeights
from rolewise.weighting.schemes.reward import RewardSoftmax
from rolewise.weighting.schemes.rft import RFT
from rolewise.weighting.schemes.rho import KeptTokens

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
    "make_weighting",
    "register_weighting",
]
