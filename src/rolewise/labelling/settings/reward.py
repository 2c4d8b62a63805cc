"""Settings of token rewards, as compared in arXiv 2412.14780."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rolewise.core.errors import InputError
from rolewise.core.options import option
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.settings.base import TunedLossesConfig

if TYPE_CHECKING:
    from rolewise.labelling.tuning import TuningConfig

LEARNING_RATE = 5e-5
BATCH_SIZE = 8
"""Default pairs per optimizer step."""


@LABELLERS.own("reward")
@dataclass(frozen=True, kw_only=True)
class RewardConfig(TunedLossesConfig, title="reward"):
    """Settings of DPO and of the scoring.

    Attributes:
        beta: DPO β: strength of the pull toward the reference model.
    """

    preferences: str | None = option(
        None, "Preference pairs to tune on by DPO: prompt, chosen, rejected. Sources as for data.", several=True
    )
    reward_model: str | None = option(None, "Use this adapter or model, already tuned by DPO, instead.")
    beta: float = option(0.1, "DPO β: strength of the pull toward the reference model.")

    def validate(self) -> None:
        if not self.beta > 0:
            raise InputError(f"beta is {self.beta}; it must be above 0")
        if self.tuning != "lora":
            raise InputError(
                "method reward tunes a LoRA adapter and takes the model without it as the reference; use lora"
            )

    def tuning_of(self, examples: int) -> "TuningConfig":
        """Return the settings for DPO on this many examples."""
        from rolewise.training import processes

        given = replace(self, learning_rate=self.learning_rate or LEARNING_RATE)
        if self.batch_size is None and examples:
            given = replace(given, batch_size=min(BATCH_SIZE, examples) * processes.count())
        return TunedLossesConfig.tuning_of(given, examples)
