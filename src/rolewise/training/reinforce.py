"""REINFORCE++ on paths that come from anywhere: TRL's `GRPOTrainer` with advantages of single tokens and no groups.

The reward of a token is what `RolledPath.rewards` says, less β · (log π(token) − log π_ref(token)): the k1 estimator of
the KL divergence to the model that training began with, taken once, when the path is rolled out, and without gradient.
A token's return is the sum from it to the end; returns normalised over the generation batch of all processes are its
advantage. From there on it is TRL's loss: min(ratio · advantage, clipped ratio · advantage), its mean over the batch's
tokens, the log-probabilities before the update by the same forward pass as after it, whoever sampled.

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
from rolewise.core.transformers_insides import settle_checkpointing
from rolewise.training.returns import normalised, returns_to_go
from rolewise.training.rollout_paths import RolledPath, Rollouts, path_numbers
from rolewise.training.trl_grpo_adapter import (
    GRPOSeams,
    loss_mask,
    record_metrics,
    rollout_number,
    text_tokenizer,
    with_empty_completions,
)


@dataclass
class ReinforceConfig(GRPOConfig):  # type: ignore[misc]  # TRL is untyped
    """TRL's `GRPOConfig` with RFTT's defaults (arXiv 2502.13389).

    `num_generations` is the number of paths to a question. `scale_rewards` has no part in it.
    """

    learning_rate: float = field(default=5e-7, metadata={"help": "AdamW's."})
    beta: float = field(default=0.01, metadata={"help": "Weight of the KL divergence to the first model, in rewards."})
    train_choices: bool = field(
        default=True,
        metadata={"help": "Whether tokens that a search put into a path carry loss, as those that were sampled do."},
    )

    def __post_init__(self) -> None:
        # TRL's default is bf16 wherever fp16 is off; without an accelerator that only loses precision.
        if self.bf16 is None and not torch.accelerator.is_available():  # type: ignore[has-type]  # TRL is untyped
            self.bf16 = False
        settle_checkpointing(self)
        super().__post_init__()


class ReinforceTrainer(GRPOSeams):
    """`GRPOTrainer` that takes its responses and their rewards from `rollouts` and learns from them by REINFORCE++.

    Every log line carries TRL's numbers, with `reward` the mean outcome of the paths and `kl` the estimate that the
    rewards hold, those of `path_numbers`, and the returns' mean and deviation (`return/mean`, `return/std`).

    Args:
        rollouts: where paths come from. It is asked for the questions of a generation batch at once, on every process
            for its own.
        args: a `ReinforceConfig`.
        train_dataset: a column `prompt` (text), the same for no two questions, and whatever `rollouts` read.
        eval_dataset: the same, to measure on.
        behaviours: names of the steps to count.
        kwargs: more of `GRPOTrainer`'s.

    Raises:
        InputError: for settings that have no place here.
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
        """The paths of a generation batch, in the order of its rows."""
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
        """The reward function that TRL asks, for its logs alone: the outcomes of the paths at hand."""
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
        """log π − log π_ref of each token that carries loss, 0 elsewhere; float64 (B, T)."""
        logps_BT = rollout.get("old_per_token_logps")
        if logps_BT is None:
            logps_BT, _ = self.score(rollout)
        kl_BT = torch.where(mask_BT, logps_BT.double() - rollout["ref_per_token_logps"].double(), 0.0)
        self._record({"kl": self._means(mask_BT, kl_BT)[0]})
        return kl_BT

    def _means(self, mask_BT: torch.Tensor, *values_BT: torch.Tensor) -> list[float]:
        """Means over the tokens of all processes."""
        sums = self._sum(torch.stack([mask_BT.sum().double(), *(values[mask_BT].sum() for values in values_BT)]))
        return (sums[1:] / sums[0].clamp(min=1)).tolist()  # type: ignore[no-any-return]  # torch is untyped here

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, reduction="sum")

    def _record(self, numbers: dict[str, float]) -> None:
        record_metrics(self, "train" if self.model.training else "eval", numbers)

    def _seed(self) -> int:
        """A seed of its own for every rollout of a run, and one for all measuring."""
        what = rollout_number(self) if self.model.training else "eval"
        return int(digest([self.args.seed, what])[:8], 16)


def check_reinforce(args: ReinforceConfig) -> None:
    """Check what TRL would take and training by single tokens can't use.

    Raises:
        InputError: naming the option.
    """
    if args.loss_type not in ("dapo", "bnpo", "dr_grpo", "grpo", "cispo"):
        raise InputError(f"loss_type {args.loss_type!r} has no advantages of single tokens; use dapo (the default)")
    if args.importance_sampling_level != "token":
        raise InputError("importance_sampling_level must be token: advantages are of single tokens")
    # A question's paths come from one process, and TRL spreads the rows of a batch.
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
            "paths to a question"
        )
