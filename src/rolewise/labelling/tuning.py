"""Brief tuning of a model, with the plain causal loss, to compare its losses before and after.

SHAD's second step (arXiv 2412.14780, eq. 1) and Rho-1's first (arXiv 2404.07965, section 2.2) differ only in the rows.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from rich.progress import Progress
from transformers import PrinterCallback, ProgressCallback, Trainer, set_seed

from rolewise.core.files import open_to_umask
from rolewise.core.role import Role
from rolewise.core.transformers_insides import checkpointing
from rolewise.data.render import RenderedSample
from rolewise.data.shuffle import ShuffledPair, pair_ids
from rolewise.training import processes
from rolewise.training.checkpoints import last_checkpoint, train_to_end
from rolewise.training.models import load_model, load_tokenizer, lora_config
from rolewise.training.progress import RichProgressCallback
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer

SAVE_EVERY = 50
"""Optimizer steps between checkpoints: a killed tuning loses at most this many."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Settings of the tuning. SHAD's paper gives no settings for this step; these were found by trial.

    Attributes:
        method: `lora`, which needs one copy of the weights, or `full`.
        learning_rate: constant learning rate of AdamW.
        rank: rank of the LoRA matrices on all linear layers; their alpha is twice as large.
        batch_size: examples per optimizer step.
        micro_batch_size: maximum number of examples that go through the model together.
        epochs: passes over the examples.
        dtype: dtype of the weights, the same as for scoring.
    """

    method: str
    learning_rate: float
    rank: int
    batch_size: int
    micro_batch_size: int
    epochs: int
    dtype: str
    seed: int


def tune(
    model: str,
    rows: Callable[[], Dataset],
    output: Path,
    config: TuningConfig,
    *,
    device: str,
    trust_remote_code: bool = False,
    progress: Progress,
    description: str,
) -> None:
    """Tune `model` on the rows of `rows()` and save the adapter (or the full model) as the directory `output`.

    Rows have `input_ids`, `labels` and `token_roles`, and are made only if needed. `output` is written atomically at
    the end. Until then checkpoints are kept beside it, from which a killed run resumes.
    """
    if output.exists():
        return
    work = output.with_name(f"{output.name}.training")
    set_seed(config.seed)
    trainer = WeightedSFTTrainer(
        model=load_model(model, dtype=config.dtype, device=device, trust_remote_code=trust_remote_code),
        args=WeightedSFTConfig(**trainer_arguments(work, config, on_gpu=device != "cpu"), weighting="none"),
        train_dataset=rows(),
        processing_class=load_tokenizer(model, trust_remote_code=trust_remote_code),
        peft_config=lora_config(config.rank) if config.method == "lora" else None,
        callbacks=[RichProgressCallback(progress, description)],
    )
    run_to_end(trainer, work, output)


def run_to_end(trainer: Trainer, work: Path, output: Path) -> None:
    """Train from the last checkpoint in `work`, then save the result as the directory `output` and remove `work`."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    train_to_end(trainer, last_checkpoint(work, processes.count()))
    finished = work / "finished"
    trainer.save_model(str(finished))
    if processes.is_main():
        open_to_umask(finished)
        finished.rename(output)
        shutil.rmtree(work)
    processes.wait()


def trainer_arguments(work: Path, config: TuningConfig, *, on_gpu: bool) -> dict[str, Any]:
    """Return the arguments that any of TRL's trainers needs for a tuning."""
    # A divisor: otherwise a step would take fewer examples than requested.
    share = config.batch_size // processes.count()
    micro = next(m for m in range(config.micro_batch_size, 0, -1) if share % m == 0)
    return {
        "output_dir": str(work),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": share // micro,
        "num_train_epochs": config.epochs,
        "save_steps": SAVE_EVERY,
        "save_total_limit": 1,
        "logging_steps": 1,
        "seed": config.seed,
        "bf16": False,
        # A GPU is limited by memory; on a CPU recomputation would only cost time.
        **checkpointing(on_gpu),
        "use_cpu": not on_gpu,
        "report_to": "none",
    }


def pair_rows(pairs: Sequence[ShuffledPair], samples: Sequence[RenderedSample], max_length: int | None) -> Dataset:
    """Return shuffled pairs as rows; their outputs carry loss."""
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "token_roles": []}
    for pair in pairs:
        ids, start = pair_ids(pair, samples, max_length)
        output_length = len(ids) - start
        columns["input_ids"].append(ids)
        columns["labels"].append([-100] * start + ids[start:])
        columns["token_roles"].append([int(Role.CONTEXT)] * start + [int(Role.PLAIN)] * output_length)
    return Dataset.from_dict(columns)


def sample_rows(numbers: Sequence[int], samples: Sequence[RenderedSample]) -> Dataset:
    """Return the samples with these numbers as rows; all their loss tokens carry loss."""
    columns: dict[str, list[np.ndarray]] = {"input_ids": [], "labels": [], "token_roles": []}
    for number in numbers:
        sample = samples[number]
        columns["input_ids"].append(sample.input_ids)
        columns["labels"].append(np.where(sample.loss_mask, sample.input_ids, -100))
        columns["token_roles"].append(np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT).astype(np.uint8))
    return Dataset.from_dict(columns)
