"""How much each token counts: one interface, and the schemes that implement it."""

from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.schemes import (
    RFT,
    WEIGHTINGS,
    AlphaFT,
    SampleMean,
    TokenMean,
    make_weighting,
    register_weighting,
)

__all__ = [
    "RFT",
    "WEIGHTINGS",
    "AlphaFT",
    "SampleMean",
    "TokenBatch",
    "TokenMean",
    "Weighting",
    "make_weighting",
    "register_weighting",
]
