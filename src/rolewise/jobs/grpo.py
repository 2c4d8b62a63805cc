"""The reinforcement-learning job: trains a model or adapter on prompts with reference calls."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rich.progress import Progress

from rolewise.core.behaviour import taught_behaviours
from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.rollouts import optimizer_steps_per_rollout
from rolewise.core.run_directory import RunDirectory
from rolewise.jobs.grpo_data import call_format, load_prompts
from rolewise.jobs.grpo_report import curves, regions_table, rewards_table
from rolewise.jobs.policy import PromptData, check_fills_a_rollout, check_grpo_trainer, load_policy, prompts_of
from rolewise.jobs.training_run import (
    CHECKPOINTS,
    TrainingJob,
    TrainingResult,
    TrainingRun,
    run_training,
    trainer_arguments,
)
from rolewise.labelling.sampled_roles import contrast_rollout_roles, shad_rollout_roles
from rolewise.labelling.settings.contrast import ContrastConfig, check_score_threshold
from rolewise.options.training import GRPOOptions
from rolewise.rewards.registry import RewardFunction, make_rewards
from rolewise.rewards.tool_calls import ToolCallRules
from rolewise.training import processes
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.models import model_fingerprint
from rolewise.training.progress import RichProgressCallback
from rolewise.training.rollout_roles import RolloutRoles

COMPLETIONS = "completions"


def train_grpo(
    options: GRPOOptions,
    training: WeightedGRPOConfig,
    progress: Progress | None = None,
    data: PromptData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train and write the result atomically to `options.output`; a killed run resumes from a checkpoint.

    `training.output_dir` is ignored: checkpoints stay in the run's working directory until it is done.

    Args:
        options: model, data and method of the training.
        training: settings of the trainer.
        progress: progress display; None shows nothing.
        data: result of `load_prompts`, if it has already been called.
        say: receives notes for the user during the run.

    Raises:
        InputError: for data, model or options that can't be used, or an output that holds something else.
    """
    load_plugins(split_list(options.plugin or ""))
    check_grpo(options, training)
    processes.start()
    data = data or load_prompts(options, training)
    check_fills_a_rollout(options.data, len(data.train), training)
    progress = progress or Progress(disable=True)
    job = TrainingRun(
        command="grpo",
        options=options,
        training=training,
        data=data,
        make_trainer=lambda training: _trainer(options, training, data, progress, say),
        prompts=prompts_of(data, options.generations),
        answer_tokens=training.max_completion_length,
        logged=("reward", "eval_reward"),
        job=JOB,
        subtitle=f"{options.model} trained on {options.data} with weighting {training.weighting}",
        notes=lambda: data.notes,
        finish=_keep_completions,
        identity={"shad_model": model_fingerprint(options.shad_model) if options.shad_model else ""},
        behaviours=taught_behaviours(options.model),
    )
    return run_training(job, progress)


def check_grpo(options: GRPOOptions, training: WeightedGRPOConfig) -> None:
    """Check for settings that would fail late or silently train nothing.

    Raises:
        InputError: naming the option.
    """
    if (training.roles == "shad") != (options.shad_model is not None):
        raise InputError("roles shad and shad_model require each other: give both, or neither")
    if options.threshold is not None and training.roles == "regions":
        raise InputError("threshold needs roles shad or contrast; give one, or leave threshold out")
    if options.threshold is not None and training.roles == "contrast":
        check_score_threshold(options.threshold)
    rewards(options, training)
    check_grpo_trainer(training, options.eval_data)


def rewards(options: GRPOOptions, training: WeightedGRPOConfig) -> list[RewardFunction]:
    """Return the reward functions that the options name.

    Raises:
        InputError: for an unknown reward, or incompatible rules.
    """
    micro_batches = (training.steps_per_generation or 1) * training.num_iterations
    changed: dict[str, Any] = {"call_format": call_format(training)}
    if changed["call_format"] != "rlla":
        changed["format_rule"] = "parts"  # the other rules concern rlla's tags
    if options.schedule_steps is not None:
        changed["schedule_steps"] = options.schedule_steps
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
    model = load_policy(options, data.tokenizer, data.stop_token_ids, in_4bit=options.load_in_4bit)
    bar = RichProgressCallback(progress, f"train, {training.weighting}", shown="reward")
    return WeightedGRPOTrainer(
        model,
        rewards(options, training),
        **trainer_arguments(options, training, data, bar),
        roles=_sampled_roles(options, training, data),
        rendered_prompts=True,
        say=say,
    )


def _sampled_roles(options: GRPOOptions, training: WeightedGRPOConfig, data: PromptData) -> RolloutRoles | None:
    device, trust = str(training.device), options.trust_remote_code
    if options.shad_model is not None:
        threshold = options.threshold or 0.0
        return shad_rollout_roles(
            options.model, options.shad_model, threshold=threshold, device=device, trust_remote_code=trust
        )
    if training.roles != "contrast":
        return None
    config = ContrastConfig() if options.threshold is None else ContrastConfig(threshold=options.threshold)
    prompts = sorted(set(data.train["prompt"]))
    order = np.random.default_rng(training.seed).permutation(len(prompts))[: config.histories + 1]
    histories = data.tokenizer([prompts[i] for i in order], add_special_tokens=False)["input_ids"]
    return contrast_rollout_roles(
        options.model, histories, data.tokenizer, config, device=device, trust_remote_code=trust
    )


def _keep_completions(run: RunDirectory) -> None:
    """Copy the output of `log_completions` to the results."""
    completions = run.work / CHECKPOINTS / COMPLETIONS
    if completions.is_dir():
        shutil.copytree(completions, run.results / COMPLETIONS)


JOB = TrainingJob(
    check=check_grpo,
    load=load_prompts,
    train=train_grpo,
    tables=lambda log: [rewards_table(log), regions_table(log)],
    curves=curves,
)
