"""Cost of ResT's optimizer step against TRL's own `GRPOTrainer`.

    python benchmarks/grpo_step.py --model MODEL_DIRECTORY

Two trainers with a model copy each take steps on the same rollouts in turn, and with them the floor under both (see
`steps.py`), the order changing from pair to pair. A step is: score a rollout (rewards and advantages, and on our side
regions and weights), then `training_step` on it (forward and backward), `optimizer.step`, `zero_grad`. Sampling is the
same for both and would hide what is measured, so the responses are given: tool calls of the generator's conversations,
some cut short, some repeated. Ratios of seconds are paired step by step. Rows: the weighting, and `variance`, ResT with
the estimate of the policy gradient's variance.
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from steps import OURS, TRLS, Turn, add_options, floor_turn, make_ready, measure, precision, report, trainer_settings
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from rolewise.cli.console import run_script
from rolewise.generator import generate
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.models import default_device, load_model, load_tokenizer

ROWS = ("rest", "rest-official", "rest-entropy", "none", "variance")
PROMPTS = 64


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
        make_ready(trainer)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        trainer.state.max_steps = 100

    def step(self, rows: list[dict[str, Any]]) -> None:
        trainer = self.trainer
        with precision(trainer):
            trainer.training_step(trainer.model, rows, None)
        trainer.optimizer.step()
        trainer.model.zero_grad()


class Rollout:
    """Gives a rollout's responses without sampling: which ones, the number at the prompt's end tells."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], batch: int):
        self._tokenizer, self._ids, self._batch = tokenizer, ids, batch

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        first = int(prompts[0].split()[-1]) * self._batch
        chosen = [self._ids[(first + place) % len(self._ids)] for place in range(len(prompts))]
        prompt_ids = self._tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return {"prompt_ids": prompt_ids, "completion_ids": chosen, "logprobs": None}

    def batch(self, prompts: list[str], device: str) -> dict[str, torch.Tensor]:
        """Prompts and responses as a batch of tokens (B, T), padded on the right, with the responses as labels."""
        found = self(prompts, None)
        pairs = list(zip(found["prompt_ids"], found["completion_ids"], strict=True))
        width = max(len(prompt) + len(response) for prompt, response in pairs)
        ids_BT, mask_BT = torch.zeros(len(pairs), width, dtype=torch.long), torch.zeros(len(pairs), width)
        labels_BT = torch.full_like(ids_BT, -100)
        for row, (prompt, response) in enumerate(pairs):
            end = len(prompt) + len(response)
            ids_BT[row, :end] = torch.tensor(prompt + response)
            mask_BT[row, :end] = 1
            labels_BT[row, len(prompt) : end] = torch.tensor(response)
        batch = {"input_ids": ids_BT, "attention_mask": mask_BT.long(), "labels": labels_BT}
        return {name: tensor.to(device) for name, tensor in batch.items()}


def make_trainer(
    row: str | None, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, rollout: Rollout, work: str
) -> GRPOTrainer:
    """Ours with the weighting of `row`, or TRL's own trainer for None."""
    common = {
        **trainer_settings(options, work),
        "num_generations": options.batch,
        "max_completion_length": options.tokens,
    }
    given: dict[str, Any] = {
        "model": load_model(options.model, dtype=options.dtype, device=default_device()),
        "reward_funcs": lambda completion_ids, **_: [float(len(row) % 7) for row in completion_ids],
        "train_dataset": Dataset.from_dict({"prompt": [f"{'a word ' * 32}{n}" for n in range(PROMPTS)]}),
        "processing_class": tokenizer,
        "rollout_func": rollout,
    }
    if row is None:
        return GRPOTrainer(args=GRPOConfig(**common), **given)
    weighting = "rest" if row == "variance" else row
    args = WeightedGRPOConfig(weighting=weighting, gradient_variance=row == "variance", **common)
    return WeightedGRPOTrainer(args=args, **given)


def measure_row(
    row: str, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, rollout: Rollout
) -> dict[str, list[float]]:
    """Seconds of our steps, of TRL's and of the floor, pair by pair."""
    with tempfile.TemporaryDirectory() as work:
        ours, trls = (Stepper(make_trainer(name, options, tokenizer, rollout, work)) for name in (row, None))

        def turns_of(pair: int) -> list[Turn]:
            example = dict(ours.trainer.train_dataset[pair % PROMPTS])
            our_rows, trl_rows = ([dict(example) for _ in range(options.batch)] for _ in range(2))
            batch = rollout.batch([example["prompt"]] * options.batch, default_device())
            return [
                [(OURS, lambda: ours.step(our_rows))],
                [(TRLS, lambda: trls.step(trl_rows))],
                floor_turn(trls.trainer, [batch]),
            ]

        return measure(turns_of, options.pairs, options.warmup)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, tokens=128, batch=4, rows=ROWS, output="results/benchmark-grpo-step.json")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = load_tokenizer(options.model)
    rollout = Rollout(tokenizer, responses(tokenizer, 64, options.tokens, options.seed), options.batch)
    report(options, {row: measure_row(row, options, tokenizer, rollout) for row in options.rows}, "TRL's GRPO")


if __name__ == "__main__":
    run_script(main)
