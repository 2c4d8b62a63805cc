"""What the benchmarks of optimizer steps share: their options, taking turns, the floor under every step, the results.

The floor is what no trainer can do without: the forward and the backward pass over the same token batches. The LM head
reads labelled positions only, the loss is their mean cross-entropy; nothing is shifted between devices, checked, logged
or weighted. The optimizer's step on these gradients is timed apart.

Shapes: B rows, T tokens, D hidden size, N labelled tokens, V vocabulary.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import as_json, seconds_of, write_record
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import Trainer

from rolewise.core.statistics import ratio_interval
from rolewise.core.transformers_insides import checkpointing, is_checkpointing, start_checkpointing
from rolewise.training.models import default_device

OURS, TRLS, FLOOR, OPTIMIZER = "ours", "trl", "floor", "optimizer"

Turn = Sequence[tuple[str, Callable[[], None]]]
"""Names and pieces of work that are timed one after another."""


def add_options(parser: argparse.ArgumentParser, *, tokens: int, batch: int, rows: Sequence[str], output: str) -> None:
    """The options of every benchmark of steps, with what they default to here."""
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--rows", nargs="+", choices=rows, default=[rows[0]])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2, help="pairs off the clock")
    parser.add_argument("--batch", type=int, default=batch, help="samples or responses to a micro-batch")
    parser.add_argument("--tokens", type=int, default=tokens, help="per sample or response, at most")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(output))


def trainer_settings(options: argparse.Namespace, work: str) -> dict[str, Any]:
    """Settings of ours and of TRL's trainer alike, checkpoints in `work`."""
    return {
        "output_dir": work,
        "per_device_train_batch_size": options.batch,
        "learning_rate": 1e-6,
        "bf16": options.dtype == "bfloat16",
        **checkpointing(options.gradient_checkpointing),
        "report_to": "none",
        "seed": options.seed,
        "use_cpu": default_device() == "cpu",
    }


def make_ready(trainer: Trainer) -> None:
    """Training mode, with checkpointing if asked: the trainer's own loop, which sees to that, does not run."""
    if is_checkpointing(trainer.args):
        start_checkpointing(trainer.model)
        trainer.model.enable_input_require_grads()
    trainer.model.train()


def precision(trainer: Trainer) -> torch.autocast:
    """Autocast, if the trainer's arguments ask for bfloat16: the trainer's own loop has it from Accelerate."""
    device: str = trainer.args.device.type
    return torch.autocast(device, torch.bfloat16, enabled=bool(trainer.args.bf16))


def floor_turn(trainer: Trainer, batches: Sequence[dict[str, torch.Tensor]]) -> Turn:
    """The floor under a step on these micro-batches, with the trainer's model and optimizer.

    Args:
        trainer: whose optimizer exists; its gradients are dropped in the end.
        batches: `input_ids`, `attention_mask` and `labels` (−100 where there are none), each int64 (B, T).
    """
    model, optimizer = trainer.model, trainer.optimizer
    backbone, head = model.base_model, model.get_output_embeddings()

    def forward_and_backward() -> None:
        for batch in batches:
            targets_BT = batch["labels"][:, 1:]
            labelled_BT = targets_BT != -100
            with precision(trainer):
                hidden_BTD = backbone(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
                ).last_hidden_state
                logits_NV = head(hidden_BTD[:, :-1][labelled_BT])
            nn.functional.cross_entropy(logits_NV.float(), targets_BT[labelled_BT]).backward()

    def step() -> None:
        optimizer.step()
        model.zero_grad()

    return [(FLOOR, forward_and_backward), (OPTIMIZER, step)]


def measure(turns_of: Callable[[int], Sequence[Turn]], pairs: int, warmup: int) -> dict[str, list[float]]:
    """Seconds of each piece of work in each pair. Who goes first changes from pair to pair.

    Args:
        turns_of: makes the turns of a pair, off the clock; the first, negative pairs warm up.
    """
    seconds: dict[str, list[float]] = {}
    for pair in range(-warmup, pairs):
        turns = turns_of(pair)
        first = pair % len(turns)
        for name, work in (piece for turn in [*turns[first:], *turns[:first]] for piece in turn):
            spent = seconds_of(work)
            if pair >= 0:
                seconds.setdefault(name, []).append(spent)
    return seconds


def report(options: argparse.Namespace, found: dict[str, dict[str, list[float]]], plain: str) -> None:
    """Print the seconds and ratios of each row and write the record; `plain` is what TRL's step is called."""
    console = Console()
    table = Table("row", "ours, s", f"{plain}, s", "floor, s", "optimizer, s", f"ours over {plain}", "ours over floor")
    rows = {}
    for row, seconds in found.items():
        ratios = {
            "ratio": ratio_interval(seconds[OURS], seconds[TRLS], seed=options.seed),
            "over_floor": ratio_interval(seconds[OURS], seconds[FLOOR], seed=options.seed),
            "over_floor_and_optimizer": ratio_interval(
                seconds[OURS], np.add(seconds[FLOOR], seconds[OPTIMIZER]), seed=options.seed
            ),
            "trl_over_floor": ratio_interval(seconds[TRLS], seconds[FLOOR], seed=options.seed),
        }
        medians = [f"{np.median(seconds[name]):.3f}" for name in (OURS, TRLS, FLOOR, OPTIMIZER)]
        table.add_row(row, *medians, f"{ratios['ratio']:.3f}", f"{ratios['over_floor']:.3f}")
        rows[row] = {**{name: as_json(ratio) for name, ratio in ratios.items()}, "seconds": seconds}
    console.print(table)
    write_record(options, default_device(), {"rows": rows})
    console.print(f"written to {options.output}")
