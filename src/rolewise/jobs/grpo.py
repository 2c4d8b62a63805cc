"""The reinforcement-learning job: prompts with reference calls in, a model or adapter out."""

import copy
import gc
import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from transformers import set_seed
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
from rolewise.jobs.grpo_data import PromptData, load_prompts
from rolewise.jobs.grpo_options import GRPOOptions
from rolewise.jobs.grpo_report import REPORT_FILE, write_grpo_report
from rolewise.jobs.trainer_settings import check_trainer, written_settings
from rolewise.labelling.sampled_roles import shad_rollout_roles
from rolewise.rewards.registry import RewardFunction, make_rewards
from rolewise.rewards.tool_calls import ToolCallRules
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint
from rolewise.training.generation import generate_texts
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.models import load_model, load_trainable, lora_config, model_fingerprint, write_merged
from rolewise.training.progress import LogFirstAndLast, RichProgressCallback
from rolewise.training.rollout_roles import RolloutRoles

LOG_FILE = "log.jsonl"
GENERATIONS_FILE = "generations.json"
COMPLETIONS = "completions"

TRAINERS_CHOICES = {
    "loss_type": ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "scale_rewards": ("group", "batch", "none"),
    "vllm_mode": ("colocate", "server"),
}
"""Of TRL's options, which it checks once the first responses are sampled, or never."""


@dataclass(frozen=True)
class GRPOResult:
    """A finished run: where it lies, its log lines and its answers before and after."""

    path: Path
    log: list[dict[str, Any]]
    generations: list[dict[str, str]]
    was_finished: bool


def train_grpo(
    options: GRPOOptions,
    training: WeightedGRPOConfig,
    progress: Progress | None = None,
    data: PromptData | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> GRPOResult:
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
    check_grpo(options, training)
    processes.start()
    if options.load_in_4bit and processes.count() > 1:
        raise InputError("load_in_4bit spreads the model over the devices that it finds; start one process")
    data = data or load_prompts(options)
    per_rollout = training.generation_batch_size // training.num_generations
    if len(data.train) < per_rollout:
        raise InputError(
            f"{options.data}: {len(data.train)} prompts, but a rollout takes {per_rollout}; give more data, or lower "
            "steps_per_generation or per_device_train_batch_size"
        )
    run = _run_directory(options, training, data)
    if run.finished():
        return _read_result(run.output, was_finished=True)
    with run.opened(not_worth_keeping=[GENERATIONS_FILE]):
        processes.wait()  # for the directories
        _train(options, training, data, run, progress or Progress(disable=True), say)
        processes.wait()  # for the results
    return _read_result(run.output, was_finished=False)


def check_grpo(options: GRPOOptions, training: WeightedGRPOConfig) -> None:
    """Check what would fail late, or train nothing without a word.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    rewards(options, training)
    measures = training.eval_strategy != IntervalStrategy.NO
    if measures and options.eval_data is None:
        raise InputError("eval_strategy needs data to measure on; give eval_data")
    if not measures and options.eval_data is not None:
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
    changed["steps_per_rollout"] = max(1, micro_batches // training.gradient_accumulation_steps)

    def rules(preset: ToolCallRules) -> ToolCallRules:
        return replace(preset, **changed)

    return make_rewards(split_list(options.reward), rules)


def _train(
    options: GRPOOptions,
    training: WeightedGRPOConfig,
    data: PromptData,
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
    trainer = _trainer(options, training, data, progress, say)
    prompts = (data.eval if data.eval is not None else data.train)["prompt"][: options.generations]
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
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        after = ["(not generated: the weights are spread over the processes)"] * len(prompts)
    else:
        after = _answer(trainer, data, prompts, progress, "answers after")
    generations = [{**entry, "after": text} for entry, text in zip(generations, after, strict=True)]
    write_json(run.results / GENERATIONS_FILE, generations)
    if (checkpoints / COMPLETIONS).is_dir():  # of log_completions
        shutil.copytree(checkpoints / COMPLETIONS, run.results / COMPLETIONS)
    stops = trainer.model.generation_config
    del trainer
    gc.collect()
    if options.merge:
        base = load_model(options.model, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
        write_merged(base, run.results, run.results / "merged", data.tokenizer, stops)
    write_rejected(data.rejected, run.results)
    write_grpo_report(run.results / REPORT_FILE, options, log, generations)
    run.publish({"data": data.digest, "model": options.model, "processes": processes.count()})


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
    try:
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
    except (ValueError, ImportError) as error:  # TRL's and Transformers' words for options that do not go together
        raise InputError(str(error)) from error
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
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


def _answer(
    trainer: WeightedGRPOTrainer, data: PromptData, prompts: list[str], progress: Progress, description: str
) -> list[str]:
    if not prompts:
        return []
    task = progress.add_task(description, total=None)
    ids = [data.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    texts = generate_texts(trainer.model, data.tokenizer, ids, trainer.args.max_completion_length)
    progress.update(task, total=1, completed=1)
    return texts


def _run_directory(options: GRPOOptions, training: WeightedGRPOConfig, data: PromptData) -> RunDirectory:
    settings = {**written_settings(training), **asdict(options)}
    del settings["generation_batch_size"]  # follows from steps_per_generation, and TRL takes one of them only
    # Where inputs and outputs lie, and who is told of the progress, change nothing in what is computed.
    elsewhere = ("model", "data", "eval_data", "output", "plugin", "report_to", "shad_model")
    identity = {
        "model": model_fingerprint(options.model, trust_remote_code=options.trust_remote_code),
        "shad_model": model_fingerprint(options.shad_model) if options.shad_model else "",
        "data": data.digest,
        # A whole number comes back from config.yaml as a float where its option is one.
        "settings": {k: float(v) if type(v) is int else v for k, v in settings.items() if k not in elsewhere},
        "plugins": plugin_digests(split_list(options.plugin or "")),
        # As many responses to a step as the processes take together.
        "processes": processes.count(),
        "version": __version__,
    }
    return RunDirectory(options.output, "grpo", settings, identity, writes=processes.is_main())


def _read_result(path: Path, *, was_finished: bool) -> GRPOResult:
    log = [json.loads(line) for line in (path / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    generations = json.loads((path / GENERATIONS_FILE).read_text(encoding="utf-8"))
    return GRPOResult(path, log, generations, was_finished)
