"""The second phase of RFTT: improves a model with functional tokens on questions with answers."""

import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainingArguments

from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.engines.base import Engine, Sampling
from rolewise.jobs.engines import local_engine, open_engine
from rolewise.jobs.path_judges import check_values, open_values, values_identity
from rolewise.jobs.policy import check_fills_a_rollout, check_grpo_trainer, load_policy, prompts_of
from rolewise.jobs.reinforce_data import QuestionData, load_questions
from rolewise.jobs.reinforce_report import behaviours_table, curves, numbers_table
from rolewise.jobs.training_run import (
    TrainingJob,
    TrainingResult,
    TrainingRun,
    run_training,
    trainer_arguments,
)
from rolewise.options.training import ReinforceOptions
from rolewise.search.policies import TokenPolicy
from rolewise.search.sampled_rollouts import CompletionRewards, SampledRollouts
from rolewise.search.settings import SearchSettings
from rolewise.search.tree_rollouts import TreeRollouts
from rolewise.search.values import Values
from rolewise.training import processes
from rolewise.training.progress import RichProgressCallback
from rolewise.training.reinforce import ReinforceConfig, ReinforceTrainer, check_reinforce
from rolewise.training.trl_grpo_adapter import GRPOSeams

_DIGITS = re.compile(r"[\d,]+")
SERVER_NOTE = (
    "The server's weights stay fixed while the model trains, so its paths become staler with every step. Train a few "
    "steps, serve the result, and continue from there."
)


def reinforce(
    options: ReinforceOptions,
    training: ReinforceConfig,
    progress: Progress | None = None,
    data: QuestionData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train and write the result atomically to `options.output`; a killed run resumes from a checkpoint.

    `training.output_dir` is ignored: checkpoints stay in the run's working directory until it is done.

    Args:
        options: model, data and method of the training.
        training: settings of the trainer.
        progress: progress display; None shows nothing.
        data: result of `load_questions`, if it has already been called.
        say: receives notes for the user during the run.

    Raises:
        InputError: for unusable data, model or options, or an output that holds something else.
        EngineError: if a server goes away.
    """
    load_plugins(split_list(options.plugin or ""))
    check_options(options, training)
    processes.start()
    data = data or load_questions(options)
    check_fills_a_rollout(options.data, len(data.train), training)
    if options.server is not None:
        say(SERVER_NOTE)
    progress = progress or Progress(disable=True)
    told = _Notes(say)
    with ExitStack() as stack:
        job = TrainingRun(
            command="reinforce",
            options=options,
            training=training,
            data=data,
            make_trainer=lambda training: _trainer(options, training, data, told, stack, progress),
            prompts=prompts_of(data, options.generations),
            answer_tokens=training.max_completion_length,
            logged=("reward", "eval_reward"),
            job=JOB,
            subtitle=f"{options.model} trained on {options.data} with rollouts from {options.rollouts_from}",
            notes=lambda: [*data.notes, *([SERVER_NOTE] if options.server else []), *told.notes()],
            identity={"behaviours": data.behaviours.as_record(), **values_identity(options)},
            behaviours=data.behaviours if data.functional else None,
        )
        return run_training(job, progress)


def check_options(options: ReinforceOptions, training: ReinforceConfig) -> None:
    """Check for settings that would fail late or silently train nothing.

    Raises:
        InputError: naming the option.
    """
    if options.rollouts_from != "grpo":
        check_reinforce(training)
    check_grpo_trainer(training, options.eval_data)
    search_settings(options, training)
    check_values(options)
    if training.mask_truncated_completions and options.rollouts_from == "tree":
        raise InputError(
            "mask_truncated_completions would exclude every path of a tree, since paths end without an end token"
        )
    if training.use_vllm and options.rollouts_from != "grpo":
        raise InputError("use_vllm applies to rollouts from grpo; for tree and samples, give a vLLM server as server")


class _Notes(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Reports notes of judges and rollouts as they arise; a note in which only numbers grow is not repeated.

    Attributes:
        sources: objects with notes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.sources: list[Values | TreeRollouts | SampledRollouts] = []
        self._say = say
        self._said: set[str] = set()

    def notes(self) -> list[str]:
        """Return all current notes."""
        return [note for source in self.sources for note in source.notes]

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        for note in self.notes():
            without_numbers = _DIGITS.sub("", note)
            if without_numbers not in self._said and processes.is_main():
                self._say(note)
            self._said.add(without_numbers)


def _trainer(
    options: ReinforceOptions,
    training: ReinforceConfig,
    data: QuestionData,
    told: _Notes,
    stack: ExitStack,
    progress: Progress,
) -> GRPOSeams:
    """Make the trainer: REINFORCE++ on rollouts, or TRL's GRPO; `stack` closes judges and rollouts."""
    values = stack.enter_context(closing(open_values(options)))
    rollouts = None
    if options.rollouts_from != "grpo":
        rollouts = stack.enter_context(closing(_rollouts(options, training, data, values)))
    told.sources += [values, *([] if rollouts is None else [rollouts])]
    model = load_policy(options, data.tokenizer, data.stop_token_ids)
    ends = model.generation_config.eos_token_id
    behaviours = tuple(data.functional)
    bar = RichProgressCallback(progress, f"reinforce, {options.rollouts_from}", shown="reward")
    common = trainer_arguments(options, training, data, bar, told)
    if rollouts is not None:
        trainer: GRPOSeams = ReinforceTrainer(model, rollouts, behaviours=behaviours, **common)
    else:
        trainer = GRPOSeams(
            model, CompletionRewards(values, data.tokenizer, ends, data.functional, behaviours), **common
        )
        trainer.rendered_prompts = True
    if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and rollouts is not None:
        raise InputError(
            "weights that are sharded over processes can't be sampled from here; start without FSDP and DeepSpeed, or "
            "use rollouts from grpo with use_vllm"
        )
    return trainer


def search_settings(options: ReinforceOptions, training: ReinforceConfig) -> SearchSettings:
    """Return the settings of the search; sampling uses TRL's `temperature`, `top_p` and `top_k`.

    Raises:
        InputError: for a setting out of range.
    """
    return SearchSettings(
        rollouts=options.rollouts,
        max_depth=options.max_depth,
        exploration=options.exploration,
        step_tokens=options.step_tokens,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=max(training.top_k, 0),  # in some versions, TRL uses -1 for all
    )


def _rollouts(
    options: ReinforceOptions, training: ReinforceConfig, data: QuestionData, values: Values
) -> TreeRollouts | SampledRollouts:
    """Make rollouts by tree search or plain sampling, with an engine over the model in training or a server; the caller
    closes them.

    Raises:
        InputError: for settings out of range.
        EngineError: if the server can't be reached or used.
    """
    # A server is opened now, so that a missing one is reported before any work.
    server = None if options.server is None else open_engine(options, data.tokenizer)

    def engine(model: Any) -> Engine:
        return server or local_engine(options, model, data.tokenizer)

    if options.rollouts_from == "tree":
        policy = TokenPolicy(data.tokenizer, data.behaviours, options.chat_template)
        settings = search_settings(options, training)
        return TreeRollouts(engine, policy, values, settings, options.paths)
    sampling = Sampling(
        max_new_tokens=training.max_completion_length,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=max(training.top_k, 0),
        stop_token_ids=data.stop_token_ids,
    )
    return SampledRollouts(engine, values, sampling, data.functional)


JOB = TrainingJob(
    check=check_options,
    load=lambda options, training: load_questions(options),
    train=reinforce,
    tables=lambda log: [numbers_table(log), behaviours_table(log)],
    curves=curves,
)
