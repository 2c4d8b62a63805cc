"""The options of an experiment's steps, checked as the commands would check them; errors name the place in the file."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from rolewise.core.errors import InputError
from rolewise.evaluation.answer_checks import make_checker
from rolewise.experiment.config import Experiment
from rolewise.jobs.grpo import check_grpo
from rolewise.jobs.grpo_options import OF_THE_TRAINER, GRPOOptions
from rolewise.jobs.label_methods import check_method
from rolewise.jobs.options import LabelOptions, SFTOptions
from rolewise.jobs.sample_options import SampleOptions
from rolewise.jobs.sft import check_training
from rolewise.labelling.labellers import PLANNED, find_labeller
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting import make_weighting

SFT_DEFAULTS = {f.name: f.default for f in dataclasses.fields(SFTOptions) if f.default is not dataclasses.MISSING}
GRPO_DEFAULTS = {f.name: f.default for f in dataclasses.fields(GRPOOptions) if f.default is not dataclasses.MISSING}
_ANYTHING = (InputError, ValueError, TypeError, ImportError)  # the latter three are Transformers' and TRL's


def sampling_options(experiment: Experiment, values: Mapping[str, Any], entry: int) -> SampleOptions:
    """Options of a sampling; `entry` is the place among `methods` of the one that asks for it.

    Raises:
        InputError: for options that can't be used.
    """
    try:
        options = SampleOptions(
            model="", output="", **common(experiment), **data_of(experiment, SampleOptions), **values
        )
        make_checker(options.check).close()
    except InputError as error:
        raise _placed(experiment, "sample", values, entry, error) from error
    return options


def label_options(experiment: Experiment, values: Mapping[str, Any], entry: int | None) -> LabelOptions:
    """Options of a labelling; `entry` as for `sampling_options`, None if no method asks for it.

    Raises:
        InputError: for options that can't be used.
    """
    try:
        options = LabelOptions(model="", output="", **common(experiment), **experiment.data, **values)
        if options.method in PLANNED:
            check_method(options)
        else:
            find_labeller(options.method)
    except InputError as error:
        raise _placed(experiment, "label", values, entry, error) from error
    return options


def check_sft(experiment: Experiment, options: Mapping[str, Any], entry: int) -> None:
    """Check options of `rolewise sft`.

    Raises:
        InputError: for options that can't be used, or a weighting that reads labels where there are none.
    """
    own = {name: value for name, value in options.items() if name in SFT_DEFAULTS}
    theirs = {name: value for name, value in options.items() if name not in SFT_DEFAULTS}
    try:
        weighting = make_weighting(SFTOptions(model="", data="", output="", **own).weighting)
        check_training(WeightedSFTConfig(output_dir="", **{"report_to": "none", **theirs}))
    except _ANYTHING as error:
        raise _placed(experiment, "training", options, entry, error) from error
    if experiment.methods[entry].method.label is None and (weighting.needs_roles or weighting.needs_scores):
        raise InputError(
            f"methods[{entry}]: weighting {options['weighting']} reads labels; say which, e.g. label: {{method: shad}}"
        )


def check_reinforcement(experiment: Experiment, options: Mapping[str, Any], entry: int) -> None:
    """Check options of `rolewise grpo`.

    Raises:
        InputError: for options that can't be used.
    """
    own = {name: value for name, value in options.items() if name in GRPO_DEFAULTS}
    theirs = {name: value for name, value in options.items() if name not in own or name in OF_THE_TRAINER}
    if options.get("eval_data"):
        theirs.setdefault("eval_strategy", "epoch")
    if experiment.launch["grpo"] != [sys.executable]:
        # How many responses a step takes depends on the number of processes, which is the launcher's to know.
        responses = theirs.get("num_generations", 8)
        theirs |= dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), responses)
        theirs |= {"steps_per_generation": 1, "generation_batch_size": None, "num_generations_eval": None}
    try:
        checked = GRPOOptions(model="", output="", **common(experiment), **data_of(experiment, GRPOOptions), **own)
        check_grpo(checked, WeightedGRPOConfig(output_dir="", **{"report_to": "none", **theirs}))
    except _ANYTHING as error:
        raise _placed(experiment, "grpo", options, entry, error) from error


def common(experiment: Experiment) -> dict[str, Any]:
    """Options of every command."""
    return {"plugin": ",".join(experiment.plugin) or None, "trust_remote_code": experiment.trust_remote_code}


def data_of(experiment: Experiment, options: type) -> dict[str, Any]:
    """What the experiment says of its data, as far as a command's options take it."""
    known = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in experiment.data.items() if name in known}


def _placed(
    experiment: Experiment, section: str, options: Mapping[str, Any], entry: int | None, error: Exception
) -> InputError:
    """The error with the section of the file before it that the option stands in which it opens with."""
    said = " ".join(str(error).split())
    option = said.split()[0]
    if option in experiment.data:
        return InputError(f"data.{said}")
    own = getattr(experiment.methods[entry], section) if entry is not None else {}
    if entry is None or (option in getattr(experiment, section) and option not in own):
        return InputError(f"{section}.{said}")
    place = f"methods[{entry}]" if section == "training" else f"methods[{entry}].{section}"
    return InputError(f"{place}.{said}" if option in options else f"{place}: {said}")
