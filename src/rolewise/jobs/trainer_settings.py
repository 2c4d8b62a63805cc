"""Settings of TRL's trainers, as every training command checks and writes them."""

import math
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from rolewise.core.errors import InputError
from rolewise.core.transformers_insides import CHECKPOINTING_NAMES, lacks_reporter
from rolewise.jobs.options import MAX_LENGTH, WITHOUT_EFFECT


def check_trainer(training: TrainingArguments) -> None:
    """Check what would fail late and in a library's words, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(training, name) < 1:
            raise InputError(f"{name} is {getattr(training, name)}; it must be at least 1")
    for name in ("learning_rate", "num_train_epochs"):
        if not 0 < getattr(training, name) < math.inf:
            raise InputError(f"{name} is {getattr(training, name)}; it must be a finite number above 0")
    if training.max_steps != -1 and training.max_steps < 1:
        raise InputError(f"max_steps is {training.max_steps}; it must be at least 1, or -1 to count in epochs")
    if training.save_strategy == "steps" and training.save_steps <= 0:
        raise InputError(f"save_steps is {training.save_steps}; it must be above 0")
    if not 0 <= training.max_grad_norm < math.inf:
        raise InputError(f"max_grad_norm is {training.max_grad_norm}; it must be a finite number, 0 for no clipping")
    for name in training.report_to:
        if lacks_reporter(name):
            raise InputError(f"report_to {name}: {name} is not installed; install it or leave report_to out")
    if training.seed < 0:
        raise InputError(f"seed is {training.seed}; it must be 0 or more")


def refuse_differing(options: Any, training: TrainingArguments) -> None:
    """Refuse a run whose options and whose trainer's settings say different things of the same name.

    One of them would be trained by and the other recorded. To a `max_length` that the options leave out the trainer's
    default is the same, and None; another would cut answers that nobody counts.

    Raises:
        InputError: naming both values of the first such name, or a setting that the run decides.
    """
    differing = [
        (name, ours, theirs)
        for name, ours in doubled(options, type(training)).items()
        if (theirs := getattr(training, name)) != ours
    ]
    if getattr(options, "max_length", 0) is None and training.max_length not in (None, MAX_LENGTH):
        differing.append(("max_length", None, training.max_length))
    for name, ours, theirs in differing:
        raise InputError(
            f"{name} is {ours!r} in {type(options).__name__} and {theirs!r} in {type(training).__name__}; give "
            "both the same"
        )
    for field in fields(training):
        if field.name in WITHOUT_EFFECT - {"output_dir"} and getattr(training, field.name) != field.default:
            raise InputError(
                f"{field.name} of {type(training).__name__} would have no effect here: the options and the run decide "
                "it; leave it out"
            )


def doubled(options: Any, config: type[TrainingArguments]) -> dict[str, Any]:
    """The options that are fields of a trainer's `config` too, by name, to give it the same values."""
    names = {field.name for field in fields(config)}
    values = {field.name: getattr(options, field.name) for field in fields(options) if field.name in names}
    return {name: value for name, value in values.items() if (name, value) != ("max_length", None)}


def written_settings(training: TrainingArguments) -> dict[str, Any]:
    """Every field of the trainer that a flag can give, so that the file runs again alike under another TRL's defaults.

    Left out are secrets, what only says where the run lies, and fields that are not set. A setting of two names is
    written by the one that every supported Transformers knows; the other would overrule a flag given beside the file.
    """
    left_out = {*WITHOUT_EFFECT, "logging_dir", "run_name", "hub_token", "push_to_hub_token"}
    left_out |= set(CHECKPOINTING_NAMES.values())
    fields = training.to_dict()
    # `to_dict` blanks out any token
    fields |= {name: getattr(training, name) for name in ("eos_token", "pad_token") if hasattr(training, name)}
    return {
        name: value
        for name, value in fields.items()
        if name not in left_out and isinstance(value, str | int | float | list | dict) and value not in ("", [], {})
    }
