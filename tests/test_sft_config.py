"""The `config.yaml` that fine-tuning leaves behind gives the same trainer settings when it is read again."""

import dataclasses
from typing import get_args

import pytest
import yaml

from rolewise.cli.sft import COMMAND
from rolewise.core.options import Dtype
from rolewise.jobs.trainer_settings import written_settings
from rolewise.options.training import SFTOptions
from rolewise.training import models
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.reinforce import ReinforceConfig
from rolewise.training.sft import WeightedSFTConfig

PLACES = ["--model", "m", "--data", "d", "--output", "o"]


def settings(argv: list[str]) -> dict[str, object]:
    """What the trainer would be given for a command line."""
    return written_settings(COMMAND.read(argv)[1])


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--learning-rate", "1e-4", "--warmup-steps", "3", "--gradient-checkpointing", "false"],
        ["--lr-scheduler-type", "cosine_with_min_lr", "--lr-scheduler-kwargs", '{"min_lr": 1e-05}'],
        ["--eos-token", "<|im_end|>", "--eval-share", "0.1"],
        ["--report-to", "tensorboard"],
        ["--inv-tau", "0.7", "--max-length", "2048"],
        ["--weighting", "alpha", "--weighting-arg", "alpha=0.1"],
    ],
)
def test_settings_survive_the_file(flags, tmp_path):
    first = settings([*PLACES, *flags])
    own = {field.name for field in dataclasses.fields(SFTOptions)}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in first.items() if name not in own}))
    assert settings([*PLACES, "--config", str(path)]) == first


def test_what_a_flag_sets_iswritten_settings():
    written = settings([*PLACES, "--lr-scheduler-kwargs", '{"min_lr": 1e-05}', "--report-to", "tensorboard"])
    assert written["lr_scheduler_kwargs"] == {"min_lr": 1e-05}
    assert written["report_to"] == ["tensorboard"]
    assert "eos_token" not in written  # not set: the tokenizer's
    assert "output_dir" not in written


@pytest.mark.parametrize("config", [WeightedSFTConfig, WeightedGRPOConfig, ReinforceConfig])
def test_reporters_and_truth_values_may_be_written_as_text(config):
    quiet = {"output_dir": "", "use_cpu": True, "bf16": False}
    assert config(**quiet, report_to="tensorboard,mlflow").report_to == ["tensorboard", "mlflow"]
    assert config(**quiet, report_to="tensorboard").report_to == ["tensorboard"]
    assert config(**quiet, report_to="none", fsdp="false").fsdp is False


def test_choices_on_the_command_line_are_those_of_the_library():
    assert set(get_args(Dtype)) == set(models.DTYPES)
