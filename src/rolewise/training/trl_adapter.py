"""Every use of TRL's undocumented internals, in one place (TRL ≥ 1.16, < 1.17).

`tests/test_trl_adapter.py` fails when one of them changes. Relied on:
- `trl.trainer.sft_trainer.DataCollatorForLanguageModeling`, whose `torch_call` pads ids and labels;
- `SFTTrainer._metrics[mode][name]`, lists that its `log` averages; `_total_train_tokens`; `aux_loss_enabled` and
  `router_aux_loss_coef` for mixtures of experts;
- `SFTTrainer.__init__` patches the model with `add_fused_lm_head`, which `token_losses.fused_losses` calls; that head
  reads `weight` and `bias` of the output embeddings.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from rolewise.core.errors import InputError
from rolewise.core.peft_insides import trains_single_rows
from rolewise.core.role import Role
from rolewise.training.token_losses import TokenLosses


@dataclass
class RoleCollator(DataCollatorForLanguageModeling):  # type: ignore[misc]  # TRL is untyped
    """TRL's collator, with `token_roles` padded beside the labels (uint8, shape (B, T)).

    With `with_scores` also `token_scores` (float32, NaN if unknown): the fall of a token's loss while the labeller's
    model was tuned, `base_loss` − `tuned_loss`.
    """

    with_scores: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        labels_BT = batch["labels"]
        if "token_roles" not in examples[0]:
            roles_BT = torch.where(labels_BT != -100, Role.PLAIN, Role.CONTEXT).to(torch.uint8)
            return {**batch, "token_roles": roles_BT}
        roles = [self._roles(example) for example in examples]
        batch["token_roles"] = self._padded(roles, torch.zeros_like(labels_BT, dtype=torch.uint8))
        if self.with_scores:
            scores = [_scores(example) for example in examples]
            unknown_BT = torch.full(labels_BT.shape, torch.nan, device=labels_BT.device)
            batch["token_scores"] = self._padded(scores, unknown_BT)
        return batch

    def _padded(self, rows: list[torch.Tensor], padding_BT: torch.Tensor) -> torch.Tensor:
        """Return the padding with each row's values, one per token, written over its beginning."""
        for row, values_T in enumerate([torch.cat(rows)] if self.padding_free else rows):
            padding_BT[row, : len(values_T)] = values_T
        return padding_BT

    def _roles(self, example: dict[str, Any]) -> torch.Tensor:
        """Return the roles of one row, checked."""
        roles_T = torch.as_tensor(example["token_roles"], dtype=torch.uint8)
        where = example.get("source", "a sample of the labelled data")
        if len(roles_T) != len(example["input_ids"]):
            raise InputError(f"{where}: {len(roles_T)} token_roles for {len(example['input_ids'])} input_ids")
        if not any(label != -100 for label in example["labels"][1:]):
            raise InputError(f"{where}: no token carries loss, so there is nothing to train on; leave it out")
        return roles_T


def _scores(example: dict[str, Any]) -> torch.Tensor:
    """Return the fall of the loss of each token in a row, float32."""
    base_T, tuned_T = (torch.as_tensor(example[name], dtype=torch.float32) for name in ("base_loss", "tuned_loss"))
    return base_T - tuned_T


def record_token_metrics(
    trainer: SFTTrainer, inputs: dict[str, Any], losses: TokenLosses, mask_BT: torch.Tensor
) -> None:
    """Log the same metrics of a batch as TRL's own SFT, over all processes: entropy, accuracy, tokens seen, balancing
    loss."""
    gather = trainer.accelerator.gather_for_metrics
    mode = "train" if trainer.model.training else "eval"
    metrics = trainer._metrics[mode]
    tokens = gather(mask_BT.sum()).sum().clamp(min=1)
    metrics["entropy"].append((gather(losses.entropy_BT.sum()).sum() / tokens).item())
    metrics["mean_token_accuracy"].append((gather(losses.correct_BT.sum()).sum() / tokens).item())
    if mode == "train":
        if not trainer._total_train_tokens:  # a resumed run continues its last log line's count; TRL would restart
            logged = [line["num_tokens"] for line in trainer.state.log_history if "num_tokens" in line]
            trainer._total_train_tokens = int(logged[-1]) if logged else 0
        trainer._total_train_tokens += int(gather(_token_count(inputs)).sum().item())
    metrics["num_tokens"] = [trainer._total_train_tokens]
    if trainer.aux_loss_enabled and losses.aux_loss is not None:
        metrics["aux_loss"].append(gather(losses.aux_loss.detach()).mean().item())


def fit_trained_rows(model: Any) -> None:
    """Adapt a model with single trained rows in its LM head (by PEFT) to TRL's fused head, and save only these rows.

    Other models are unchanged. PEFT's wrapper provides the head's `weight` with the trained rows in it, but no `bias`,
    which its own forward ignores; `training.functional_tokens` refuses heads with a bias. If rows were added, PEFT
    would save both whole matrices with every adapter.
    """
    head = model.get_output_embeddings()
    if trains_single_rows(head):
        head.bias = None
        model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)


def forget_metrics(trainer: SFTTrainer, mode: str) -> None:
    """Drop metrics recorded in `mode` (train or eval) that were never logged."""
    trainer._metrics[mode].clear()


def _token_count(inputs: dict[str, Any]) -> torch.Tensor:
    """Return the number of tokens in a batch without padding; without a mask there is no padding."""
    mask_BT = inputs.get("attention_mask")
    ids_BT: torch.Tensor = inputs["input_ids"]
    return torch.tensor(ids_BT.numel(), device=ids_BT.device) if mask_BT is None else mask_BT.sum()


def scaled_aux_loss(trainer: SFTTrainer, losses: TokenLosses) -> torch.Tensor | None:
    """Return the load-balancing loss of a mixture of experts, scaled for gradient accumulation; else None."""
    if not trainer.aux_loss_enabled or losses.aux_loss is None:
        return None
    steps = trainer.current_gradient_accumulation_steps if trainer.model.training else 1
    scaled: torch.Tensor = trainer.router_aux_loss_coef * losses.aux_loss / steps
    return scaled


def wants_router_logits(trainer: SFTTrainer) -> bool:
    """Return True if the model must return the router logits that its load-balancing loss needs."""
    return bool(trainer.aux_loss_enabled)
