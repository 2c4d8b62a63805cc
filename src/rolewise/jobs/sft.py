"""The fine-tuning job: labelled data in, a model or adapter out. What `rolewise sft` runs."""

import copy
import gc
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy

from rolewise import __version__
from rolewise.core.behaviour import find_behaviours
from rolewise.core.errors import InputError
from rolewise.core.files import write_json, write_text
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.run_directory import RunDirectory
from rolewise.data.labelled import is_labelled
from rolewise.data.readers import write_rejected
from rolewise.jobs.options import SFTOptions
from rolewise.jobs.sft_data import TrainingData, load_training_data
from rolewise.jobs.sft_report import REPORT_FILE, write_sft_report
from rolewise.jobs.trainer_settings import check_trainer, written_settings
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint
from rolewise.training.functional_tokens import prepare_functional
from rolewise.training.generation import generate_texts, stop_at_turn_ends
from rolewise.training.models import (
    load_model,
    load_tokenizer,
    load_trainable,
    lora_config,
    model_fingerprint,
    write_merged,
)
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer, check_weighted
from rolewise.weighting import Weighting, make_weighting

LOG_FILE = "log.jsonl"
GENERATIONS_FILE = "generations.json"


@dataclass(frozen=True)
class SFTResult:
    """A finished fine-tuning: where it lies, its log lines and its answers before and after."""

    path: Path
    log: list[dict[str, float]]
    generations: list[dict[str, str]]
    was_finished: bool


def fine_tune(
    options: SFTOptions,
    training: WeightedSFTConfig,
    progress: Progress | None = None,
    data: TrainingData | None = None,
) -> SFTResult:
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
    load_plugins(split_list(options.plugin or ""))
    processes.start()
    if options.load_in_4bit and processes.count() > 1:
        raise InputError("load_in_4bit spreads the model over the devices that it finds; start one process")
    weighting = make_weighting(
        options.weighting, inv_tau=options.inv_tau, alpha=options.alpha, format_weight=options.format_weight
    )
    data = data or load_training_data(options)
    if training.eval_strategy != IntervalStrategy.NO and data.eval is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data or eval_share")
    if training.eval_strategy == IntervalStrategy.NO and data.eval is not None:
        raise InputError("eval_strategy no never measures; leave eval_data and eval_share out, or give another one")
    if options.max_length is not None and is_labelled(options.data) and not training.packing:
        raise InputError(
            f"{options.data}: is labelled, so max_length would change nothing; leave it out, or label with another one"
        )
    run = _run_directory(options, training, data)
    if run.finished():
        return _read_result(run.output, was_finished=True)
    with run.opened(not_worth_keeping=[GENERATIONS_FILE]):
        processes.wait()  # for the directories
        _train(options, training, weighting, data, run, progress or Progress(disable=True))
        processes.wait()  # for the results
    return _read_result(run.output, was_finished=False)


def _train(
    options: SFTOptions,
    training: WeightedSFTConfig,
    weighting: Weighting,
    data: TrainingData,
    run: RunDirectory,
    progress: Progress,
) -> None:
    prompts = _prompts(data.eval if data.eval is not None else data.train, options.generations)
    checkpoint = last_checkpoint(run.work / "checkpoints")
    training = copy.copy(training)  # the caller's stays as it is
    training.output_dir = str(run.work / "checkpoints")
    # Once, at the start of it all: a resumed run has that line already.
    training.eval_on_start = data.eval is not None and checkpoint is None

    set_seed(training.seed)
    trainer = _trainer(
        options, training, weighting, data, RichProgressCallback(progress, f"train, {options.weighting}")
    )
    if processes.is_main() and not (run.work / GENERATIONS_FILE).exists():
        before = _answer(trainer, data.tokenizer, prompts, options, progress, "answers before")
        texts = map(data.tokenizer.decode, prompts)
        write_json(
            run.work / GENERATIONS_FILE, [{"prompt": p, "before": b} for p, b in zip(texts, before, strict=True)]
        )
    processes.wait()
    with run.timed("train"):
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except ImportError as error:  # an optimizer, say, of a library that is not installed
            raise InputError(str(error)) from error
    trainer.save_model(str(run.results))  # every process: sharded weights are gathered for it
    if not processes.is_main():
        return
    log, generations = _write_log(options, trainer, data.tokenizer, prompts, run, progress)
    stops = trainer.model.generation_config
    del trainer
    gc.collect()
    if options.merge:
        base = load_model(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
        write_merged(base, run.results, run.results / "merged", data.tokenizer, stops)
    write_rejected(data.rejected, run.results)
    write_sft_report(run.results / REPORT_FILE, options, log, generations)
    run.publish({"data": data.digest, "model": options.model, "processes": processes.count()})


def _trainer(
    options: SFTOptions,
    training: WeightedSFTConfig,
    weighting: Weighting,
    data: TrainingData,
    progress: RichProgressCallback,
) -> WeightedSFTTrainer:
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
    try:
        trainer = WeightedSFTTrainer(
            model=model,
            args=training,
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            weighting=weighting,
            peft_config=peft_config,
            callbacks=[progress, LogFirstAndLast()],
        )
    except (ValueError, ImportError) as error:  # TRL's and Transformers' words for options that do not go together
        raise InputError(str(error)) from error
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _write_log(
    options: SFTOptions,
    trainer: WeightedSFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    run: RunDirectory,
    progress: Progress,
) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
    """The log lines and the answers before and after training, written and returned."""
    log = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    write_text(run.results / LOG_FILE, "".join(json.dumps(entry) + "\n" for entry in log))
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        after = ["(not generated: the weights are spread over the processes)"] * len(prompts)
    else:
        after = _answer(trainer, tokenizer, prompts, options, progress, "answers after")
    before = json.loads((run.work / GENERATIONS_FILE).read_text())
    generations = [{**entry, "after": text} for entry, text in zip(before, after, strict=True)]
    write_json(run.results / GENERATIONS_FILE, generations)
    return log, generations


def _answer(
    trainer: WeightedSFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    options: SFTOptions,
    progress: Progress,
    description: str,
) -> list[str]:
    if not prompts:
        return []
    task = progress.add_task(description, total=None)
    texts = generate_texts(trainer.model, tokenizer, prompts, options.generation_tokens)
    progress.update(task, total=1, completed=1)
    return texts


def check_training(training: WeightedSFTConfig) -> None:
    """Check what would fail late and in a library's words, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    check_weighted(training)


def _run_directory(options: SFTOptions, training: WeightedSFTConfig, data: TrainingData) -> RunDirectory:
    settings = {**written_settings(training), **asdict(options)}
    # Where inputs and outputs lie, and who is told of the progress, change nothing in what is computed.
    elsewhere = ("model", "data", "eval_data", "output", "plugin", "report_to", "behaviours")
    identity = {
        "model": model_fingerprint(options.model, trust_remote_code=options.trust_remote_code),
        "data": data.digest,
        # A whole number comes back from config.yaml as a float where its option is one.
        "settings": {k: float(v) if type(v) is int else v for k, v in settings.items() if k not in elsewhere},
        "plugins": plugin_digests(split_list(options.plugin or "")),
        "behaviours": find_behaviours(options.behaviours).as_record() if options.behaviours is not None else None,
        # As many samples to a step as the processes take together.
        "processes": processes.count(),
        "version": __version__,
    }
    return RunDirectory(options.output, "sft", settings, identity, writes=processes.is_main())


def _prompts(rows: Dataset, count: int) -> list[list[int]]:
    """Everything before the first assistant turn, of the first `count` rows."""
    prompts = []
    for row in rows.select(range(min(count, len(rows)))):
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompts.append(row["input_ids"][:start])
    return [prompt for prompt in prompts if prompt]


def _read_result(path: Path, *, was_finished: bool) -> SFTResult:
    log = [json.loads(line) for line in (path / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    generations = json.loads((path / GENERATIONS_FILE).read_text(encoding="utf-8"))
    return SFTResult(path, log, generations, was_finished)
