"""Cost of ResT's optimizer step against TRL's own `GRPOTrainer`.

    python benchmarks/grpo_step.py --model MODEL_DIRECTORY

Two trainers with a model copy each take steps on the same rollouts in turn, each pair in the opposite order of the one
before. A step is: score a rollout (rewards and advantages, and on our side regions and weights), then `training_step`
on it (forward and backward), `optimizer.step`, `zero_grad`. Sampling is the same for both and would hide what is
measured, so the responses are given: tool calls of the generator's conversations, some cut short, some repeated.
Ratios of seconds are paired step by step. Rows: the weighting, and `variance`, ResT with the estimate of the policy
gradient's variance.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from record import as_json, seconds_of, write_record
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from rolewise.data.generator import generate
from rolewise.evaluation.statistics import ratio_interval
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.models import default_device, load_model, load_tokenizer

ROWS = ("rest", "rest-official", "rest-entropy", "none", "variance")


def responses(tokenizer: PreTrainedTokenizerBase, count: int, tokens: int, seed: int) -> list[list[int]]:
    """Ids of the generator's assistant turns, repeated up to a length between half of `tokens` and all of it."""
    rng = np.random.default_rng(seed)
    texts = [m["content"] for c in generate(count, seed=seed) for m in c.messages if m["role"] == "assistant"]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    lengths = rng.integers(tokens // 2, tokens + 1, len(ids))
    return [(row * (int(length) // len(row) + 1))[:length] for row, length in zip(ids, lengths, strict=True)]


class Stepper:
    """Scores rollouts and takes optimizer steps with a trainer as its own loop does."""

    def __init__(self, trainer: GRPOTrainer):
        self.trainer = trainer
        trainer.model.train()
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        trainer.state.max_steps = 100

    def step(self, rows: list[dict[str, Any]]) -> None:
        trainer = self.trainer
        trainer.training_step(trainer.model, rows, None)
        trainer.optimizer.step()
        trainer.model.zero_grad()


def make_trainer(
    row: str | None, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], work: str
) -> GRPOTrainer:
    """Ours with the weighting of `row`, or TRL's own trainer for None."""
    common = {
        "output_dir": work,
        "per_device_train_batch_size": options.batch,
        "num_generations": options.batch,
        "max_completion_length": options.tokens,
        "learning_rate": 1e-6,
        "bf16": options.dtype == "bfloat16",
        "gradient_checkpointing": options.gradient_checkpointing,
        "report_to": "none",
        "seed": options.seed,
        "use_cpu": default_device() == "cpu",
    }

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        first = int(prompts[0].split()[-1]) * options.batch
        chosen = [ids[(first + place) % len(ids)] for place in range(len(prompts))]
        prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return {"prompt_ids": prompt_ids, "completion_ids": chosen, "logprobs": None}

    given: dict[str, Any] = {
        "model": load_model(options.model, dtype=options.dtype, device=default_device()),
        "reward_funcs": lambda completion_ids, **_: [float(len(row) % 7) for row in completion_ids],
        "train_dataset": Dataset.from_dict({"prompt": [f"{'a word ' * 32}{n}" for n in range(64)]}),
        "processing_class": tokenizer,
        "rollout_func": rollout,
    }
    if row is None:
        return GRPOTrainer(args=GRPOConfig(**common), **given)
    weighting = "rest" if row == "variance" else row
    args = WeightedGRPOConfig(weighting=weighting, gradient_variance=row == "variance", **common)
    return WeightedGRPOTrainer(args=args, **given)


def measure(
    row: str, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]]
) -> tuple[list[float], list[float]]:
    """Seconds of each of our steps and of TRL's, pair by pair."""
    ours: list[float] = []
    trls: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        steppers = [Stepper(make_trainer(name, options, tokenizer, ids, work)) for name in (row, None)]
        for pair in range(-options.warmup, options.pairs):
            example = dict(steppers[0].trainer.train_dataset[pair % 64])
            turns = list(zip(steppers, (ours, trls), strict=True))
            for stepper, times in turns if pair % 2 else reversed(turns):
                rows = [dict(example) for _ in range(options.batch)]
                seconds = seconds_of(lambda stepper=stepper, rows=rows: stepper.step(rows))
                if pair >= 0:
                    times.append(seconds)
    return ours, trls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["rest"])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2, help="pairs off the clock")
    parser.add_argument("--batch", type=int, default=4, help="responses per rollout, one group")
    parser.add_argument("--tokens", type=int, default=128, help="per response, at most")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/benchmark-grpo-step.json"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = load_tokenizer(options.model)
    ids = responses(tokenizer, 64, options.tokens, options.seed)

    console = Console()
    table = Table("weighting", "ours, s/step", "TRL's GRPO, s/step", "ours over TRL's")
    results = {}
    for row in options.rows:
        ours, trls = measure(row, options, tokenizer, ids)
        ratio = ratio_interval(ours, trls, seed=options.seed)
        table.add_row(row, f"{np.median(ours):.3f}", f"{np.median(trls):.3f}", f"{ratio:.3f}")
        results[row] = {"ratio": as_json(ratio), "our_seconds": ours, "trl_seconds": trls}
    console.print(table)
    write_record(options, default_device(), {"rows": results})
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    main()
