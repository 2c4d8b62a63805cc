"""The frame of every training command: answers before and after, checkpoints, log, report; written atomically."""

import copy
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from rolewise import __version__
from rolewise.core.behaviour import BehaviourSet, write_behaviours
from rolewise.core.errors import InputError
from rolewise.core.files import read_json, read_json_lines, write_json, write_json_lines
from rolewise.core.options import split_list
from rolewise.core.plugins import plugin_digests
from rolewise.core.run_directory import RunDirectory
from rolewise.data.readers import write_rejected
from rolewise.jobs.card_contents import write_model_cards
from rolewise.jobs.trainer_settings import written_settings
from rolewise.reporting.content import REPORT_FILE, Chart, Table
from rolewise.reporting.html import Generation, write_report
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint, train_to_end
from rolewise.training.generation import generate_texts
from rolewise.training.models import load_model, lora_config, model_fingerprint, write_merged
from rolewise.training.progress import LogFirstAndLast

LOG_FILE = "log.jsonl"
GENERATIONS_FILE = "generations.json"
CHECKPOINTS = "checkpoints"
ELSEWHERE = (
    *("model", "data", "eval_data", "output", "plugin", "report_to"),
    *("behaviours", "shad_model", "process_reward"),
)
"""Options for the location of inputs and outputs, whose content counts, and for progress reporting."""
HOW_FAST = ("batch_size", "concurrency", "server", "api_key", "process_reward_key")
"""Options for who generates and how much at once, which affects the result only by rounding."""

Log = list[dict[str, Any]]
Generations = list[dict[str, str]]


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: its path, its log lines and its answers before and after."""

    path: Path
    log: Log
    generations: Generations
    was_finished: bool


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """The functions of a training command, which take its options and its trainer's config.

    Attributes:
        check: (options, training): rejects settings that would fail late.
        load: (options, training) → the data, with `notes` for the user.
        train: (options, training, progress, data, say) → the result.
        tables: log → tables for the terminal, the report and the model's card; None for a table without numbers.
        curves: log → charts for the report.
    """

    check: Callable[[Any, Any], None]
    load: Callable[[Any, Any], Any]
    train: Callable[[Any, Any, Progress, Any, Callable[[str], None]], TrainingResult]
    tables: Callable[[Log], Sequence[Table | None]]
    curves: Callable[[Log], Sequence[Chart]]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """The parts of a training run that depend on the command.

    Attributes:
        command: name of the command.
        options: its options; `model`, `output`, `plugin`, `merge`, `dtype` and `trust_remote_code` are read.
        training: settings of the trainer, which are not modified.
        data: object with `tokenizer`, `eval`, `digest` and `rejected`.
        make_trainer: returns the trainer with these settings, whose `output_dir` is set.
        prompts: (text, ids) of the prompts to answer before and after.
        answer_tokens: maximum tokens per answer.
        logged: log lines with one of these keys are kept.
        job: provides the tables and curves of the log.
        subtitle: subtitle of the report.
        notes: returns notes for the report, called when it is written.
        finish: writes any other results.
        identity: further values that identify the run, as JSON values.
        behaviours: set whose functional tokens the trained model has, added now or before; None if it has none.
    """

    command: str
    options: Any
    training: Any
    data: Any
    make_trainer: Callable[[Any], Any]
    prompts: Sequence[tuple[str, list[int]]]
    answer_tokens: int
    logged: tuple[str, ...]
    job: TrainingJob
    subtitle: str
    notes: Callable[[], Sequence[str]]
    finish: Callable[[RunDirectory], None] = lambda run: None
    identity: Mapping[str, Any] = field(default_factory=dict)
    behaviours: BehaviourSet | None = None


def run_training(job: TrainingRun, progress: Progress) -> TrainingResult:
    """Train and write the result to the output, unless it exists; a killed run resumes from its last checkpoint.

    Raises:
        InputError: for an unusable model or unusable settings, or an output that holds something else.
    """
    run = _run_directory(job)
    if run.finished():
        return _read_result(run.output, was_finished=True)
    with run.opened(not_worth_keeping=[GENERATIONS_FILE]):
        processes.wait()  # for the directories
        _train(job, run, progress)
        processes.wait()  # for the results
    return _read_result(run.output, was_finished=False)


def trainer_arguments(options: Any, training: Any, data: Any, *callbacks: TrainerCallback) -> dict[str, Any]:
    """Return the arguments that every trainer takes: settings, data, adapter and callbacks."""
    return {
        "args": training,
        "train_dataset": data.train,
        "eval_dataset": data.eval,
        "processing_class": data.tokenizer,
        "peft_config": lora_config(options.rank) if options.lora else None,
        "callbacks": [*callbacks, LogFirstAndLast()],
    }


def _train(job: TrainingRun, run: RunDirectory, progress: Progress) -> None:
    checkpoint = last_checkpoint(run.work / CHECKPOINTS, processes.count())
    training = copy.copy(job.training)  # the caller's copy is not modified
    training.output_dir = str(run.work / CHECKPOINTS)
    # Once, at the very start: a resumed run already has that line.
    training.eval_on_start = job.data.eval is not None and checkpoint is None
    set_seed(training.seed)
    try:
        trainer = job.make_trainer(training)
    except (ValueError, ImportError) as error:  # by TRL and Transformers, for incompatible settings
        raise InputError(str(error)) from error
    for callback in (PrinterCallback, ProgressCallback):  # the trainer's own lines and bars in the terminal
        trainer.remove_callback(callback)
    if processes.is_main() and not (run.work / GENERATIONS_FILE).exists():
        before = _answers(job, trainer.model, progress, "answers before")
        asked = [{"prompt": text, "before": b} for (text, _), b in zip(job.prompts, before, strict=True)]
        write_json(run.work / GENERATIONS_FILE, asked)
    processes.wait()
    with run.timed("train"):
        try:
            train_to_end(trainer, checkpoint)
        except ImportError as error:  # e.g. an optimizer from a library that is not installed
            raise InputError(str(error)) from error
    trainer.args.eval_on_start = job.data.eval is not None  # saved with the model, which must not reveal a kill
    trainer.save_model(str(run.results))  # in every process: sharded weights are gathered for it
    if not processes.is_main():
        return
    # Sorted, like a checkpoint's lines, or the order of a table's rows would reveal a kill.
    log = [dict(sorted(e.items())) for e in trainer.state.log_history if any(key in e for key in job.logged)]
    write_json_lines(run.results / LOG_FILE, log)
    generations = _generations(job, trainer, run, progress)
    stops = trainer.model.generation_config
    del trainer
    gc.collect()
    if job.options.merge:
        options = job.options
        base = load_model(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
        write_merged(base, run.results, run.results / "merged", job.data.tokenizer, stops)
    if job.behaviours is not None:
        for directory in [run.results, *([run.results / "merged"] if job.options.merge else [])]:
            write_behaviours(job.behaviours, directory)
    write_rejected(job.data.rejected, run.results)
    job.finish(run)
    tables = job.job.tables(log)
    write_report(
        run.results / REPORT_FILE,
        title=run.output.name,
        subtitle=job.subtitle,
        summary=[table for table in tables if table is not None],
        samples=[],
        curves=list(job.job.curves(log)),
        generations=[Generation(g["prompt"], [("before", g["before"]), ("after", g["after"])]) for g in generations],
        notes=job.notes(),
    )
    write_model_cards(run.results, job.command, job.options, job.training, job.data, tables)
    run.publish({"data": job.data.digest, "model": job.options.model, "processes": processes.count()})


def _generations(job: TrainingRun, trainer: Any, run: RunDirectory, progress: Progress) -> Generations:
    """Write and return the answers before and after training."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        after = ["(not generated: the weights are sharded over the processes)"] * len(job.prompts)
    else:
        after = _answers(job, trainer.model, progress, "answers after")
    before = read_json(run.work / GENERATIONS_FILE)
    generations = [{**entry, "after": text} for entry, text in zip(before, after, strict=True)]
    write_json(run.results / GENERATIONS_FILE, generations)
    return generations


def _answers(job: TrainingRun, model: Any, progress: Progress, description: str) -> list[str]:
    if not job.prompts:
        return []
    task = progress.add_task(description, total=None)
    texts = generate_texts(model, job.data.tokenizer, [ids for _, ids in job.prompts], job.answer_tokens)
    progress.update(task, total=1, completed=1)
    return texts


def _run_directory(job: TrainingRun) -> RunDirectory:
    options = job.options
    settings = {**written_settings(job.training), **asdict(options)}
    settings.pop("generation_batch_size", None)  # implied by steps_per_generation, and TRL accepts only one of them
    left_out = (*ELSEWHERE, *HOW_FAST)
    identity = {
        "model": model_fingerprint(options.model, trust_remote_code=options.trust_remote_code),
        "data": job.data.digest,
        # config.yaml returns a whole number as a float if its option is a float.
        "settings": {k: float(v) if type(v) is int else v for k, v in settings.items() if k not in left_out},
        "plugins": plugin_digests(split_list(options.plugin or "")),
        **job.identity,
        # Samples or responses per step over all processes.
        "processes": processes.count(),
        "version": __version__,
    }
    return RunDirectory(options.output, job.command, settings, identity, writes=processes.is_main())


def _read_result(path: Path, *, was_finished: bool) -> TrainingResult:
    return TrainingResult(path, read_json_lines(path / LOG_FILE), read_json(path / GENERATIONS_FILE), was_finished)
