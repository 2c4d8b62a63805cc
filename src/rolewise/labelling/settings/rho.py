"""Settings of Rho-1 (arXiv 2404.07965)."""

from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.settings.base import TunedLossesConfig


@LABELLERS.own("rho")
@dataclass(frozen=True, kw_only=True)
class RhoConfig(TunedLossesConfig, title="rho"):
    """Settings of Rho-1; `TunedLossesConfig` holds those of the tuning.

    Attributes:
        reference_share: share of the samples to tune a reference model on (paper: 5 %).
        min_references: minimum number of such samples, data permitting; without cross-fitting at most half of the
            conversations are used, since nothing could judge the others.
        keep_share: share of the tokens to keep.
    """

    reference_share: float = option(0.05, "Share of the samples to tune a reference model on.")
    min_references: int = option(64, "Minimum number of such samples per reference, data permitting.", least=1)
    keep_share: float = option(0.6, "Share of the tokens to keep: those whose loss fell most.")

    def validate(self) -> None:
        for name in ("reference_share", "keep_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
