"""Checks and output of TRL trainer settings, shared by all training commands."""

import math
from dataclasses import fields
from typing import Any

from transformers import IntervalStrategy, TrainingArguments

from rolewise.core.errors import InputError
from rolewise.core.options import completed
from rolewise.core.transformers_insides import CHECKPOINTING_NAMES, lacks_reporter
from rolewise.options.training import WITHOUT_EFFECT


def check_trainer(training: TrainingArguments) -> None:
    """Check for settings that would fail late with a library's message, or silently train nothing.

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
    for field in fields(training):
        decided = field.name in WITHOUT_EFFECT and field.name != "output_dir"
        if decided and getattr(training, field.name) != field.default:
            raise InputError(
                f"{field.name} of {type(training).__name__} would have no effect here: the options and the run set it; "
                "leave it out"
            )


def check_evaluation(training: TrainingArguments, has_data: bool, *options: str) -> None:
    """Check that evaluation data, which these options give, fits the evaluation strategy.

    Raises:
        InputError: if one is there without the other.
    """
    measures = training.eval_strategy != IntervalStrategy.NO
    if measures and not has_data:
        raise InputError(f"eval_strategy needs evaluation data; give {' or '.join(options)}")
    if has_data and not measures:
        raise InputError(
            f"eval_strategy no never evaluates; leave {' and '.join(options)} out, or choose another strategy"
        )


def written_settings(training: TrainingArguments) -> dict[str, Any]:
    """Return every trainer field that a flag can set, so that the file reproduces the run under other TRL defaults.

    Secrets, the run's location and unset fields are left out. A setting with two names is written under the name that
    every supported Transformers knows; the other would override a flag given with the file.
    """
    left_out = {*WITHOUT_EFFECT, "logging_dir", "run_name", "hub_token", "push_to_hub_token"}
    left_out |= set(CHECKPOINTING_NAMES.values())
    values = training.to_dict()
    # `to_dict` masks every token
    values |= {name: getattr(training, name) for name in ("eos_token", "pad_token") if hasattr(training, name)}
    if hasattr(training, "PARTS"):
        values |= completed(training)
    return {
        name: value
        for name, value in values.items()
        if name not in left_out and isinstance(value, str | int | float | list | dict) and value not in ("", [], {})
    }
