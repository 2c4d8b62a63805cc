"""Settings of SHAD (arXiv 2412.14780, section 3.1)."""

import math
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.settings.base import TunedLossesConfig


@LABELLERS.own("shad")
@dataclass(frozen=True, kw_only=True)
class SHADConfig(TunedLossesConfig, title="shad"):
    """Settings of SHAD; `TunedLossesConfig` holds those of the tuning.

    Attributes:
        shuffle_share: share of the assistant turns to shuffle (paper: 1 %).
        min_pairs: minimum number of shuffled pairs, data permitting.
        threshold: tokens with an LD above it are reasoning, in nats.
        format_quantile: boilerplate with a base loss below this quantile of boilerplate's base losses is FORMAT; None
            for no split.
    """

    shuffle_share: float = option(0.01, "Share of the assistant turns to shuffle.")
    min_pairs: int = option(64, "Minimum number of shuffled pairs per tuned model, data permitting.")
    threshold: float = option(0.0, "A token whose loss rises by more than this (nats) is reasoning.")
    format_quantile: float | None = option(
        0.5, "Boilerplate with a base loss below this quantile is format, the rest template."
    )

    def validate(self) -> None:
        if not 0 < self.shuffle_share <= 1:
            raise InputError(f"shuffle_share is {self.shuffle_share}; it must be above 0 and at most 1")
        if self.min_pairs < 2:
            raise InputError(f"min_pairs is {self.min_pairs}; shuffling needs at least 2")
        check_classification(self.threshold, self.format_quantile)


def check_classification(threshold: float, format_quantile: float | None) -> None:
    """Check both numbers before any work starts.

    Raises:
        InputError: for a threshold that is not finite, or a quantile outside 0 to 1.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold is {threshold}; it must be a finite number of nats")
    if format_quantile is not None and not 0 <= format_quantile <= 1:
        raise InputError(f"format_quantile is {format_quantile}; it must be from 0 to 1, or none")
