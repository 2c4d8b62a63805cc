"""The reinforcement-learning job: prompts with reference calls in, a model or adapter out."""

import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rich.progress import Progress
from transformers import IntervalStrategy
from trl import GRPOConfig

from rolewise.core.behaviour import taught_behaviours
from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.rollouts import optimizer_steps_per_rollout
from rolewise.core.run_directory import RunDirectory
from rolewise.data.chat_template import template_text
from rolewise.jobs.grpo_data import PromptData, load_prompts
from rolewise.jobs.grpo_options import GRPOOptions
from rolewise.jobs.grpo_report import REPORT_FILE, regions_table, rewards_table, write_grpo_report
from rolewise.jobs.trainer_settings import check_trainer, refuse_differing
from rolewise.jobs.training_run import (
    CHECKPOINTS,
    Generations,
    Log,
    TrainingResult,
    TrainingRun,
    run_training,
    start_processes,
    told_by_libraries,
    without_printing,
)
from rolewise.labelling.sampled_roles import shad_rollout_roles
from rolewise.rewards.registry import RewardFunction, make_rewards
from rolewise.rewards.tool_calls import ToolCallRules
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.models import load_trainable, lora_config, model_fingerprint
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.rollout_roles import RolloutRoles

COMPLETIONS = "completions"

TRAINERS_CHOICES = {
    "loss_type": ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "scale_rewards": ("group", "batch", "none"),
    "vllm_mode": ("colocate", "server"),
}
"""Of TRL's options, which it checks once the first responses are sampled, or never."""


def train_grpo(
    options: GRPOOptions,
    training: WeightedGRPOConfig,
    progress: Progress | None = None,
    data: PromptData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train and write the result to `options.output`, whole or not at all; a killed run goes on from a checkpoint.

    `training.output_dir` is ignored: checkpoints lie in the run's working directory until it is done.

    Args:
        options: what to train, on what, and how.
        training: settings of the trainer.
        progress: where to show it; None shows nothing.
        data: of `load_prompts`, where it has been called already.
        say: takes what the user should know while it runs.

    Raises:
        InputError: for data, model or options that can't be used, or an output that holds something else.
    """
    load_plugins(split_list(options.plugin or ""))
    refuse_differing(options, training)
    check_grpo(options, training)
    start_processes(options)
    data = data or load_prompts(options)
    per_rollout = training.generation_batch_size // training.num_generations
    if len(data.train) < per_rollout:
        raise InputError(
            f"{options.data}: {len(data.train)} prompts, but a rollout takes {per_rollout}; give more data, or lower "
            "steps_per_generation or per_device_train_batch_size"
        )
    progress = progress or Progress(disable=True)
    prompts = (data.eval if data.eval is not None else data.train)["prompt"][: options.generations]
    tokenizer = data.tokenizer
    job = TrainingRun(
        command="grpo",
        options=options,
        training=training,
        data=data,
        make_trainer=lambda training: _trainer(options, training, data, progress, say),
        prompts=[(prompt, tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts],
        answer_tokens=training.max_completion_length,
        logged=("reward", "eval_reward"),
        finish=partial(_finish, options),
        tables=lambda log: [rewards_table(log), regions_table(log)],
        identity={"shad_model": model_fingerprint(options.shad_model) if options.shad_model else ""},
        behaviours=taught_behaviours(options.model),
    )
    return run_training(job, progress)


def check_grpo(options: GRPOOptions, training: WeightedGRPOConfig) -> None:
    """Check what would fail late, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    rewards(options, training)
    check_grpo_trainer(training, options.eval_data)


def check_grpo_trainer(training: GRPOConfig, eval_data: str | None) -> None:
    """Check the fields of TRL's `GRPOConfig`, and whether there is something to measure on.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    measures = training.eval_strategy != IntervalStrategy.NO
    if measures and eval_data is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data")
    if not measures and eval_data is not None:
        raise InputError("eval_strategy no never measures; leave eval_data out, or give another one")
    if training.max_completion_length is None or training.max_completion_length < 1:
        raise InputError(f"max_completion_length is {training.max_completion_length}; it must be at least 1")
    for name, choices in TRAINERS_CHOICES.items():
        if getattr(training, name) not in choices:
            raise InputError(f"{name} {getattr(training, name)!r} is not known; choose one of {', '.join(choices)}")
    if training.num_iterations < 1:
        raise InputError(f"num_iterations is {training.num_iterations}; it must be at least 1")
    if not 0 <= training.beta < math.inf:
        raise InputError(f"beta is {training.beta}; the KL term's weight is a finite number, 0 or more")
    if training.temperature <= 0:
        raise InputError(f"temperature is {training.temperature}; give more than 0, or all responses are one")


def rewards(options: GRPOOptions, training: WeightedGRPOConfig) -> list[RewardFunction]:
    """The reward functions that the options name.

    Raises:
        InputError: for an unknown reward, or rules that do not fit one another.
    """
    given = {
        "format_rule": options.format_rule,
        "granularity": options.granularity,
        "schedule": options.schedule,
        "schedule_steps": options.schedule_steps,
        "correctness_max": options.correctness_max,
        "length": options.length_reward,
    }
    if options.call_format != "rlla" and options.format_rule is None:
        given["format_rule"] = "parts"  # the other rules are about rlla's tags
    micro_batches = (training.steps_per_generation or 1) * training.num_iterations
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    changed["call_format"] = options.call_format
    changed["steps_per_rollout"] = optimizer_steps_per_rollout(micro_batches, training.gradient_accumulation_steps)

    def rules(preset: ToolCallRules) -> ToolCallRules:
        return replace(preset, **changed)

    return make_rewards(split_list(options.reward), rules)


def _trainer(
    options: GRPOOptions,
    training: WeightedGRPOConfig,
    data: PromptData,
    progress: Progress,
    say: Callable[[str], None],
) -> WeightedGRPOTrainer:
    model = load_trainable(
        options.model, dtype=options.dtype, in_4bit=options.load_in_4bit, trust_remote_code=options.trust_remote_code
    )
    own = model.generation_config.eos_token_id
    ends = [*data.stop_token_ids, *(own if isinstance(own, list) else [own]), data.tokenizer.eos_token_id]
    model.generation_config.eos_token_id = list(dict.fromkeys(end for end in ends if end is not None))
    if options.chat_template is not None:
        data.tokenizer.chat_template = template_text(data.tokenizer, options.chat_template)  # saved with the model
    bar = RichProgressCallback(progress, f"train, {options.weighting}", shown="reward")
    with told_by_libraries():
        trainer = WeightedGRPOTrainer(
            model,
            rewards(options, training),
            training,
            data.train,
            data.eval,
            data.tokenizer,
            peft_config=lora_config(options.rank) if options.lora else None,
            callbacks=[bar, LogFirstAndLast()],
            roles=_sampled_roles(options, training),
            rendered_prompts=True,
            say=say,
        )
    without_printing(trainer)
    return trainer


def _sampled_roles(options: GRPOOptions, training: WeightedGRPOConfig) -> RolloutRoles | None:
    if options.shad_model is None:
        return None
    return shad_rollout_roles(
        options.model,
        options.shad_model,
        threshold=options.threshold,
        device=str(training.device),
        trust_remote_code=options.trust_remote_code,
    )


def _finish(options: GRPOOptions, run: RunDirectory, log: Log, generations: Generations) -> None:
    """Write what is beside the model, the log and the answers."""
    completions = run.work / CHECKPOINTS / COMPLETIONS
    if completions.is_dir():  # of log_completions
        shutil.copytree(completions, run.results / COMPLETIONS)
    write_grpo_report(run.results / REPORT_FILE, options, log, generations)
