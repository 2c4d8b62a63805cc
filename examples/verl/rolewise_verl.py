"""ResT's token weights in verl's trainer: each advantage times the weight of the region that its token stands in.

Named in the environment, this file registers the trainer `rolewise`; README.md has the command line.

Shapes: B responses, T tokens of the longest one.
"""

from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.workers.utils.padding import response_to_nested

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.data.tool_calls import CALL_FORMATS
from rolewise.training.rollout_roles import call_regions, label_rollout
from rolewise.weighting import REGION_WEIGHTINGS, EntropyResT
from rolewise.weighting.regions import weighs_closed
from rolewise.weighting.rollouts import mean_entropies, rescaled_to_mean_one

NAME = "rolewise"


@register_trainer(NAME)
class RoleWeightedTrainer(PPOTrainerSync):
    """verl's synchronous trainer with weighted advantages, whatever estimator they come from.

    Options, in the config under `trainer.v1.rolewise`: `weighting`, one of `REGION_WEIGHTINGS`, and
    `call_format` as `rolewise grpo` has it.
    """

    def __init__(self, config: Any) -> None:
        options = dict(config.trainer.v1.get(NAME) or {})
        self.weighting = REGION_WEIGHTINGS.make(options.pop("weighting", "rest"))
        self.call_format = options.pop("call_format", None)
        if self.call_format not in (None, *CALL_FORMATS):
            raise InputError(f"call_format {self.call_format!r} is not known; choose one of {', '.join(CALL_FORMATS)}")
        if options:
            raise InputError(f"trainer.v1.{NAME} has no {', '.join(options)}; there are weighting and call_format")
        config.trainer.v1.trainer_mode = "sync"  # by this name verl chooses replay buffer and checkpoints
        super().__init__(config)

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Weigh the advantages that verl has just computed, on the one process that has the whole batch."""
        batch = super()._compute_advantage(batch, metrics)
        fields = ["prompts", "responses", "loss_mask", "response_mask", "advantages", "entropy"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        rollout = {
            "prompt_ids": data["prompts"].to_padded_tensor(0),
            "prompt_mask": torch.ones_like(data["prompts"]).to_padded_tensor(0),
            "completion_ids": data["responses"].to_padded_tensor(0),
        }
        # The policy's own tokens; of these verl's rollout correction may take some out of the loss.
        own_BT = data["loss_mask"].to_padded_tensor(0).bool()
        mask_BT = data["response_mask"].to_padded_tensor(0).bool()
        roles = call_regions(self.tokenizer, self.call_format, closed=weighs_closed(self.weighting))
        regions_BT = label_rollout(rollout, own_BT, roles)
        entropies = {}
        if "entropy" in data:
            entropies = mean_entropies(data["entropy"].to_padded_tensor(0.0), regions_BT, mask_BT)
        elif isinstance(self.weighting, EntropyResT):
            raise InputError(
                "rest-entropy needs the policy's entropies: set algorithm.rollout_correction.bypass_mode=false"
            )
        raw_BT = self.weighting.response_weights(
            regions_BT, mask_BT, step=self.global_steps - 1, total_steps=self.total_training_steps, entropies=entropies
        )
        weights_BT = rescaled_to_mean_one(raw_BT, mask_BT)
        for region in Region:
            tokens_BT = mask_BT & (regions_BT == region)
            if tokens_BT.any():
                metrics[f"{NAME}/share/{region.label}"] = (tokens_BT.sum() / mask_BT.sum()).item()
                metrics[f"{NAME}/weight/{region.label}"] = weights_BT[tokens_BT].mean().item()
        metrics |= {f"{NAME}/entropy/{region.label}": entropy for region, entropy in entropies.items()}
        advantages_BT = data["advantages"].to_padded_tensor(0.0) * weights_BT
        weighted = TensorDict(
            {"advantages": response_to_nested(advantages_BT, data["response_mask"])}, batch_size=len(batch)
        )
        return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=weighted)
