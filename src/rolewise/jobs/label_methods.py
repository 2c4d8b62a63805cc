"""The labellers that measure losses, made from the options of `rolewise label`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from rolewise.core.errors import InputError
from rolewise.data.preferences import read_preferences
from rolewise.data.readers import Rejected
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.jobs.options import LabelOptions
from rolewise.labelling.reward import Reward, RewardConfig
from rolewise.labelling.rho import Rho, RhoConfig
from rolewise.labelling.shad import SHAD, SHADConfig
from rolewise.labelling.tuned_losses import TunedLossesConfig, TunedLossesPlan, TuningLabeller
from rolewise.training.models import load_tokenizer, model_fingerprint

Config = TypeVar("Config", bound=TunedLossesConfig)


@dataclass(frozen=True)
class Measured:
    """A labeller with its plan for the data.

    Attributes:
        inputs: hash of what it reads besides model and data.
        rejected: preference pairs that were left out.
    """

    labeller: TuningLabeller
    plan: TunedLossesPlan
    inputs: str
    rejected: list[Rejected]


def plan_measuring(
    options: LabelOptions, tokenizer: Any, renderer: Renderer, samples: Sequence[RenderedSample]
) -> Measured:
    """The labeller that `options.method` names, and what it would do.

    Raises:
        InputError: for options, preference pairs or a reward model that can't be used.
    """
    common: dict[str, Any] = {"max_length": options.max_length, "trust_remote_code": options.trust_remote_code}
    labeller: TuningLabeller
    inputs = ""
    rejected: list[Rejected] = []
    match options.method:
        case "shad":
            labeller = SHAD(options.model, _config(SHADConfig, options), **common)
        case "rho":
            labeller = Rho(options.model, _config(RhoConfig, options), **common)
        case _:
            labeller, inputs, rejected = _reward(options, tokenizer, renderer, common)
    return Measured(labeller, labeller.plan(samples), inputs, rejected)


def _reward(
    options: LabelOptions, tokenizer: Any, renderer: Renderer, common: dict[str, Any]
) -> tuple[Reward, str, list[Rejected]]:
    config = _config(RewardConfig, options)
    if options.preferences is None:
        fingerprint = _reward_model_fingerprint(options, tokenizer)
        return (
            Reward(options.model, tokenizer, reward_model=options.reward_model, config=config, **common),
            fingerprint,
            [],
        )
    preferences = read_preferences(options.preferences, skip_invalid=options.skip_invalid)
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)  # one to change
    tokenizer.chat_template = renderer.given_template or tokenizer.chat_template
    reward = Reward(options.model, tokenizer, preferences=preferences, config=config, **common)
    return reward, preferences.sha256, preferences.rejected


def check_method(options: LabelOptions) -> None:
    """Check the options of a method that measures losses, without reading anything.

    Raises:
        InputError: opening with the option's name.
    """
    configs: dict[str, type[TunedLossesConfig]] = {"shad": SHADConfig, "rho": RhoConfig, "reward": RewardConfig}
    _config(configs[options.method], options)


def _config(kind: type[Config], options: LabelOptions) -> Config:
    names = {field.name for field in fields(kind)} & options.__dataclass_fields__.keys()
    return kind(**{name: getattr(options, name) for name in names})


def _reward_model_fingerprint(options: LabelOptions, tokenizer: Any) -> str:
    """Of the reward model's files, after a look at whether it goes with the model."""
    assert options.reward_model is not None
    directory = Path(options.reward_model)
    if (directory / "adapter_config.json").is_file():
        return model_fingerprint(options.reward_model)
    if not (directory / "config.json").is_file():
        raise InputError(
            f"{directory}: holds neither an adapter (adapter_config.json) nor a model (config.json); give the "
            "directory of a model tuned by DPO"
        )
    trust = options.trust_remote_code
    if tokenizer_fingerprint(load_tokenizer(str(directory), trust_remote_code=trust)) != tokenizer_fingerprint(
        tokenizer
    ):
        raise InputError(f"{directory}: has another tokenizer than {options.model}, whose tokens it can't judge")
    return model_fingerprint(options.reward_model, trust_remote_code=trust)
