"""Check the options of an experiment's steps as the commands would; errors name the place in the file."""

import dataclasses
import sys
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from rolewise.core.components import Components
from rolewise.core.errors import InputError
from rolewise.core.option_fields import fields_of
from rolewise.evaluation.answer_checks import make_checker
from rolewise.experiment_runner.config import GRPO, LABEL, SAMPLE, TRAINING, Experiment
from rolewise.experiment_runner.option_values import StepOptions
from rolewise.jobs.grpo import check_grpo
from rolewise.jobs.label_methods import make_labeller
from rolewise.jobs.sft import check_training
from rolewise.options.answers import SampleOptions
from rolewise.options.labelling import LabelOptions
from rolewise.options.training import GRPOOptions, SFTOptions
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.settings import GRPOSettings, SFTSettings
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting.registry import make_weighting

T = TypeVar("T")

_ANYTHING = (InputError, ValueError, TypeError, ImportError)  # the latter three come from Transformers and TRL


def sampling_options(experiment: Experiment, values: Mapping[str, Any], entry: int) -> SampleOptions:
    """Return the options of a sampling; `entry` is the index in `methods` of the entry that needs it.

    Raises:
        InputError: for unusable options.
    """
    try:
        options = _made(SAMPLE, SampleOptions, {**common(experiment), **data_of(experiment, SampleOptions), **values})
        make_checker(options.check).close()
    except InputError as error:
        raise _placed(experiment, "sample", values, entry, error) from error
    return options


def label_options(experiment: Experiment, values: Mapping[str, Any], entry: int | None) -> LabelOptions:
    """Return the options of a labelling; `entry` as for `sampling_options`, None if no method needs it.

    Raises:
        InputError: for unusable options.
    """
    try:
        options = _made(LABEL, LabelOptions, {**common(experiment), **experiment.data, **values})
        make_labeller(options)
    except InputError as error:
        raise _placed(experiment, "label", values, entry, error) from error
    return options


def check_sft(experiment: Experiment, options: Mapping[str, Any], entry: int) -> None:
    """Check options of `rolewise sft`.

    Raises:
        InputError: for unusable options, or a weighting that reads labels if there are none.
    """
    try:
        _made(TRAINING, SFTOptions, {**options, "data": ""})
        theirs = TRAINING.table.distributed(options)[WeightedSFTConfig]
        training = WeightedSFTConfig(output_dir="", **{"report_to": "none", **theirs})
        weighting = make_weighting(training.weighting, training.weighting_args)
        check_training(training)
    except _ANYTHING as error:
        raise _placed(experiment, "training", options, entry, error) from error
    if experiment.methods[entry].method.label is None and (weighting.needs_roles or weighting.needs_scores):
        raise InputError(
            f"methods[{entry}]: weighting {options['weighting']} reads labels; add some, e.g. label: {{method: shad}}"
        )


def check_reinforcement(experiment: Experiment, options: Mapping[str, Any], entry: int) -> None:
    """Check options of `rolewise grpo`.

    Raises:
        InputError: for unusable options.
    """
    theirs = {"report_to": "none", **({"eval_strategy": "epoch"} if options.get("eval_data") else {})}
    alone: dict[str, Any] = {}
    if experiment.launch["grpo"] != [sys.executable]:
        # The number of responses per step depends on the number of processes, which only the launcher knows.
        responses = options.get("num_generations", 8)
        alone = dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), responses)
        alone |= {"steps_per_generation": 1, "generation_batch_size": None, "num_generations_eval": None}
    try:
        own = {**common(experiment), **data_of(experiment, GRPOOptions), **options}
        training = {**theirs, **GRPO.table.distributed(options)[WeightedGRPOConfig], **alone}
        check_grpo(_made(GRPO, GRPOOptions, own), WeightedGRPOConfig(output_dir="", **training))
    except _ANYTHING as error:
        raise _placed(experiment, "grpo", options, entry, error) from error


def defaults_of(command: str) -> dict[str, Any]:
    """Return the defaults of Rolewise's own options of `sft` or `grpo`, including all weightings' parameters."""
    own, settings, table = {
        "sft": (SFTOptions, SFTSettings, TRAINING.table),
        "grpo": (GRPOOptions, GRPOSettings, GRPO.table),
    }[command]
    options = [*fields_of(own).values(), *fields_of(settings).values(), *map(table.described, table.readers)]
    return {option.name: option.default for option in options if option.default is not dataclasses.MISSING}


def read_by(components: Collection[Components[Any]], part: str, name: str) -> bool:
    """Return True unless a shared option is a parameter that only other parts read."""
    if not any(name in component.parameters_of_all() for component in components):
        return True
    return any(part in component.names and name in component.parameters(part) for component in components)


def common(experiment: Experiment) -> dict[str, Any]:
    """Return the options that every command gets."""
    return {"plugin": ",".join(experiment.plugin) or None, "trust_remote_code": experiment.trust_remote_code}


def data_of(experiment: Experiment, options: type) -> dict[str, Any]:
    """Return the experiment's data options that a command's options include."""
    known = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in experiment.data.items() if name in known}


def _made(step: StepOptions, owner: type[T], values: Mapping[str, Any]) -> T:
    """Make an owner's options, with placeholders for input and output."""
    return owner(**{"model": "", "output": "", **step.table.distributed(values)[owner]})


def _placed(
    experiment: Experiment, section: str, options: Mapping[str, Any], entry: int | None, error: Exception
) -> InputError:
    """Prefix the error with the section of the file that contains the option that it starts with."""
    said = " ".join(str(error).split())
    option = said.split()[0]
    if option in experiment.data:
        return InputError(f"data.{said}")
    own = getattr(experiment.methods[entry], section) if entry is not None else {}
    if entry is None or (option in getattr(experiment, section) and option not in own):
        return InputError(f"{section}.{said}")
    place = f"methods[{entry}]" if section == "training" else f"methods[{entry}].{section}"
    return InputError(f"{place}.{said}" if option in options else f"{place}: {said}")
