"""Options and trainer's settings of the same name: different values are refused, none is trained by in silence."""

from dataclasses import fields

import pytest

from rolewise.core.errors import InputError
from rolewise.jobs.grpo import train_grpo
from rolewise.jobs.grpo_options import GRPOOptions
from rolewise.jobs.options import SFTOptions
from rolewise.jobs.reinforce import reinforce
from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.jobs.sft import fine_tune
from rolewise.jobs.trainer_settings import doubled, refuse_differing
from rolewise.jobs.warmup_options import WarmupOptions
from rolewise.training.grpo import WeightedGRPOConfig
from rolewise.training.reinforce import ReinforceConfig
from rolewise.training.sft import WeightedSFTConfig

PLACES = {"model": "m", "data": "d", "output": "o"}
QUIET = {"output_dir": "", "use_cpu": True, "report_to": "none"}
OTHER = {
    "weighting": "none",
    "inv_tau": 0.7,
    "alpha": 0.1,
    "format_weight": 0.9,
    "max_length": 17,
    "trust_remote_code": True,
    "ramp": "cosine",
    "ramp_length": 0.5,
    "region_weights": "think=0.2:1",
    "static_step": 3,
    "roles": "shad",
    "call_format": "hermes",
    "gradient_variance": True,
    "train_choices": False,
}
PAIRS = [
    (SFTOptions, WeightedSFTConfig, fine_tune),
    (GRPOOptions, WeightedGRPOConfig, train_grpo),
    (ReinforceOptions, ReinforceConfig, reinforce),
]


def names(options, config):
    return {field.name for field in fields(options)} & {field.name for field in fields(config)}


def cases():
    return [
        pytest.param(*pair, name, id=f"{pair[0].__name__}-{name}")
        for pair in PAIRS
        for name in sorted(names(*pair[:2]))
    ]


@pytest.mark.parametrize(("options", "config", "train", "name"), cases())
def test_differing_values_are_refused_naming_both(options, config, train, name):
    ours = options(**PLACES)
    theirs = {**doubled(ours, config), name: OTHER[name]}
    if name == "max_length":
        ours = options(**PLACES, max_length=40)
    value, other = getattr(ours, name), OTHER[name]
    with pytest.raises(InputError) as told:
        train(ours, config(**QUIET, **theirs))
    line = f"{name} is {value!r} in {options.__name__} and {other!r} in {config.__name__}; give both the same"
    assert str(told.value) == line


def test_what_the_issue_tried():
    with pytest.raises(InputError, match=r"weighting is 'none' in GRPOOptions and 'rest' in WeightedGRPOConfig"):
        train_grpo(GRPOOptions(**PLACES, weighting="none"), WeightedGRPOConfig(**QUIET, call_format="rlla"))
    with pytest.raises(InputError, match=r"weighting is 'rft' in SFTOptions and 'alpha' in WeightedSFTConfig"):
        fine_tune(SFTOptions(**PLACES), WeightedSFTConfig(**QUIET, weighting="alpha"))


def test_warm_up_trains_by_the_options_of_fine_tuning():
    options = WarmupOptions(model="m", data="d", output="o", weighting="rft").of_training("d")
    with pytest.raises(InputError, match="weighting is 'rft' in SFTOptions and 'none'"):
        fine_tune(options, WeightedSFTConfig(**QUIET, weighting="none"))


def test_a_length_that_only_the_trainer_has_is_refused():
    """It would cut answers that nobody counts, and the record would have none."""
    ours = SFTOptions(**PLACES, weighting="none")
    with pytest.raises(InputError, match=r"^max_length is None in SFTOptions and 40 in WeightedSFTConfig; give both"):
        fine_tune(ours, WeightedSFTConfig(**QUIET, weighting="none", max_length=40))
    for harmless in (None, 3072):
        refuse_differing(ours, WeightedSFTConfig(**QUIET, weighting="none", max_length=harmless))


DECIDED = {
    "model_init_kwargs": {"dtype": "bfloat16"},
    "resume_from_checkpoint": "elsewhere",
    "push_to_hub": True,
    "hub_model_id": "owner/name",
    "hub_strategy": "end",
}


@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize(("options", "config", "train"), PAIRS)
def test_what_the_run_decides_is_refused_by_name(options, config, train, name):
    ours = options(**PLACES)
    given = {**QUIET, **doubled(ours, config), name: DECIDED[name]}
    with pytest.raises(InputError, match=rf"^{name} of {config.__name__} would have no effect here"):
        train(ours, config(**given))


@pytest.mark.parametrize(("options", "config", "train"), PAIRS)
def test_equal_values_pass(options, config, train):
    ours = options(**PLACES)
    refuse_differing(ours, config(**QUIET, **doubled(ours, config)))
    assert names(options, config) - {"max_length"} == set(doubled(ours, config))
