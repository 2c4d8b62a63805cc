"""GRPO with advantages weighted token by token: TRL's `GRPOTrainer` with roles of the sampled ids.

Shapes: B responses, T tokens of the longest one.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from rolewise.core.errors import InputError
from rolewise.core.options import check_kind, refuse_arguments
from rolewise.training.gradient_variance import GradientVariance
from rolewise.training.grpo_config import WeightedGRPOConfig, make_rollout_weighting
from rolewise.training.region_meter import RegionMeter
from rolewise.training.rollout_roles import FormatCheck, RolloutRoles, call_regions, label_rollout
from rolewise.training.rollout_weights import RolloutTokens, RolloutWeighting, as_rollout_weighting
from rolewise.training.trl_grpo_adapter import (
    GRPOSeams,
    clipped_tokens,
    loss_mask,
    record_metrics,
    rollout_number,
    text_tokenizer,
    total_rollouts,
    with_empty_completions,
)
from rolewise.weighting import Weighting
from rolewise.weighting.regions import weighs_closed
from rolewise.weighting.rollouts import rescaled_to_mean_one

__all__ = ["WeightedGRPOConfig", "WeightedGRPOTrainer"]


class WeightedGRPOTrainer(GRPOSeams):
    """`GRPOTrainer` that multiplies each token's advantage by the weight of its role.

    It takes its parent's arguments. After a generation batch is sampled, the responses' own ids are labelled, and the
    weights of this rollout are kept for as long as it is trained on (arXiv 2509.21826). They are rescaled to mean 1
    over the loss tokens of the generation batch, those of weight 0 and those of other processes included, so that
    TRL's denominators, which count tokens, divide by Σ weights. For `bnpo`, with the denominator of one micro-batch,
    the mean is taken over the micro-batch. KL and entropy terms are not weighted. With the weighting `none` the
    training is TRL's own, and the roles are only logged.

    In a rollout of several turns (TRL's `tools`, `environment_factory`, or a `rollout_func` with an `env_mask`) each
    stretch of the policy's own tokens is labelled as a separate response; the environment's tokens have no weight.

    Every log line carries entropy, share, weight and clipping per role (see `RegionMeter`), and with
    `args.gradient_variance` an estimate of the policy gradient's variance (see `GradientVariance`).

    Args:
        args: a `WeightedGRPOConfig`; a plain `GRPOConfig` needs `weighting`.
        weighting: a scheme of your own, instead of the one that `args` names.
        roles: source of the roles of sampled tokens; None uses the regions of tool calls.
        rendered_prompts: True if text prompts are a chat template's whole output, so that the tokenizer must add no
            special tokens.
        say: receives notes for the user, one line each.

    Raises:
        InputError: for options that are incompatible with the weights, and data that a reward can't read.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        weighting: Weighting | RolloutWeighting | None = None,
        roles: RolloutRoles | None = None,
        rendered_prompts: bool = False,
        rollout_func: Any = None,
        say: Callable[[str], None] = warnings.warn,
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else WeightedGRPOConfig(output_dir="weighted-grpo")
        check_kind(args, GRPOConfig, WeightedGRPOConfig)
        if weighting is None:
            if not isinstance(args, WeightedGRPOConfig):
                raise InputError("pass args=WeightedGRPOConfig(...) or a weighting; a plain GRPOConfig names none")
            self.weighting = make_rollout_weighting(args)
        else:
            refuse_arguments(args)
            self.weighting = as_rollout_weighting(weighting)
        if roles is None and getattr(args, "roles", "regions") != "regions":
            raise InputError(
                f"args.roles is {args.roles!r}, which needs models; pass roles={args.roles}_rollout_roles(...)"
            )
        _check_data(reward_funcs, train_dataset, eval_dataset)
        self.rendered_prompts = rendered_prompts
        self._say = say
        wants_variance = getattr(args, "gradient_variance", False)
        if wants_variance and args.fp16:
            raise InputError(
                "gradient_variance would measure fp16's scaled gradients; use bf16, or leave gradient_variance out"
            )
        super().__init__(
            model,
            reward_funcs,
            args,
            train_dataset,
            eval_dataset,
            processing_class,
            rollout_func=rollout_func,
            **kwargs,
        )
        tokenizer = text_tokenizer(self)
        if rollout_func is not None:
            self.rollout_func = with_empty_completions(rollout_func, tokenizer.eos_token_id)
        call_format = getattr(args, "call_format", None)
        official = (
            getattr(args, "weighting", None) == "rest-official" if weighting is None else weighs_closed(weighting)
        )
        self.roles = roles or call_regions(tokenizer, call_format, closed=official)
        self._format_check = FormatCheck(self.roles, call_format or "any known format")
        self._meters = {mode: RegionMeter(self.roles.names) for mode in ("train", "eval")}
        policy = self.accelerator.unwrap_model(self.model)
        self._gradient_variance = GradientVariance(policy) if wants_variance else None

    def rollout_scored(self, rollout: dict[str, Any]) -> dict[str, Any]:
        """Label the sampled ids and weigh the advantages of a generation batch."""
        mask_BT = loss_mask(rollout)
        roles_BT = label_rollout(rollout, mask_BT, self.roles)
        weights_BT = mask_BT.float()
        if self.weighting is not None:
            tokens = RolloutTokens(
                roles_BT,
                mask_BT,
                step=rollout_number(self),
                total_steps=total_rollouts(self),
                score=lambda: self.score(rollout),
                accelerator=self.accelerator,
            )
            weights_BT = rescaled_to_mean_one(
                self.weighting(tokens) * mask_BT,
                mask_BT,
                sum_over_processes=lambda totals: self.accelerator.reduce(totals, reduction="sum"),
            )
            rollout["advantages"] = rollout["advantages"][:, None] * weights_BT
        if self.weighting is not None and self.model.training:
            message = self._format_check.message(roles_BT, mask_BT, self.accelerator)
            if message and self.accelerator.is_main_process:
                self._say(message)
        return {**rollout, "token_roles": roles_BT, "token_weights": weights_BT}

    def loss_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Rescale the weights to mean 1 over the micro-batch's tokens, for the loss that divides by their number."""
        if self.weighting is None or self.loss_type != "bnpo":
            return inputs
        mask_BT = loss_mask(inputs)
        weight, tokens = inputs["token_weights"].sum(), mask_BT.sum()
        return {**inputs, "advantages": inputs["advantages"] * (tokens / weight if weight > 0 else 0.0)}

    def loss_computed(self, inputs: dict[str, Any], logps_BT: torch.Tensor, entropies_BT: torch.Tensor) -> None:
        """Add a micro-batch to the numbers of the next log line."""
        advantages_BT = inputs["advantages"].view(len(logps_BT), -1)
        self._meters["train" if self.model.training else "eval"].add(
            inputs["token_roles"],
            loss_mask(inputs),
            inputs["token_weights"],
            entropies_BT,
            clipped_tokens(self, inputs, advantages_BT, logps_BT),
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run a micro-batch's forward and backward pass; the last one of a step completes the variance estimate."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self._gradient_variance is not None and self.accelerator.sync_gradients:
            record_metrics(self, "train", self._gradient_variance.take(self.accelerator))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the numbers per role to TRL's line."""
        mode = "train" if self.model.training else "eval"
        record_metrics(self, mode, self._meters[mode].take(self.accelerator))
        super().log(logs, start_time)


def _check_data(reward_funcs: Any, train_dataset: Any, eval_dataset: Any) -> None:
    """Let rewards that can check data (`check_data(data, name)`) do so, once for all rewards that read one column."""
    functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
    checks = {
        getattr(function, "rules", function): function for function in functions if hasattr(function, "check_data")
    }
    held_out = eval_dataset if isinstance(eval_dataset, dict) else {"eval_dataset": eval_dataset}
    for name, data in {"train_dataset": train_dataset, **held_out}.items():
        if isinstance(data, Dataset):  # a stream can only be read once; it is checked as it arrives
            for function in checks.values():
                function.check_data(data, name)
