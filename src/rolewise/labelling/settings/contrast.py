"""Settings of contrast."""

import math
from dataclasses import dataclass
from typing import Literal

from rolewise.core.errors import InputError
from rolewise.core.options import adapt, option
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.settings.base import MeasuringConfig

Estimator = Literal["mean", "mixture", "posterior", "best"]


@LABELLERS.own("contrast")
@dataclass(frozen=True, kw_only=True)
@adapt("seed", help="Seed of the draw of histories.")
class ContrastConfig(MeasuringConfig, title="contrast"):
    """Settings of contrast; `MeasuringConfig` holds those of the scoring.

    Attributes:
        histories: number K of other histories per output.
        same_beginning: draw the histories among those whose own output begins with the same tokens.
        estimator: the loss without the input, from the K losses of a token: their `mean`; that of the `mixture` of the
            K predictions; the same with each history weighted by its `posterior`, given the output so far; that of
            the `best` history.
        pooling: judge each `word` by its token with the largest score, or each `token` alone.
        rarity: λ, the weight of a token's rarity in the score.
        rules: format tokens that rules find are FORMAT, whatever their score.
        copies: words that this or an earlier output of the conversation has said, as far as the sample shows it, are
            boilerplate, whatever their score.
        punctuation: punctuation outside of words is boilerplate, whatever its score; operators are not punctuation.
        threshold: tokens with a score above it are reasoning, in nats.
    """

    histories: int = option(4, "Number of other histories to score each output under.", least=1)
    same_beginning: bool = option(True, "Draw histories whose own output begins with the same tokens.")
    estimator: Estimator = option("mean", "Estimator of a token's loss without its input, from its losses.")
    pooling: Literal["word", "token"] = option("word", "Judge whole words by their largest score, or each token.")
    rarity: float = option(0.0, "Weight of a token's rarity among the other conversations in the score.")
    rules: bool = option(True, "Format tokens found by rules are format, whatever their score.")
    copies: bool = option(True, "Words that the output has said before are boilerplate.")
    punctuation: bool = option(True, "Punctuation outside of words, except operators, is boilerplate.")
    threshold: float = option(0.5, "A token whose score (nats) is above this is reasoning.")

    def validate(self) -> None:
        if not 0 <= self.rarity < math.inf:
            raise InputError(f"rarity is {self.rarity}; it must be a finite number, 0 or more")
        check_score_threshold(self.threshold)


LOWEST, HIGHEST = -2.0, 6.0
"""Contrast is clipped to this range (nats): a single surprising token must not outweigh everything else."""


def check_score_threshold(threshold: float) -> None:
    """Check a threshold of contrast's score before any work starts.

    Raises:
        InputError: for a threshold below the lowest score, which decided tokens have, or not finite.
    """
    if not LOWEST <= threshold < math.inf:
        raise InputError(f"threshold is {threshold}; it must be a finite number of nats, {LOWEST:g} or more")
