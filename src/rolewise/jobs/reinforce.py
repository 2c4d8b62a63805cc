"""The second phase of RFTT: a model with functional tokens in, questions with answers in, a better model out."""

import copy
import gc
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy

from rolewise import __version__
from rolewise.core.errors import InputError
from rolewise.core.files import write_json, write_text
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.run_directory import RunDirectory
from rolewise.data.chat_template import template_text
from rolewise.data.readers import write_rejected
from rolewise.jobs.reinforce_data import QuestionData, load_questions
from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.jobs.reinforce_report import REPORT_FILE, write_reinforce_report
from rolewise.jobs.reinforce_rollouts import check_values, make_rollouts, open_values, search_settings
from rolewise.jobs.trainer_settings import check_trainer, written_settings
from rolewise.search.sampled_rollouts import CompletionRewards, SampledRollouts
from rolewise.search.tree_rollouts import TreeRollouts
from rolewise.search.values import Values
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint
from rolewise.training.generation import generate_texts
from rolewise.training.models import load_model, load_trainable, lora_config, model_fingerprint, write_merged
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.reinforce import ReinforceConfig, ReinforceTrainer, check_reinforce
from rolewise.training.trl_grpo_adapter import GRPOSeams

LOG_FILE = "log.jsonl"
GENERATIONS_FILE = "generations.json"
SERVER_NOTE = (
    "The server's weights stay as they are while the model trains: its paths grow older with every step. Train a few "
    "steps, serve the result, and go on from there."
)


@dataclass(frozen=True)
class ReinforceResult:
    """A finished run: where it lies, its log lines, its answers before and after, and what the user should know."""

    path: Path
    log: list[dict[str, Any]]
    generations: list[dict[str, str]]
    was_finished: bool


def reinforce(
    options: ReinforceOptions,
    training: ReinforceConfig,
    progress: Progress | None = None,
    data: QuestionData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> ReinforceResult:
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
    run = _run_directory(options, training, data)
    if run.finished():
        return _read_result(run.output, was_finished=True)
    with run.opened(not_worth_keeping=[GENERATIONS_FILE]), ExitStack() as stack:
        values = stack.enter_context(closing(open_values(options)))
        rollouts = None
        if options.rollouts_from != "grpo":
            rollouts = stack.enter_context(closing(make_rollouts(options, training, data, values)))
        processes.wait()  # for the directories
        _train(options, training, data, (values, rollouts), run, progress or Progress(disable=True), say)
        processes.wait()  # for the results
    return _read_result(run.output, was_finished=False)


def check_options(options: ReinforceOptions, training: ReinforceConfig) -> None:
    """Check what would fail late, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    if options.rollouts_from != "grpo":
        check_reinforce(training)
    search_settings(options, training)
    check_values(options)
    measures = training.eval_strategy != IntervalStrategy.NO
    if measures and options.eval_data is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data")
    if not measures and options.eval_data is not None:
        raise InputError("eval_strategy no never measures; leave eval_data out, or give another one")
    if training.max_completion_length is None or training.max_completion_length < 1:
        raise InputError(f"max_completion_length is {training.max_completion_length}; it must be at least 1")
    if training.temperature <= 0:
        raise InputError(f"temperature is {training.temperature}; give more than 0, or all answers are one")
    if training.mask_truncated_completions and options.rollouts_from == "tree":
        raise InputError(
            "mask_truncated_completions would leave out every path of a tree: they end without an end token"
        )
    if training.use_vllm and options.rollouts_from != "grpo":
        raise InputError("use_vllm is of rollouts from grpo; for tree and samples a vLLM server is given as server")


def _train(
    options: ReinforceOptions,
    training: ReinforceConfig,
    data: QuestionData,
    source: tuple[Values, TreeRollouts | SampledRollouts | None],
    run: RunDirectory,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    checkpoints = run.work / "checkpoints"
    checkpoint = last_checkpoint(checkpoints)
    training = copy.copy(training)  # the caller's stays as it is
    training.output_dir = str(checkpoints)
    # Once, at the start of it all: a resumed run has that line already.
    training.eval_on_start = data.eval is not None and checkpoint is None
    set_seed(training.seed)
    values, rollouts = source
    trainer = _trainer(options, training, data, rollouts or values, progress)
    told = _Notes([values, *([rollouts] if rollouts else [])], say)
    trainer.add_callback(told)
    rows = data.eval if data.eval is not None else data.train
    prompts = rows["prompt"][: options.generations]
    if processes.is_main() and not (run.work / GENERATIONS_FILE).exists():
        before = _answer(trainer, data, prompts, progress, "answers before")
        write_json(
            run.work / GENERATIONS_FILE, [{"prompt": p, "before": b} for p, b in zip(prompts, before, strict=True)]
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
    log = [entry for entry in trainer.state.log_history if "reward" in entry or "eval_reward" in entry]
    write_text(run.results / LOG_FILE, "".join(json.dumps(entry) + "\n" for entry in log))
    generations = json.loads((run.work / GENERATIONS_FILE).read_text(encoding="utf-8"))
    after = _answer(trainer, data, prompts, progress, "answers after")
    generations = [{**entry, "after": text} for entry, text in zip(generations, after, strict=True)]
    write_json(run.results / GENERATIONS_FILE, generations)
    stops = trainer.model.generation_config
    del trainer
    gc.collect()
    if options.merge:
        base = load_model(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
        write_merged(base, run.results, data.tokenizer, stops)
    write_rejected(data.rejected, run.results)
    notes = [*data.notes, *([SERVER_NOTE] if options.server else []), *told.notes()]
    write_reinforce_report(run.results / REPORT_FILE, options, log, generations, notes)
    run.publish({"data": data.digest, "model": options.model, "processes": processes.count(), "notes": notes})


class _Notes(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Says what judges and rollouts note as soon as they note it; a note that only grows is not said again."""

    def __init__(self, sources: Sequence[Values | TreeRollouts | SampledRollouts], say: Callable[[str], None]) -> None:
        self._sources = sources
        self._say = say
        self._said = 0

    def notes(self) -> list[str]:
        """All notes, as they are now."""
        return [note for source in self._sources for note in source.notes]

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        notes = self.notes()
        if processes.is_main():
            for note in notes[self._said :]:
                self._say(note)
        self._said = len(notes)


def _trainer(
    options: ReinforceOptions,
    training: ReinforceConfig,
    data: QuestionData,
    rollouts: TreeRollouts | SampledRollouts | Values,
    progress: Progress,
) -> GRPOSeams:
    """REINFORCE++ on rollouts; TRL's GRPO with the rewards of a judge, where one is given instead."""
    model = load_trainable(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
    own = model.generation_config.eos_token_id
    ends = [*data.stop_token_ids, *(own if isinstance(own, list) else [own]), data.tokenizer.eos_token_id]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    model.generation_config.eos_token_id = ends
    if options.chat_template is not None:
        data.tokenizer.chat_template = template_text(data.tokenizer, options.chat_template)  # saved with the model
    behaviours = tuple(data.functional)
    common: dict[str, Any] = {
        "args": training,
        "train_dataset": data.train,
        "eval_dataset": data.eval,
        "processing_class": data.tokenizer,
        "peft_config": lora_config(options.rank) if options.lora else None,
        "callbacks": [
            RichProgressCallback(progress, f"reinforce, {options.rollouts_from}", shown="reward"),
            LogFirstAndLast(),
        ],
    }
    try:
        if isinstance(rollouts, TreeRollouts | SampledRollouts):
            trainer: GRPOSeams = ReinforceTrainer(model, rollouts, behaviours=behaviours, **common)
        else:
            rewards = CompletionRewards(rollouts, data.tokenizer, ends, data.functional, behaviours)
            trainer = GRPOSeams(model, rewards, **common)
            trainer.rendered_prompts = True
    except (ValueError, ImportError) as error:  # TRL's and Transformers' words for options that do not go together
        raise InputError(str(error)) from error
    if (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled) and options.rollouts_from != "grpo":
        raise InputError(
            "weights that are spread over processes can't be sampled from here; start without FSDP and DeepSpeed, or "
            "take rollouts from grpo with use_vllm"
        )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _answer(
    trainer: GRPOSeams, data: QuestionData, prompts: Sequence[str], progress: Progress, description: str
) -> list[str]:
    if not prompts:
        return []
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return ["(not generated: the weights are spread over the processes)"] * len(prompts)
    task = progress.add_task(description, total=None)
    ids = [data.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    texts = generate_texts(trainer.model, data.tokenizer, ids, trainer.args.max_completion_length)
    progress.update(task, total=1, completed=1)
    return texts


def _run_directory(options: ReinforceOptions, training: ReinforceConfig, data: QuestionData) -> RunDirectory:
    settings = {**written_settings(training), **asdict(options)}
    del settings["generation_batch_size"]  # follows from steps_per_generation, and TRL takes one of them only
    # Where inputs and outputs lie, how fast it goes, and who is told of the progress change nothing in the results.
    elsewhere = {"model", "data", "eval_data", "output", "plugin", "behaviours", "report_to"}
    elsewhere |= {"batch_size", "concurrency", "server", "api_key"}
    identity = {
        "model": model_fingerprint(options.model, trust_remote_code=options.trust_remote_code),
        "data": data.digest,
        "behaviours": data.behaviours.as_record(),
        # A whole number comes back from config.yaml as a float where its option is one.
        "settings": {k: float(v) if type(v) is int else v for k, v in settings.items() if k not in elsewhere},
        "plugins": plugin_digests(split_list(options.plugin or "")),
        # As many paths to a step as the processes take together.
        "processes": processes.count(),
        "version": __version__,
    }
    return RunDirectory(options.output, "reinforce", settings, identity, writes=processes.is_main())


def _read_result(path: Path, *, was_finished: bool) -> ReinforceResult:
    log = [json.loads(line) for line in (path / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    generations = json.loads((path / GENERATIONS_FILE).read_text(encoding="utf-8"))
    return ReinforceResult(path, log, generations, was_finished)
