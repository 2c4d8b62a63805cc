"""REINFORCE++ on paths that are the same whoever trains, for tests. Shapes: B paths, T tokens."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from datasets import Dataset
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from rolewise.core.launch import end_together
from rolewise.training import processes
from rolewise.training.reinforce import ReinforceConfig, ReinforceTrainer
from rolewise.training.rollout_paths import RolledPath


class FixedRollouts:
    """Random paths of 1 to 12 tokens with random rewards, the same for the same question and number on every call.

    Args:
        tokenizer: for the prompts.
        change: what to make of each path.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, change: Any = lambda path, number: path) -> None:
        self.tokenizer = tokenizer
        self.change = change
        self.seeds: list[int] = []

    def __call__(
        self, model: Any, rows: Sequence[Mapping[str, Any]], paths: Sequence[int], *, seed: int
    ) -> list[list[RolledPath]]:
        self.seeds.append(seed)
        return [[self._path(row["prompt"], n) for n in range(count)] for row, count in zip(rows, paths, strict=True)]

    def _path(self, prompt: str, number: int) -> RolledPath:
        chance = random.Random(f"{prompt} {number}")
        length = chance.randint(1, 12)
        ids = [chance.randrange(5, 200) for _ in range(length)]
        rewards = [chance.random() if chance.random() < 0.3 else 0.0 for _ in ids]
        rewards[-1] += chance.choice((0.0, 0.1, 1.0))
        right = rewards[-1] >= 1
        chosen = frozenset(place for place in range(length) if place % 5 == 0)
        path = RolledPath(
            self.tokenizer(prompt)["input_ids"],
            ids,
            rewards,
            outcome=rewards[-1],
            right=right,
            answered=True,
            behaviours=("next_step", "output") if right else ("next_step",),
            chosen=chosen,
        )
        return self.change(path, number)


def make_trainer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, rollouts: Any = None, *, kind: str = "llama", **options: Any
) -> ReinforceTrainer:
    """A trainer on the fixed paths, eight to a generation batch unless told."""
    settings: dict[str, Any] = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12}
    settings |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "learning_rate": 0.01, "bf16": False}
    arguments = {name: options.pop(name) for name in ("peft_config", "eval_dataset") if name in options}
    model = tiny_model(kind, vocab_size=len(tokenizer))
    reference = folder / "reference"
    if not reference.exists():  # TRL loads the reference model from where the policy came from
        tiny_model(kind, vocab_size=len(tokenizer)).save_pretrained(reference)
    model.config._name_or_path = str(reference)
    return ReinforceTrainer(
        model,
        rollouts or FixedRollouts(tokenizer),
        ReinforceConfig(output_dir=str(folder / "work"), **(settings | options)),
        Dataset.from_dict({"prompt": [f"question {number}" for number in range(8)]}),
        processing_class=tokenizer,
        behaviours=("next_step", "output"),
        **arguments,
    )


def rollout_of(trainer: ReinforceTrainer, rows: Sequence[int] = (0,) * 4 + (1,) * 4) -> dict[str, Any]:
    """A scored generation batch."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    return trainer._generate_and_score_completions([dict(trainer.train_dataset[row]) for row in rows])


def shift_policy(trainer: ReinforceTrainer, by: float = 0.02) -> None:
    """Move the policy's weights a little, so that it is not the reference any more."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def train_and_save(batch: int, folder: Path) -> int:
    """Two SGD steps of eight paths in all, by however many processes were started, and what was logged of them."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    trainer = make_trainer(
        tokenizer,
        folder,
        per_device_train_batch_size=batch,
        max_steps=2,
        learning_rate=0.5,
        beta=0.2,
        optim="sgd",
        logging_steps=1,
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), folder / "model.pt")
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history), encoding="utf-8")
    return 0


def take_part(batch: int, folder: Path) -> NoReturn:
    """`train_and_save` as a script of several processes does it."""
    processes.start()
    end_together(lambda: train_and_save(batch, folder))
