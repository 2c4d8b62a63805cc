"""Cost of an RFT optimizer step against TRL's own `SFTTrainer`.

    python benchmarks/rft_step.py --model MODEL_DIRECTORY

Two trainers with a model copy each take steps on the same micro-batches in turn, and with them the floor under both
(see `steps.py`), the order changing from pair to pair. A step is: fetch the micro-batches (`get_batch_samples`, which
counts what the loss is divided by), `training_step` on each (forward and backward), `optimizer.step`, `zero_grad`.
Collating, clipping and logging are off the clock. Ratios of seconds are paired step by step.

Rows:
- `fused`: RFT with TRL's fused LM head, as on a GPU by default, over TRL's SFT with the same head: RFT's own cost.
- `selected`: RFT with logits of the labelled positions only, as on a CPU by default, over the same SFT.
"""

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from record import rendered_samples
from steps import OURS, TRLS, Turn, add_options, floor_turn, make_ready, measure, precision, report, trainer_settings
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from rolewise.cli.console import run_script
from rolewise.core.role import Role
from rolewise.data.render import RenderedSample
from rolewise.training.models import default_device, load_model, load_tokenizer
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer

ROWS = ("fused", "selected")


class Stepper:
    """Takes optimizer steps with a trainer as its own loop does."""

    def __init__(self, trainer: SFTTrainer):
        self.trainer = trainer
        make_ready(trainer)
        trainer.create_optimizer()

    def collate(self, micro_batches: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Micro-batches by the trainer's own collator, on its device."""
        return [self.trainer._prepare_inputs(self.trainer.data_collator(examples)) for examples in micro_batches]

    def step(self, micro_batches: list[dict[str, Any]]) -> None:
        trainer = self.trainer
        trainer.current_gradient_accumulation_steps = len(micro_batches)
        batches, num_items = trainer.get_batch_samples(iter(micro_batches), len(micro_batches), trainer.args.device)
        for batch in batches:
            with precision(trainer):
                trainer.training_step(trainer.model, batch, num_items)
        trainer.optimizer.step()
        trainer.model.zero_grad()


def labelled_dataset(samples: Sequence[RenderedSample], tokens: int) -> Dataset:
    """Each sample's last `tokens` tokens up to the last one with loss, with the generator's true roles."""
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "token_roles": []}
    for sample in samples:
        assert sample.true_roles is not None
        end = int(np.flatnonzero(sample.loss_mask)[-1]) + 1
        window = slice(max(0, end - tokens), end)
        mask_T = sample.loss_mask[window]
        columns["input_ids"].append(sample.input_ids[window].tolist())
        columns["labels"].append(np.where(mask_T, sample.input_ids[window], -100).tolist())
        columns["token_roles"].append(np.where(mask_T, sample.true_roles[window], int(Role.CONTEXT)).tolist())
    return Dataset.from_dict(columns)


def make_trainer(
    row: str | None, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, work: str
) -> SFTTrainer:
    """RFT with the head of `row`, or TRL's own trainer for None."""
    common = {**trainer_settings(options, work), "gradient_accumulation_steps": options.accumulation}
    model = load_model(options.model, dtype=options.dtype, device=default_device())
    if row is not None:
        args = WeightedSFTConfig(weighting="rft", lm_head=row, **common)
        return WeightedSFTTrainer(model, args, train_dataset=dataset, processing_class=tokenizer)
    args = SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, **common)
    return SFTTrainer(model, args, train_dataset=dataset.remove_columns("token_roles"), processing_class=tokenizer)


def measure_row(
    row: str, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> dict[str, list[float]]:
    """Seconds of our steps, of TRL's and of the floor, pair by pair."""
    per_step = options.batch * options.accumulation
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as work:
        ours, trls = (Stepper(make_trainer(name, options, tokenizer, dataset, work)) for name in (row, None))

        def turns_of(_: int) -> list[Turn]:
            rows = rng.choice(len(dataset), per_step, replace=False).tolist()
            examples = [dataset[i] for i in rows]
            micro_batches = [examples[i : i + options.batch] for i in range(0, per_step, options.batch)]
            our_batches, trl_batches = ours.collate(micro_batches), trls.collate(micro_batches)
            return [
                [(OURS, lambda: ours.step(our_batches))],
                [(TRLS, lambda: trls.step(trl_batches))],
                floor_turn(trls.trainer, trl_batches),
            ]

        return measure(turns_of, options.pairs, options.warmup)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, tokens=200, batch=2, rows=ROWS, output="results/benchmark-rft-step.json")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches per step")
    parser.add_argument("--chat-template", help="for a model without one: chatml, or a file")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = load_tokenizer(options.model)
    count = max(32, options.batch * options.accumulation)
    dataset = labelled_dataset(rendered_samples(tokenizer, count, options.seed, options.chat_template), options.tokens)
    report(options, {row: measure_row(row, options, tokenizer, dataset) for row in options.rows}, "TRL's SFT (fused)")


if __name__ == "__main__":
    run_script(main)
