"""The fine-tuning job: labelled data in, a model or adapter out. What `rolewise sft` runs."""

import copy

from datasets import Dataset
from rich.progress import Progress
from transformers import IntervalStrategy

from rolewise.core.behaviour import find_behaviours, taught_behaviours
from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.jobs.options import MAX_LENGTH, SFTOptions
from rolewise.jobs.sft_data import TrainingData, load_training_data
from rolewise.jobs.sft_report import REPORT_FILE, roles_table, write_sft_report
from rolewise.jobs.trainer_settings import check_trainer, refuse_differing
from rolewise.jobs.training_run import (
    TrainingResult,
    TrainingRun,
    run_training,
    start_processes,
    told_by_libraries,
    without_printing,
)
from rolewise.training.functional_tokens import prepare_functional
from rolewise.training.generation import stop_at_turn_ends
from rolewise.training.labelled_rows import token_counts
from rolewise.training.models import (
    load_tokenizer,
    load_trainable,
    lora_config,
)
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer, check_weighted
from rolewise.weighting import Weighting, make_weighting


def fine_tune(
    options: SFTOptions,
    training: WeightedSFTConfig,
    progress: Progress | None = None,
    data: TrainingData | None = None,
) -> TrainingResult:
    """Fine-tune and write the result to `options.output`, whole or not at all; a killed run goes on from a checkpoint.

    `training.output_dir` is ignored: checkpoints lie in the run's working directory until it is done.

    Args:
        options: what to tune, on what, and how.
        training: settings of the trainer.
        progress: where to show it; None shows nothing.
        data: of `load_training_data`, where it has been called already.

    Raises:
        InputError: for data, model or options that can't be used, or an output that holds something else.
    """
    check_training(training)
    refuse_differing(options, training)
    load_plugins(split_list(options.plugin or ""))
    start_processes(options)
    weighting = make_weighting(
        options.weighting, inv_tau=options.inv_tau, alpha=options.alpha, format_weight=options.format_weight
    )
    data = data or load_training_data(options)
    if training.eval_strategy != IntervalStrategy.NO and data.eval is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data or eval_share")
    if training.eval_strategy == IntervalStrategy.NO and data.eval is not None:
        raise InputError("eval_strategy no never measures; leave eval_data and eval_share out, or give another one")
    progress = progress or Progress(disable=True)
    prompts = _prompts(data.eval if data.eval is not None else data.train, options.generations)
    behaviours = find_behaviours(options.behaviours) if options.behaviours is not None else None
    job = TrainingRun(
        command="sft",
        options=options,
        training=training,
        data=data,
        make_trainer=lambda training: _trainer(options, training, weighting, data, progress),
        prompts=[(str(data.tokenizer.decode(ids)), ids) for ids in prompts],
        answer_tokens=options.generation_tokens,
        logged=("loss", "eval_loss"),
        finish=lambda run, log, generations: write_sft_report(
            run.results / REPORT_FILE, options, log, generations, data.notes
        ),
        tables=lambda log: [roles_table(log), roles_table(log, "eval_")],
        identity={"behaviours": None if behaviours is None else behaviours.as_record()},
        behaviours=behaviours or taught_behaviours(options.model),
    )
    return run_training(job, progress)


def _trainer(
    options: SFTOptions,
    training: WeightedSFTConfig,
    weighting: Weighting,
    data: TrainingData,
    progress: Progress,
) -> WeightedSFTTrainer:
    if options.max_length is None and training.max_length == MAX_LENGTH:
        # Nobody asked for a cut: labelled samples stay as long as they were labelled.
        training = copy.copy(training)
        training.max_length = max(MAX_LENGTH, *(int(token_counts(r).max()) for r in (data.train, data.eval) if r))
    model = load_trainable(
        options.model,
        dtype=options.dtype,
        in_4bit=options.load_in_4bit,
        trust_remote_code=options.trust_remote_code,
    )
    peft_config = lora_config(options.rank) if options.lora else None
    if options.behaviours is not None:
        # As the model came with it: the data's tokenizer has these tokens already, and their rows would count as known.
        tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
        model, _, peft_config = prepare_functional(model, tokenizer, find_behaviours(options.behaviours), peft_config)
    stop_at_turn_ends(model, data.tokenizer, data.train)
    bar = RichProgressCallback(progress, f"train, {options.weighting}")
    with told_by_libraries():
        trainer = WeightedSFTTrainer(
            model=model,
            args=training,
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            weighting=weighting,
            peft_config=peft_config,
            callbacks=[bar, LogFirstAndLast()],
        )
    without_printing(trainer)
    return trainer


def check_training(training: WeightedSFTConfig) -> None:
    """Check what would fail late and in a library's words, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    check_weighted(training)


def _prompts(rows: Dataset, count: int) -> list[list[int]]:
    """Everything before the first assistant turn, of the first `count` rows."""
    prompts = []
    for row in rows.select(range(min(count, len(rows)))):
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompts.append(row["input_ids"][:start])
    return [prompt for prompt in prompts if prompt]
