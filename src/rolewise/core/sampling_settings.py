"""Options for sampling answers. Imports nothing heavy."""

import math
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import Options, option


@dataclass(kw_only=True)
class Temperature(Options, title="sampling"):
    """The randomness of an answer."""

    temperature: float = option(0.8, "Sampling temperature; 0 is greedy.")

    def validate(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")


@dataclass(kw_only=True)
class SamplingSettings(Temperature):
    """Settings for sampling answers and steps.

    Attributes:
        temperature, top_p, top_k: see `Sampling`.
        seed: the same seed gives the same answers.
    """

    top_p: float = option(0.95, "Sample from the likeliest tokens that make up this share of the probability.")
    top_k: int = option(40, "Sample from this many of the likeliest tokens; 0 for all.", least=0)
    seed: int = option(0, "Random seed.", least=0)

    def validate(self) -> None:
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
