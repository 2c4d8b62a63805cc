"""SHAD's tuning takes the steps it is asked for, and its losses can't be mistaken."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rolewise.core.errors import InputError
from rolewise.data.render import RenderedSample, Turn
from rolewise.labelling.scoring import MeasuredLosses, plan_shards, score
from rolewise.labelling.tuning import TuningConfig, trainer_arguments
from rolewise.training.sft import WeightedSFTConfig


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 6, 7, 32])
def test_a_step_takes_as_many_pairs_as_asked_for(batch_size: int, tmp_path: Path) -> None:
    config = TuningConfig(
        **{"method": "lora", "learning_rate": 1e-3, "rank": 4, "epochs": 1, "dtype": "float32", "seed": 0},
        batch_size=batch_size,
        micro_batch_size=4,
    )
    arguments = WeightedSFTConfig(**trainer_arguments(tmp_path, config, on_gpu=False))
    assert arguments.per_device_train_batch_size <= 4
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == batch_size


def samples_of(lengths: tuple[int, ...]) -> list[RenderedSample]:
    return [
        RenderedSample(
            input_ids=np.arange(length, dtype=np.int32) + 100 * number,
            loss_mask=np.arange(length) > 1,
            char_start=np.arange(length, dtype=np.int32),
            char_end=np.arange(length, dtype=np.int32) + 1,
            text="x" * length,
            turns=(Turn(2, length),),
            source=f"file:{number}",
        )
        for number, length in enumerate(lengths)
    ]


def ids_as_losses(fold: int, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    losses_N = ids_BT[labels_BT != -100].float()
    return losses_N, losses_N + 0.5


def test_a_run_resumed_with_other_batches_does_not_read_the_old_ones(tmp_path: Path) -> None:
    """Batches depend on the device unless given; another machine may finish what a first one began."""
    samples = samples_of((9, 8, 7, 6, 5, 4))
    for batch_tokens in (20, 9):
        shards = plan_shards(samples, [0] * len(samples), batch_tokens, batch_tokens)
        list(score(shards, samples, ids_as_losses, tmp_path, "cpu"))
        measured = MeasuredLosses(shards, samples, tmp_path)
        for sample, (base_T, tuned_T, _) in zip(samples, measured, strict=True):
            assert base_T[2:].tolist() == sample.input_ids[2:].tolist()
            assert tuned_T[2:].tolist() == (sample.input_ids[2:] + 0.5).tolist()


def test_losses_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    samples = samples_of((5, 4))

    def broken(fold: int, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        base_N, tuned_N = ids_as_losses(fold, ids_BT, labels_BT)
        return base_N, tuned_N * float("nan")

    with pytest.raises(InputError, match=r"file:0: losses .* not finite"):
        list(score(plan_shards(samples, [0, 0], 100, 100), samples, broken, tmp_path, "cpu"))
    assert not list(tmp_path.iterdir())
