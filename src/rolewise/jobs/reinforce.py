"""The second phase of RFTT: a model with functional tokens in, questions with answers in, a better model out."""

import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainingArguments

from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.run_directory import RunDirectory
from rolewise.data.chat_template import template_text
from rolewise.jobs.grpo import check_grpo_trainer
from rolewise.jobs.reinforce_data import QuestionData, load_questions
from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.jobs.reinforce_report import REPORT_FILE, behaviours_table, numbers_table, write_reinforce_report
from rolewise.jobs.reinforce_rollouts import make_rollouts, search_settings
from rolewise.jobs.trainer_settings import refuse_differing
from rolewise.jobs.training_run import (
    Generations,
    Log,
    TrainingResult,
    TrainingRun,
    run_training,
    told_by_libraries,
    without_printing,
)
from rolewise.jobs.values import check_values, open_values, values_identity
from rolewise.search.sampled_rollouts import CompletionRewards, SampledRollouts
from rolewise.search.tree_rollouts import TreeRollouts
from rolewise.search.values import Values
from rolewise.training import processes
from rolewise.training.models import load_trainable, lora_config
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.reinforce import ReinforceConfig, ReinforceTrainer, check_reinforce
from rolewise.training.trl_grpo_adapter import GRPOSeams

_DIGITS = re.compile(r"[\d,]+")
SERVER_NOTE = (
    "The server's weights stay as they are while the model trains: its paths grow older with every step. Train a few "
    "steps, serve the result, and go on from there."
)


def reinforce(
    options: ReinforceOptions,
    training: ReinforceConfig,
    progress: Progress | None = None,
    data: QuestionData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Train and write the result to `options.output`, whole or not at all; a killed run goes on from a checkpoint.

    `training.output_dir` is ignored: checkpoints lie in the run's working directory until it is done.

    Args:
        options: what to train, on what, and how.
        training: settings of the trainer.
        progress: where to show it; None shows nothing.
        data: of `load_questions`, where it has been called already.
        say: takes what the user should know while it runs.

    Raises:
        InputError: for data, model or options that can't be used, or an output that holds something else.
        EngineError: if a server goes away.
    """
    load_plugins(split_list(options.plugin or ""))
    refuse_differing(options, training)
    check_options(options, training)
    processes.start()
    data = data or load_questions(options)
    per_rollout = training.generation_batch_size // training.num_generations
    if len(data.train) < per_rollout:
        raise InputError(
            f"{options.data}: {len(data.train)} questions, but a rollout takes {per_rollout}; give more data, or lower "
            "steps_per_generation or per_device_train_batch_size"
        )
    if options.server is not None:
        say(SERVER_NOTE)
    progress = progress or Progress(disable=True)
    prompts = (data.eval if data.eval is not None else data.train)["prompt"][: options.generations]
    tokenizer = data.tokenizer
    told = _Notes(say)
    with ExitStack() as stack:
        job = TrainingRun(
            command="reinforce",
            options=options,
            training=training,
            data=data,
            make_trainer=lambda training: _trainer(options, training, data, told, stack, progress),
            prompts=[(prompt, tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts],
            answer_tokens=training.max_completion_length,
            logged=("reward", "eval_reward"),
            finish=partial(_finish, options, data, told),
            tables=lambda log: [numbers_table(log), behaviours_table(log)],
            identity={"behaviours": data.behaviours.as_record(), **values_identity(options)},
            behaviours=data.behaviours if data.functional else None,
        )
        return run_training(job, progress)


def check_options(options: ReinforceOptions, training: ReinforceConfig) -> None:
    """Check what would fail late, or train nothing without a word.

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
            "mask_truncated_completions would leave out every path of a tree: they end without an end token"
        )
    if training.use_vllm and options.rollouts_from != "grpo":
        raise InputError("use_vllm is of rollouts from grpo; for tree and samples a vLLM server is given as server")


class _Notes(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Says what judges and rollouts note as soon as they note it; a note of which only numbers grow is not said again.

    Attributes:
        sources: whose notes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.sources: list[Values | TreeRollouts | SampledRollouts] = []
        self._say = say
        self._said: set[str] = set()

    def notes(self) -> list[str]:
        """All notes, as they are now."""
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
    """REINFORCE++ on rollouts, or TRL's GRPO; `stack` closes what judges and rolls out."""
    values = stack.enter_context(closing(open_values(options)))
    rollouts = None
    if options.rollouts_from != "grpo":
        rollouts = stack.enter_context(closing(make_rollouts(options, training, data, values)))
    told.sources += [values, *([] if rollouts is None else [rollouts])]
    model = load_trainable(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
    own = model.generation_config.eos_token_id
    ends = [*data.stop_token_ids, *(own if isinstance(own, list) else [own]), data.tokenizer.eos_token_id]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    model.generation_config.eos_token_id = ends
    if options.chat_template is not None:
        data.tokenizer.chat_template = template_text(data.tokenizer, options.chat_template)  # saved with the model
    behaviours = tuple(data.functional)
    bar = RichProgressCallback(progress, f"reinforce, {options.rollouts_from}", shown="reward")
    common: dict[str, Any] = {
        "args": training,
        "train_dataset": data.train,
        "eval_dataset": data.eval,
        "processing_class": data.tokenizer,
        "peft_config": lora_config(options.rank) if options.lora else None,
        "callbacks": [bar, LogFirstAndLast(), told],
    }
    with told_by_libraries():
        if rollouts is not None:
            trainer: GRPOSeams = ReinforceTrainer(model, rollouts, behaviours=behaviours, **common)
        else:
            trainer = GRPOSeams(
                model, CompletionRewards(values, data.tokenizer, ends, data.functional, behaviours), **common
            )
            trainer.rendered_prompts = True
    if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and rollouts is not None:
        raise InputError(
            "weights that are spread over processes can't be sampled from here; start without FSDP and DeepSpeed, or "
            "take rollouts from grpo with use_vllm"
        )
    without_printing(trainer)
    return trainer


def _finish(
    options: ReinforceOptions,
    data: QuestionData,
    told: _Notes,
    run: RunDirectory,
    log: Log,
    generations: Generations,
) -> None:
    """Write what is beside the model, the log and the answers."""
    notes = [*data.notes, *([SERVER_NOTE] if options.server else []), *told.notes()]
    write_reinforce_report(run.results / REPORT_FILE, options, log, generations, notes)
