"""REINFORCE++ on paths from any source: TRL's `GRPOTrainer` with advantages of single tokens and no groups.

The reward of a token is its entry in `RolledPath.rewards` minus β · (log π(token) − log π_ref(token)): the k1 estimator
of the KL divergence to the initial model of the training, computed once, when the path is rolled out, and without
gradient. A token's return is the sum of rewards from it to the end; its advantage is the return normalized over the
generation batch of all processes. The rest is TRL's loss: min(ratio · advantage, clipped ratio · advantage), averaged
over the batch's tokens, with the same forward pass for log-probabilities before and after the update, whatever the
source of the samples.

Shapes: B paths, T tokens of the longest one.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import IntervalStrategy
from trl import GRPOConfig

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.options import check_kind
from rolewise.core.transformers_insides import settle_fields
from rolewise.training.returns import normalised, returns_to_go
from rolewise.training.rollout_paths import RolledPath, Rollouts, path_numbers
from rolewise.training.settings import ReinforceSettings
from rolewise.training.trl_grpo_adapter import (
    GRPOSeams,
    loss_mask,
    record_metrics,
    rollout_number,
    text_tokenizer,
    with_empty_completions,
)


@dataclass
class ReinforceConfig(ReinforceSettings, GRPOConfig):  # type: ignore[misc]  # TRL is untyped
    """TRL's `GRPOConfig` with RFTT's defaults (arXiv 2502.13389).

    `num_generations` is the number of paths per question. `scale_rewards` has no effect.
    """

    learning_rate: float = field(default=5e-7, metadata={"help": "Learning rate of AdamW."})
    beta: float = field(
        default=0.01, metadata={"help": "Weight of the KL divergence from the initial model in the rewards."}
    )

    def __post_init__(self) -> None:
        settle_fields(self)
        super().__post_init__()


class ReinforceTrainer(GRPOSeams):
    """`GRPOTrainer` that takes its responses and their rewards from `rollouts` and learns from them by REINFORCE++.

    Every log line carries TRL's numbers, with `reward` as the mean outcome of the paths and `kl` as the estimate in the
    rewards, the numbers of `path_numbers`, and the returns' mean and standard deviation (`return/mean`,
    `return/std`).

    Args:
        rollouts: source of the paths. Each process calls it once per generation batch, with its own questions.
        args: a `ReinforceConfig`.
        train_dataset: data with a column `prompt` (text), unique per question, and the columns that `rollouts` reads.
        eval_dataset: data of the same form, for evaluation.
        behaviours: names of the steps to count.
        kwargs: further arguments of `GRPOTrainer`.

    Raises:
        InputError: for settings that are not supported.
    """

    kl_in_loss = False

    def __init__(
        self,
        model: Any,
        rollouts: Rollouts,
        args: ReinforceConfig,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        behaviours: Sequence[str] = (),
        **kwargs: Any,
    ):
        check_kind(args, ReinforceConfig, ReinforceConfig)
        check_reinforce(args)
        self._rollouts = rollouts
        self._behaviours = tuple(behaviours)
        self._paths: list[RolledPath] = []
        super().__init__(
            model,
            self.outcome,
            copy.copy(args),
            train_dataset,
            eval_dataset,
            processing_class,
            rollout_func=self._roll_out,
            **kwargs,
        )
        self.rollout_func = with_empty_completions(self._roll_out, text_tokenizer(self).eos_token_id)

    def _roll_out(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Return the paths of a generation batch, in the order of its rows."""
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        rows = [self.rollout_rows[own[0]] for own in places.values()]
        policy = self.accelerator.unwrap_model(self.model)
        found = self._rollouts(policy, rows, [len(own) for own in places.values()], seed=self._seed())
        by_place = {
            place: path
            for own, paths in zip(places.values(), found, strict=True)
            for place, path in zip(own, paths, strict=True)
        }
        self._paths = [by_place[place] for place in range(len(prompts))]
        unread = frozenset[int]()
        left_out = [unread if self.args.train_choices else path.chosen for path in self._paths]
        return {
            "prompt_ids": [list(path.prompt_ids) for path in self._paths],
            "completion_ids": [list(path.ids) for path in self._paths],
            "logprobs": None,
            "env_mask": [
                [int(place not in own) for place in range(len(path.ids))]
                for own, path in zip(left_out, self._paths, strict=True)
            ],
        }

    def outcome(self, prompts: list[Any], log_metric: Any, **columns: Any) -> list[float]:
        """Return the outcomes of the current paths: TRL's reward function, for its logs only."""
        for path in self._paths:
            for name, number in path_numbers(path, self._behaviours).items():
                log_metric(name, number)
        return [path.outcome for path in self._paths]

    def rollout_scored(self, rollout: dict[str, Any]) -> dict[str, Any]:
        """Turn the rewards of a generation batch into advantages of its tokens."""
        mask_BT = loss_mask(rollout)
        rewards_BT = torch.zeros(mask_BT.shape, dtype=torch.float64, device=mask_BT.device)
        for row, path in enumerate(self._paths):
            rewards_BT[row, : len(path.rewards)] = torch.tensor(list(path.rewards)).to(rewards_BT)
        if self.beta:
            rewards_BT -= self.beta * self._kl(rollout, mask_BT)
        returns_BT = returns_to_go(rewards_BT)
        advantages_BT = normalised(returns_BT, mask_BT, self._sum)
        mean, square = self._means(mask_BT, returns_BT, returns_BT.square())
        self._record({"return/mean": mean, "return/std": max(square - mean * mean, 0.0) ** 0.5})
        return {**rollout, "advantages": advantages_BT}

    def _kl(self, rollout: dict[str, Any], mask_BT: torch.Tensor) -> torch.Tensor:
        """Return log π − log π_ref of each token that carries loss, 0 elsewhere; float64 (B, T)."""
        logps_BT = rollout.get("old_per_token_logps")
        if logps_BT is None:
            logps_BT, _ = self.score(rollout)
        kl_BT = torch.where(mask_BT, logps_BT.double() - rollout["ref_per_token_logps"].double(), 0.0)
        self._record({"kl": self._means(mask_BT, kl_BT)[0]})
        return kl_BT

    def _means(self, mask_BT: torch.Tensor, *values_BT: torch.Tensor) -> list[float]:
        """Return means over the tokens of all processes."""
        sums = self._sum(torch.stack([mask_BT.sum().double(), *(values[mask_BT].sum() for values in values_BT)]))
        return (sums[1:] / sums[0].clamp(min=1)).tolist()  # type: ignore[no-any-return]  # torch is untyped here

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, reduction="sum")

    def _record(self, numbers: dict[str, float]) -> None:
        record_metrics(self, "train" if self.model.training else "eval", numbers)

    def _seed(self) -> int:
        """Return a separate seed for every rollout of a run, and one seed for all evaluations."""
        what = rollout_number(self) if self.model.training else "eval"
        return int(digest([self.args.seed, what])[:8], 16)


def check_reinforce(args: ReinforceConfig) -> None:
    """Refuse settings that TRL accepts but training on single tokens can't use.

    Raises:
        InputError: naming the option.
    """
    if args.loss_type not in ("dapo", "bnpo", "dr_grpo", "grpo", "cispo"):
        raise InputError(f"loss_type {args.loss_type!r} has no advantages of single tokens; use dapo (the default)")
    if args.importance_sampling_level != "token":
        raise InputError("importance_sampling_level must be token: advantages are of single tokens")
    # A question's paths come from one process, and TRL distributes the rows of a batch.
    rows = args.per_device_train_batch_size * args.steps_per_generation
    if rows % args.num_generations:
        raise InputError(
            f"per_device_train_batch_size times steps_per_generation ({rows}) must be a multiple of num_generations "
            f"({args.num_generations})"
        )
    evaluated = args.num_generations_eval or args.num_generations
    if args.eval_strategy != IntervalStrategy.NO and args.per_device_eval_batch_size % evaluated:
        raise InputError(
            f"per_device_eval_batch_size ({args.per_device_eval_batch_size}) must be a multiple of the {evaluated} "
            "paths per question"
        )
