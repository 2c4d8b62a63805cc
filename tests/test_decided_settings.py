"""Settings of the trainer that the command's options and the run decide are refused by name."""

import pytest

from rolewise.core.errors import InputError
from rolewise.jobs.grpo import train_grpo
from rolewise.jobs.reinforce import reinforce
from rolewise.jobs.sft import fine_tune
from rolewise.options.training import GRPOOptions, ReinforceOptions, SFTOptions
from rolewise.training.grpo import WeightedGRPOConfig
from rolewise.training.reinforce import ReinforceConfig
from rolewise.training.sft import WeightedSFTConfig

PLACES = {"model": "m", "data": "d", "output": "o"}
QUIET = {"output_dir": "", "use_cpu": True, "report_to": "none"}
TRAININGS = [
    (SFTOptions, WeightedSFTConfig, fine_tune),
    (GRPOOptions, WeightedGRPOConfig, train_grpo),
    (ReinforceOptions, ReinforceConfig, reinforce),
]
DECIDED = {
    "model_init_kwargs": {"dtype": "bfloat16"},
    "resume_from_checkpoint": "elsewhere",
    "push_to_hub": True,
    "hub_model_id": "owner/name",
    "hub_strategy": "end",
    "trust_remote_code": True,
}


@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize(("options", "config", "train"), TRAININGS)
def test_what_the_run_decides_is_refused_by_name(options, config, train, name):
    with pytest.raises(InputError, match=rf"^{name} of {config.__name__} would have no effect here"):
        train(options(**PLACES), config(**QUIET, **{name: DECIDED[name]}))
