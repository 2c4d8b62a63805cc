"""The job of `rolewise sft`: fine-tunes a model or adapter on labelled data."""

import copy

from datasets import Dataset
from rich.progress import Progress

from rolewise.core.behaviour import find_behaviours, taught_behaviours
from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.jobs.sft_data import TrainingData, load_training_data
from rolewise.jobs.sft_report import curves, roles_table
from rolewise.jobs.trainer_settings import check_evaluation, check_trainer
from rolewise.jobs.training_run import (
    TrainingJob,
    TrainingResult,
    TrainingRun,
    run_training,
    trainer_arguments,
)
from rolewise.options.training import SFTOptions
from rolewise.training import processes
from rolewise.training.functional_tokens import prepare_functional
from rolewise.training.generation import stop_at_turn_ends
from rolewise.training.labelled_rows import token_counts
from rolewise.training.models import load_tokenizer, load_trainable
from rolewise.training.progress import RichProgressCallback
from rolewise.training.settings import MAX_LENGTH
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer, check_weighted
from rolewise.weighting import make_weighting


def fine_tune(
    options: SFTOptions,
    training: WeightedSFTConfig,
    progress: Progress | None = None,
    data: TrainingData | None = None,
) -> TrainingResult:
    """Fine-tune and write the result atomically to `options.output`; a killed run resumes from a checkpoint.

    `training.output_dir` is ignored: checkpoints stay in the run's working directory until it is done.

    Args:
        options: model, data and method of the fine-tuning.
        training: settings of the trainer.
        progress: progress display; None shows nothing.
        data: result of `load_training_data`, if it has already been called.

    Raises:
        InputError: for unusable data, model or options, or an output that holds something else.
    """
    check_training(training)
    load_plugins(split_list(options.plugin or ""))
    processes.start()
    make_weighting(training.weighting, training.weighting_args)  # reports what does not fit before anything is read
    data = data or load_training_data(options, training)
    check_evaluation(training, data.eval is not None, "eval_data", "eval_share")
    progress = progress or Progress(disable=True)
    prompts = _prompts(data.eval if data.eval is not None else data.train, options.generations)
    behaviours = find_behaviours(options.behaviours) if options.behaviours is not None else None
    job = TrainingRun(
        command="sft",
        options=options,
        training=training,
        data=data,
        make_trainer=lambda training: _trainer(options, training, data, progress),
        prompts=[(str(data.tokenizer.decode(ids)), ids) for ids in prompts],
        answer_tokens=options.generation_tokens,
        logged=("loss", "eval_loss"),
        job=JOB,
        subtitle=f"{options.model} tuned on {options.data} with weighting {training.weighting}",
        notes=lambda: data.notes,
        identity={"behaviours": None if behaviours is None else behaviours.as_record()},
        behaviours=behaviours or taught_behaviours(options.model),
    )
    return run_training(job, progress)


def _trainer(
    options: SFTOptions,
    training: WeightedSFTConfig,
    data: TrainingData,
    progress: Progress,
) -> WeightedSFTTrainer:
    if training.max_length is None:
        # No cut was requested: labelled samples keep their full length.
        training = copy.copy(training)
        training.max_length = max(MAX_LENGTH, *(int(token_counts(r).max()) for r in (data.train, data.eval) if r))
    model = load_trainable(
        options.model,
        dtype=options.dtype,
        in_4bit=options.load_in_4bit,
        trust_remote_code=options.trust_remote_code,
    )
    bar = RichProgressCallback(progress, f"train, {training.weighting}")
    arguments = trainer_arguments(options, training, data, bar)
    if options.behaviours is not None:
        # The model's original tokenizer: the data's already has these tokens, so their rows would count as known.
        tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
        behaviours = find_behaviours(options.behaviours)
        model, _, arguments["peft_config"] = prepare_functional(model, tokenizer, behaviours, arguments["peft_config"])
    stop_at_turn_ends(model, data.tokenizer, data.train)
    return WeightedSFTTrainer(model, **arguments)


def check_training(training: WeightedSFTConfig) -> None:
    """Check for settings that would fail late with a library's message, or silently train nothing.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    check_weighted(training)
    if training.max_length is not None and training.max_length < 2:
        raise InputError(f"max_length is {training.max_length}; it must be at least 2")


def _prompts(rows: Dataset, count: int) -> list[list[int]]:
    """Return everything before the first assistant turn, for the first `count` rows."""
    prompts = []
    for row in rows.select(range(min(count, len(rows)))):
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompts.append(row["input_ids"][:start])
    return [prompt for prompt in prompts if prompt]


JOB = TrainingJob(
    check=lambda options, training: check_training(training),
    load=load_training_data,
    train=lambda options, training, progress, data, say: fine_tune(options, training, progress, data),
    tables=lambda log: [roles_table(log), roles_table(log, "eval_")],
    curves=curves,
)
