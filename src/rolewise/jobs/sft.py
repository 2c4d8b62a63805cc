"""The fine-tuning job: labelled data in, a model or adapter out. What `rolewise sft` runs."""

import copy
import gc
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.integrations import integration_utils
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from rolewise import __version__
from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json, write_text
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.data.labelled import load_labelled
from rolewise.data.prepare import prepare
from rolewise.data.render import Renderer, tokenizer_fingerprint
from rolewise.jobs.options import SFTOptions
from rolewise.jobs.sft_report import REPORT_FILE, write_sft_report
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint
from rolewise.training.generation import generate_texts
from rolewise.training.models import default_device, load_model, load_tokenizer, lora_config, model_fingerprint
from rolewise.training.progress import RichProgressCallback
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer
from rolewise.weighting import Weighting, make_weighting

LOG_FILE = "log.jsonl"
GENERATIONS_FILE = "generations.json"


@dataclass(frozen=True)
class SFTResult:
    """A finished fine-tuning: where it lies, its log lines, its answers before and after, notes about its data."""

    path: Path
    log: list[dict[str, float]]
    generations: list[dict[str, str]]
    notes: list[str]
    was_finished: bool


@dataclass(frozen=True)
class TrainingData:
    """Rows to train on and to measure on.

    Attributes:
        digest: of both.
        chat_template: that the rows were written with, where it is not the tokenizer's own.
        notes: what the rows' renderer writes differently, for the user.
    """

    train: Dataset
    eval: Dataset | None
    digest: str
    chat_template: str | None
    notes: list[str]


def fine_tune(options: SFTOptions, training: WeightedSFTConfig, progress: Progress | None = None) -> SFTResult:
    """Fine-tune and write the result to `options.output`, whole or not at all; a killed run goes on from a checkpoint.

    `training.output_dir` is ignored: checkpoints lie in the run's working directory until it is done.

    Raises:
        InputError: for data, model or options that can't be used, or an output that holds something else.
    """
    check_training(training)
    processes.start()
    weighting = make_weighting(options.weighting, inv_tau=options.inv_tau, alpha=options.alpha)
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    data = load_training_data(options, tokenizer)
    if data.chat_template is not None:
        tokenizer.chat_template = data.chat_template  # saved with the model, which learns to answer in it
    if training.eval_strategy != IntervalStrategy.NO and data.eval is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data or eval_share")
    run = _run_directory(options, training, data)
    if run.finished():
        return _read_result(run.output, data.notes, was_finished=True)
    with run.opened():
        processes.wait()  # for the directories
        _train(options, training, weighting, tokenizer, data, run, progress or Progress(disable=True))
        processes.wait()  # for the results
    return _read_result(run.output, data.notes, was_finished=False)


def _train(
    options: SFTOptions,
    training: WeightedSFTConfig,
    weighting: Weighting,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    run: RunDirectory,
    progress: Progress,
) -> None:
    prompts = _prompts(data.eval if data.eval is not None else data.train, options.generations)
    answers = run.work / GENERATIONS_FILE

    set_seed(training.seed)
    model = _load(options)
    if processes.is_main() and not answers.exists():
        before = _answer(model, tokenizer, prompts, options, progress, "answers before")
        write_json(
            answers, [{"prompt": tokenizer.decode(p), "before": b} for p, b in zip(prompts, before, strict=True)]
        )
    processes.wait()

    training = copy.copy(training)  # the caller's stays as it is
    training.output_dir = str(run.work / "checkpoints")
    trainer = WeightedSFTTrainer(
        model=model,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.eval,
        processing_class=tokenizer,
        weighting=weighting,
        peft_config=lora_config(options.rank) if options.lora else None,
        callbacks=[RichProgressCallback(progress, f"train, {options.weighting}")],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    with run.timed("train"):
        trainer.train(resume_from_checkpoint=last_checkpoint(run.work / "checkpoints"))
    trainer.save_model(str(run.results))  # every process: sharded weights are gathered for it
    if not processes.is_main():
        return
    log, generations = _write_log(options, trainer, tokenizer, prompts, run, progress)
    del trainer, model
    gc.collect()
    if options.merge:
        _merge(options, run.results, tokenizer)
    write_sft_report(run.results / REPORT_FILE, options, log, generations)
    run.publish({"data": data.digest, "model": options.model, "processes": processes.count()})


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
        after = _answer(trainer.model, tokenizer, prompts, options, progress, "answers after")
    before = json.loads((run.work / GENERATIONS_FILE).read_text())
    generations = [{**entry, "after": text} for entry, text in zip(before, after, strict=True)]
    write_json(run.results / GENERATIONS_FILE, generations)
    return log, generations


def _answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    options: SFTOptions,
    progress: Progress,
    description: str,
) -> list[str]:
    if not prompts:
        return []
    task = progress.add_task(description, total=None)
    texts = generate_texts(model, tokenizer, prompts, options.generation_tokens)
    progress.update(task, total=1, completed=1)
    return texts


def check_training(training: WeightedSFTConfig) -> None:
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
    if training.save_strategy == SaveStrategy.STEPS and training.save_steps <= 0:
        raise InputError(f"save_steps is {training.save_steps}; it must be above 0")
    if not 0 <= training.max_grad_norm < math.inf:
        raise InputError(f"max_grad_norm is {training.max_grad_norm}; it must be a finite number, 0 for no clipping")
    for name in training.report_to:
        installed = getattr(integration_utils, f"is_{name}_available", None)
        if installed is not None and not installed():
            raise InputError(f"report_to {name}: {name} is not installed; install it or leave report_to out")
    if training.seed < 0:
        raise InputError(f"seed is {training.seed}; it must be 0 or more")


def load_training_data(options: SFTOptions, tokenizer: PreTrainedTokenizerBase) -> TrainingData:
    """Labelled data sets, or conversations whose tokens are all PLAIN.

    Raises:
        InputError: as `load_labelled` and `prepare`; for conversations with a weighting that needs roles.
    """
    data = _rows(options.data, options, tokenizer)
    if options.eval_data:
        held_out = _rows(options.eval_data, options, tokenizer)
        return replace(data, eval=held_out.train, digest=digest([data.digest, held_out.digest]))
    if options.eval_share:
        count = round(len(data.train) * options.eval_share)
        if not 0 < count < len(data.train):
            raise InputError(f"eval_share {options.eval_share} of {len(data.train)} samples leaves one side empty")
        order = np.random.default_rng(0).permutation(len(data.train))
        # In memory: otherwise the split is written as a cache file into the user's data set. `train_test_split` can't
        # do that for a data set that lies on disk.
        train, evaluation = (data.train.select(part, keep_in_memory=True) for part in (order[count:], order[:count]))
        return replace(data, train=train, eval=evaluation)
    return data


def _rows(path: str, options: SFTOptions, tokenizer: PreTrainedTokenizerBase) -> TrainingData:
    if Path(path).is_dir():
        labelled = load_labelled(path, tokenizer_fingerprint=tokenizer_fingerprint(tokenizer))
        ignored = [name for name in ("format", "chat_template", "tool_format") if getattr(options, name) is not None]
        if ignored:
            raise InputError(f"{path}: is labelled, so {ignored[0]} would change nothing; leave it out")
        info = labelled.info
        return TrainingData(labelled.rows, None, digest(asdict(info)), info.chat_template, info.notes)
    if make_weighting(options.weighting).needs_roles:
        if not Path(path).exists():
            raise InputError(f"{path}: no such directory")
        raise InputError(
            f"{path}: weighting {options.weighting} needs a labelled data set (a directory); make one: rolewise label"
        )
    renderer = Renderer(
        tokenizer,
        chat_template=options.chat_template,
        tool_format=options.tool_format,
        max_length=options.max_length,
    )
    data = prepare(path, renderer, format=options.format)
    columns = {
        "input_ids": [sample.input_ids for sample in data.samples],
        "labels": [np.where(sample.loss_mask, sample.input_ids, -100) for sample in data.samples],
        "token_roles": [np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT) for sample in data.samples],
    }
    rows = Dataset.from_dict(columns)
    return TrainingData(rows, None, digest([data.sha256, renderer.fingerprint()]), renderer.given_template, data.notes)


def _run_directory(options: SFTOptions, training: WeightedSFTConfig, data: TrainingData) -> RunDirectory:
    settings = {**_written(training), **asdict(options)}
    # Where inputs and outputs lie, and who is told of the progress, change nothing in what is computed.
    elsewhere = ("model", "data", "eval_data", "output", "report_to")
    identity = {
        "model": model_fingerprint(options.model, trust_remote_code=options.trust_remote_code),
        "data": data.digest,
        # A whole number comes back from config.yaml as a float where its option is one.
        "settings": {k: float(v) if type(v) is int else v for k, v in settings.items() if k not in elsewhere},
        # As many samples to a step as the processes take together.
        "processes": processes.count(),
        "version": __version__,
    }
    return RunDirectory(options.output, "sft", settings, identity, writes=processes.is_main())


def _written(training: WeightedSFTConfig) -> dict[str, Any]:
    """Every field of the trainer that a flag can give, so that the file runs again alike under another TRL's defaults.

    Left out are secrets, what only says where the run lies, and fields that are not set.
    """
    left_out = {"output_dir", "logging_dir", "run_name", "hub_token", "push_to_hub_token"}
    fields = training.to_dict()
    fields |= {name: getattr(training, name) for name in ("eos_token", "pad_token")}  # `to_dict` blanks out any token
    return {
        name: value
        for name, value in fields.items()
        if name not in left_out and isinstance(value, str | int | float | list | dict) and value not in ("", [], {})
    }


def _load(options: SFTOptions) -> Any:
    if not options.load_in_4bit:
        return load_model(
            options.model,
            dtype=options.dtype,
            device=default_device(),
            trust_remote_code=options.trust_remote_code,
        )
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return load_model(
        options.model,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        quantization_config=quantization,
        device_map="auto",
    )


def _merge(options: SFTOptions, results: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the base with the adapter merged in, in the base's own precision, to `results/merged`."""
    base = load_model(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
    merged = PeftModel.from_pretrained(base, str(results)).merge_and_unload()
    merged.save_pretrained(results / "merged")
    tokenizer.save_pretrained(results / "merged")


def _prompts(rows: Dataset, count: int) -> list[list[int]]:
    """Everything before the first assistant turn, of the first `count` rows."""
    prompts = []
    for row in rows.select(range(min(count, len(rows)))):
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompts.append(row["input_ids"][:start])
    return [prompt for prompt in prompts if prompt]


def _read_result(path: Path, notes: list[str], *, was_finished: bool) -> SFTResult:
    log = [json.loads(line) for line in (path / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    generations = json.loads((path / GENERATIONS_FILE).read_text(encoding="utf-8"))
    return SFTResult(path, log, generations, notes, was_finished)
