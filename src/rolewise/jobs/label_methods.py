"""Labellers that measure losses, created from the options of `rolewise label`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.preferences import read_preferences
from rolewise.data.readers import Rejected
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.labelling.contrast import Contrast
from rolewise.labelling.measuring import MeasuringLabeller, MeasuringPlan
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.reward import Reward
from rolewise.labelling.rho import Rho
from rolewise.labelling.settings.base import MeasuringConfig
from rolewise.labelling.settings.contrast import ContrastConfig
from rolewise.labelling.settings.reward import RewardConfig
from rolewise.labelling.settings.rho import RhoConfig
from rolewise.labelling.settings.shad import SHADConfig
from rolewise.labelling.shad import SHAD
from rolewise.options.labelling import LabelOptions
from rolewise.training.models import load_tokenizer, model_fingerprint


@dataclass(frozen=True)
class Measured:
    """A labeller with its plan for the data.

    Attributes:
        inputs: hash of its inputs besides model and data.
        rejected: skipped preference pairs.
    """

    labeller: MeasuringLabeller
    plan: MeasuringPlan
    inputs: str
    rejected: list[Rejected]


def settings_of(options: LabelOptions) -> dict[str, Any]:
    """Return all config-file settings of a labelling: the command's options and the settings of the method.

    Those of Rolewise's own methods are options themselves; those of a plugin's stay in `method_args`.

    Raises:
        InputError: for an unknown method, or settings that do not fit it.
    """
    own = {name: value for name, value in asdict(options).items() if name not in ("plan", "method_args")}
    settings = LABELLERS.complete(options.method, options.method_args)
    return {**own, **(settings if options.method in LABELLERS.own_names else {"method_args": settings})}


def make_labeller(options: LabelOptions) -> Any:
    """Return the labeller that `options.method` names, or its settings if it measures losses (`MeasuringConfig`).

    Raises:
        InputError: for an unknown method, or settings that do not fit it.
    """
    labeller = LABELLERS.make(options.method, options.method_args)
    if isinstance(labeller, RewardConfig) and (labeller.preferences is None) == (labeller.reward_model is None):
        raise InputError("method reward needs either preferences, to tune on by DPO, or a tuned reward_model")
    return labeller


def plan_measuring(
    options: LabelOptions,
    config: MeasuringConfig,
    tokenizer: Any,
    renderer: Renderer,
    samples: Sequence[RenderedSample],
) -> Measured:
    """Return the labeller of these settings, with its plan.

    Raises:
        InputError: for unusable preference pairs or an unusable reward model.
    """
    common: dict[str, Any] = {"max_length": options.max_length, "trust_remote_code": options.trust_remote_code}
    labeller: MeasuringLabeller
    inputs = ""
    rejected: list[Rejected] = []
    match config:
        case ContrastConfig():
            labeller = Contrast(options.model, config, **common)
        case SHADConfig():
            labeller = SHAD(options.model, config, **common)
        case RhoConfig():
            labeller = Rho(options.model, config, **common)
        case RewardConfig():
            labeller, inputs, rejected = _reward(options, config, tokenizer, renderer, common)
        case _:
            raise TypeError(f"no labeller has settings of type {type(config).__name__}")
    return Measured(labeller, labeller.plan(samples), inputs, rejected)


def _reward(
    options: LabelOptions, config: RewardConfig, tokenizer: Any, renderer: Renderer, common: dict[str, Any]
) -> tuple[Reward, str, list[Rejected]]:
    if config.reward_model is not None:
        fingerprint = _reward_model_fingerprint(options, config.reward_model, tokenizer)
        reward = Reward(options.model, tokenizer, reward_model=config.reward_model, config=config, **common)
        return reward, fingerprint, []
    assert config.preferences is not None  # ensured by `make_labeller`
    preferences = read_preferences(config.preferences, skip_invalid=options.skip_invalid)
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)  # a copy, to be modified
    tokenizer.chat_template = renderer.given_template or tokenizer.chat_template
    reward = Reward(options.model, tokenizer, preferences=preferences, config=config, **common)
    return reward, preferences.sha256, preferences.rejected


def _reward_model_fingerprint(options: LabelOptions, reward_model: str, tokenizer: Any) -> str:
    """Check that the reward model fits the model, and return the fingerprint of its files."""
    directory = Path(reward_model)
    if (directory / "adapter_config.json").is_file():
        return model_fingerprint(reward_model)
    if not (directory / "config.json").is_file():
        raise InputError(
            f"{directory}: contains neither an adapter (adapter_config.json) nor a model (config.json); give the "
            "directory of a model tuned by DPO"
        )
    trust = options.trust_remote_code
    if tokenizer_fingerprint(load_tokenizer(str(directory), trust_remote_code=trust)) != tokenizer_fingerprint(
        tokenizer
    ):
        raise InputError(f"{directory}: has a different tokenizer than {options.model}, so it can't judge its tokens")
    return model_fingerprint(reward_model, trust_remote_code=trust)
