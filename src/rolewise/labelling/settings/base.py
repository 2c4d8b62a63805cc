"""Settings shared by all labellers that measure losses, and by those that compare them before and after tuning."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rolewise.core.errors import InputError
from rolewise.core.options import Dtype, Options, option

if TYPE_CHECKING:
    from rolewise.labelling.tuning import TuningConfig

MANY_EXAMPLES = 1000
"""From this many examples on, tuning uses the paper's fine-tuning batch and (full tuning) its learning rate."""


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig(Options, title="scoring"):
    """Settings of the scoring.

    Attributes:
        dtype: weight and compute dtype. With bfloat16, rounding flips the sign of a small difference on many tokens.
        batch_tokens: padded tokens per forward pass; default 2,048 on a CPU, else 16,384.
        seed: seed of everything that is drawn.
    """

    dtype: Dtype = option("float32", "Weight and compute dtype. Lower precision flips labels.")
    batch_tokens: int | None = option(None, "Tokens scored per batch. Default: 2048 on a CPU, 16384 on a GPU.", least=1)
    seed: int = option(0, "Seed of the draw of examples and of the tuning.", least=0)


@dataclass(frozen=True, kw_only=True)
class TunedLossesConfig(MeasuringConfig, title="tuning"):
    """Settings of the tuning. None means a default that depends on data size or device.

    Attributes:
        cross_fit: judge each half of the data with the model tuned on the other half. Without it a single model is
            tuned, and outputs that it was tuned on stay PLAIN.
        tuning: `lora` or `full`.
        learning_rate: default below 1,000 examples 1e-3 for LoRA and 1e-4 for full tuning (a few dozen steps at the
            usual 2e-4 hardly move LoRA's matrices), else 2e-4 and 1e-5.
        rank: rank of the LoRA matrices.
        batch_size: examples per optimizer step; default 2 below 1,000 examples, else 32.
        micro_batch_size: maximum examples per forward pass while tuning.
        epochs: passes over the examples.
    """

    cross_fit: bool = option(True, "Judge each half of the data with the model tuned on the other half.")
    tuning: Literal["lora", "full"] = option("lora", "Tune a LoRA adapter or all weights.")
    learning_rate: float | None = option(
        None, "Learning rate. Default: depends on the number of examples and the kind of tuning."
    )
    rank: int = option(16, "Rank of the LoRA matrices.", least=1)
    batch_size: int | None = option(
        None, "Examples per optimizer step. Default: 2 below 1,000 examples, else 32; reward: 8.", least=1
    )
    micro_batch_size: int = option(4, "Examples per forward pass while tuning.", least=1)
    epochs: int = option(1, "Passes over the examples.", least=1)

    def validate(self) -> None:
        if self.learning_rate is not None and not (0 < self.learning_rate < math.inf):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be a finite number above 0")

    def tuning_of(self, examples: int) -> "TuningConfig":
        """Return the settings for tuning on this many examples, on all processes."""
        from rolewise.labelling.tuning import TuningConfig

        few = examples < MANY_EXAMPLES
        rates = {"lora": 1e-3 if few else 2e-4, "full": 1e-4 if few else 1e-5}
        return TuningConfig(
            method=self.tuning,
            learning_rate=self.learning_rate or rates[self.tuning],
            rank=self.rank,
            batch_size=_shared_batch(self.batch_size, 2 if few else 32),
            micro_batch_size=self.micro_batch_size,
            epochs=self.epochs,
            dtype=self.dtype,
            seed=self.seed,
        )


def _shared_batch(given: int | None, default: int) -> int:
    """Return the examples per optimizer step, equal on each process; the default is rounded up to be divisible."""
    from rolewise.training import processes

    count = processes.count()
    if given is None:
        return math.ceil(default / count) * count
    if given % count:
        raise InputError(f"batch_size {given} can't be divided among {count} processes; give a multiple of {count}")
    return given
