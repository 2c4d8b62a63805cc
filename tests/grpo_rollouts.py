"""Trainers on rollouts that are the same whoever trains, for tests of weighted GRPO. Shapes: B responses, T tokens."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from datasets import Dataset
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from rolewise.core.launch import end_together
from rolewise.core.transformers_insides import checkpointing
from rolewise.training import processes
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.training.rollout_roles import RolloutRoles
from rolewise.training.rollout_weights import RolloutTokens

LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")
COLOURS = RolloutRoles(
    lambda before, responses: [(np.array(ids) % 3).astype(np.uint8) for ids in responses],
    {0: "red", 1: "green", 2: "blue"},
)
"""A role by the token's number: every response has several."""


def prompts(count: int = 8) -> Dataset:
    return Dataset.from_dict({"prompt": [f"question {number}" for number in range(count)]})


def fixed_rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Random responses of 1 to 12 tokens, of which the middle ones are an environment's; the same on every call.

    A prompt's first, second, … response does not depend on the other prompts, nor on the process.
    """
    tokenizer = trainer.processing_class
    seen = Counter[str]()
    completion_ids = []
    for prompt in prompts:
        chance = random.Random(f"{prompt} {seen[prompt]}")
        seen[prompt] += 1
        completion_ids.append([chance.randrange(5, 200) for _ in range(chance.randint(1, 12))])
    lengths = [len(ids) for ids in completion_ids]
    masks = [[0 if length > 6 and 2 <= place < 4 else 1 for place in range(length)] for length in lengths]
    prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None, "env_mask": masks}


def reward_by_ids(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(sum(ids) % 7) for ids in completion_ids]


def random_weights(tokens: RolloutTokens) -> torch.Tensor:
    """Weights from 0 to 2, of which a fifth are 0; the same for the same shape."""
    generator = torch.Generator().manual_seed(1)
    weights_BT = 2 * torch.rand(tokens.roles_BT.shape, generator=generator)
    return weights_BT * (torch.rand(weights_BT.shape, generator=generator) > 0.2)


def make_trainer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, *, ours: bool = True, kind: str = "llama", **options: Any
) -> GRPOTrainer:
    """Ours or TRL's own trainer on the fixed rollouts, eight responses to a generation batch unless told."""
    ours_only = {name: options.pop(name) for name in ("weighting", "roles", "say") if name in options}
    for_trl = ("peft_config", "rollout_func", "reward_funcs", "reward_processing_classes", "train_dataset")
    arguments = {name: options.pop(name) for name in for_trl if name in options}
    if "args_weighting" in options:
        options["weighting"] = options.pop("args_weighting")
    arguments = {"rollout_func": fixed_rollout, "reward_funcs": reward_by_ids, **arguments}
    settings = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12, "bf16": False}
    settings |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "learning_rate": 0.01}
    settings |= checkpointing(True) | options
    args = (WeightedGRPOConfig if ours else GRPOConfig)(output_dir=str(folder), **settings)
    model = tiny_model(kind, vocab_size=len(tokenizer))
    if options.get("beta"):  # TRL loads the reference model from where the policy came from
        model.save_pretrained(folder / "reference")
        model.config._name_or_path = str(folder / "reference")
    common = {"model": model, "args": args, "processing_class": tokenizer, "train_dataset": prompts(), **arguments}
    if not ours:
        return GRPOTrainer(**common)
    return WeightedGRPOTrainer(**common, **{"roles": COLOURS, "weighting": random_weights, **ours_only})


def rollout_of(trainer: GRPOTrainer, rows: Sequence[int] = (0,) * 4 + (1,) * 4) -> dict[str, Any]:
    """A scored generation batch, with log-probabilities of another policy, so that ratios are not 1."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    rollout = trainer._generate_and_score_completions([dict(trainer.train_dataset[row]) for row in rows])
    ids_BT = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
    mask_BT = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
    with torch.no_grad():
        logps_BT, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids_BT, mask_BT, rollout["completion_ids"].size(1)
        )
    noise = torch.randn(logps_BT.shape, generator=torch.Generator().manual_seed(2))
    rollout["old_per_token_logps"] = logps_BT + 0.3 * noise
    if trainer.beta:
        rollout["ref_per_token_logps"] = logps_BT - 0.2 * noise.flip(1)
    return rollout


def loss_and_gradients(trainer: GRPOTrainer, inputs: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def train_and_save(batch: int, folder: Path) -> int:
    """Two SGD steps of eight responses in all, by however many processes were started, and what was logged of them."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    trainer = make_trainer(
        tokenizer,
        folder / "work",
        weighting=lambda tokens: 0.5 + tokens.roles_BT.float(),
        per_device_train_batch_size=batch,
        max_steps=2,
        learning_rate=0.5,
        optim="sgd",
        logging_steps=1,
        gradient_variance=True,
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
