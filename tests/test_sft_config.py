"""The `config.yaml` that fine-tuning leaves behind gives the same trainer settings when it is read again."""

import dataclasses

import pytest
import yaml

from rolewise import weighting
from rolewise.cli.parser import build_parser, parse
from rolewise.cli.sft import _training_config, _training_parser
from rolewise.jobs import options
from rolewise.jobs.options import SFTOptions
from rolewise.jobs.trainer_settings import written_settings
from rolewise.training import models
from rolewise.training.sft import WeightedSFTConfig

PLACES = ["--model", "m", "--data", "d", "--output", "o"]


def settings(argv: list[str]) -> dict[str, object]:
    """What the trainer would be given for a command line."""
    names = [field.name for field in dataclasses.fields(WeightedSFTConfig) if field.init]
    ours, rest = parse(build_parser("rolewise sft", "", SFTOptions), SFTOptions, argv, other_names=names)
    return written_settings(_training_config(_training_parser(WeightedSFTConfig), ours, rest))


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--learning-rate", "1e-4", "--warmup-steps", "3", "--gradient-checkpointing", "false"],
        ["--lr-scheduler-type", "cosine_with_min_lr", "--lr-scheduler-kwargs", '{"min_lr": 1e-05}'],
        ["--eos-token", "<|im_end|>", "--eval-share", "0.1"],
        ["--report-to", "tensorboard"],
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


def test_choices_on_the_command_line_are_those_of_the_library():
    assert set(options.WEIGHTINGS) == set(weighting.WEIGHTINGS)
    assert set(options.DTYPES) == set(models.DTYPES)
