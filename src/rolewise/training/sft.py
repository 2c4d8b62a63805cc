"""Supervised fine-tuning with a weighting: TRL's `SFTTrainer` with the loss Σ weights · loss."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from trl import SFTConfig, SFTTrainer

from rolewise.core.errors import InputError
from rolewise.core.options import check_kind, refuse_arguments
from rolewise.core.role import Role
from rolewise.core.transformers_insides import settle_fields
from rolewise.training.labelled_rows import LabelledRows, check_tokenizer, is_labelled, named
from rolewise.training.packing import check_strategy, loss_mask, segments
from rolewise.training.role_meter import RoleMeter
from rolewise.training.settings import LM_HEADS, SFTSettings
from rolewise.training.token_losses import TokenLosses, fused_losses, selected_losses
from rolewise.training.trl_adapter import (
    RoleCollator,
    fit_trained_rows,
    forget_metrics,
    record_token_metrics,
    scaled_aux_loss,
    wants_router_logits,
)
from rolewise.weighting import Weighting, make_weighting
from rolewise.weighting.users_own import asking, refuse_endless_weights

_LABELLED_EVALUATION = (
    "the evaluation data is labelled but the training data is not, so the roles would be lost; label both, or remove "
    "the column `token_roles`"
)


@dataclass
class WeightedSFTConfig(SFTSettings, SFTConfig):  # type: ignore[misc]  # TRL is untyped
    """TRL's `SFTConfig` with the settings of token weights.

    `max_length` defaults to 3072, the paper's limit, while TRL's default is 1024: labelled samples may be that long.
    None cuts nothing. `weighting_args` holds the weighting's parameters, e.g. `{"inv_tau": 0.5}` for rft.
    """

    def __post_init__(self) -> None:
        settle_fields(self)
        super().__post_init__()


class WeightedSFTTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """`SFTTrainer` that multiplies token losses by the weights of a `Weighting`.

    It takes its parent's arguments. A labelled data set (columns `input_ids`, `labels`, `token_roles`) is cut to
    `max_length`, shuffled and packed according to `args`, with roles beside their tokens, and otherwise used as it is
    (see `LabelledRows`); so is data for later evaluations. TRL prepares other data sets as always, and all their tokens
    are PLAIN. Gradient accumulation and several processes do not change the result: each micro-batch counts by its
    share of the step's samples or tokens. Every log line carries loss, share of tokens and share of weight per role
    (see `RoleMeter`).

    Args:
        args: a `WeightedSFTConfig`; a plain `SFTConfig` needs `weighting`.
        weighting: a scheme of your own, instead of the one that `args` names.

    Raises:
        InputError: if the weighting reads roles and the data has none, or for options that are incompatible with the
            weighted loss.
    """

    # compute_loss divides by the whole step's units, so the parent must not divide by the accumulation steps again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        args: SFTConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        weighting: Weighting | None = None,
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else WeightedSFTConfig(output_dir="weighted-sft")
        check_kind(args, SFTConfig, WeightedSFTConfig)
        if weighting is None:
            if not isinstance(args, WeightedSFTConfig):
                raise InputError("pass args=WeightedSFTConfig(...) or a weighting; a plain SFTConfig names none")
            weighting = make_weighting(args.weighting, args.weighting_args)
        else:
            refuse_arguments(args)
        if not isinstance(weighting, Weighting) or getattr(weighting, "unit", None) not in ("sample", "token"):
            raise InputError(
                f"weighting {weighting!r} is not a Weighting with the unit sample or token; pass an object of one"
            )
        if kwargs.get("compute_loss_func") is not None:
            raise InputError("compute_loss_func would replace the weighted loss; subclass Weighting instead")
        self.weighting = weighting
        check_weighted(args)
        # One collator for training and evaluation: packed rows of either need it, and others lose nothing by it.
        padding_free = bool(args.padding_free or args.packing or args.eval_packing)
        self._rows: LabelledRows | None = None
        if is_labelled(train_dataset):
            if data_collator is not None and padding_free:
                raise InputError("data_collator can't be combined with packing or padding_free; leave one of them out")
            rows = self._rows = LabelledRows(args, weighting, kwargs.get("formatting_func"))
            train_dataset, eval_dataset = rows.train(train_dataset), rows.evaluation(eval_dataset)
            # The data is ready: TRL's preparation would lose the roles, its column pruning too.
            args.dataset_kwargs = {"skip_prepare_dataset": True}
            args.remove_unused_columns = False
            args.max_length = None
            args.packing = args.eval_packing = args.padding_free = False  # done; TRL's checks fit its own way only
        elif any(map(is_labelled, named(eval_dataset).values())):
            raise InputError(_LABELLED_EVALUATION)
        elif weighting.needs_roles or weighting.needs_scores:
            raise InputError(
                "the training data has no `token_roles`; label it first (rolewise label), or use a weighting that "
                "reads no labels (none, sample-mean, dft)"
            )
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        if isinstance(self.model, PeftModel) and self.model.active_peft_config.is_prompt_learning:
            raise InputError("prompt learning adds tokens before each row, which have no labels; use LoRA")
        fit_trained_rows(self.model)
        if self._rows is not None:
            check_tokenizer(train_dataset, self.processing_class)
        if data_collator is None:
            given = vars(self.data_collator)  # type: ignore[has-type]  # set by the untyped parent
            self.data_collator = RoleCollator(
                **{**given, "padding_free": padding_free}, with_scores=weighting.needs_scores
            )
        lm_head = getattr(args, "lm_head", "auto")
        self._fused_head = lm_head == "fused" or (lm_head == "auto" and self.accelerator.device.type == "cuda")
        self._meter, self._eval_meter = RoleMeter(), RoleMeter()
        self._step_units: float | None = None

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Fetch a step's micro-batches and count their samples or tokens, over all processes."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        units = torch.tensor(sum(float(self._units(batch).sum()) for batch in batches), device=device)
        self._step_units = float(self.accelerator.reduce(units, reduction="sum"))
        return batches, num_items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return Σ weights · loss of a micro-batch, scaled to its share of the optimizer step."""
        training = self.model.training
        inputs = {**inputs, "token_roles": self._roles(inputs)}
        units_B = self._units(inputs)
        units = float(units_B.sum())
        labels_BT, roles_BT = inputs.pop("labels"), inputs.pop("token_roles")
        scores_BT = inputs.pop("token_scores", None)
        mask_BT = loss_mask(labels_BT, inputs)
        losses = self._token_losses(model, inputs, labels_BT.masked_fill(~mask_BT, -100))
        with asking(self.weighting):
            weights_BT = self.weighting.weights(
                losses.loss_BT,
                roles_BT,
                mask_BT,
                segments_BT=segments(inputs),
                scores_BT=scores_BT,
                step=self.state.global_step,
            )
        self._totals = torch.stack([weights_BT.sum(), losses.loss_BT.detach().sum()])
        if training and self._step_units is not None:
            weights_BT = weights_BT * (units / self._step_units if self._step_units else 0.0)
        loss = (weights_BT * losses.loss_BT).sum()
        if training:
            self._meter.add(losses.loss_BT, roles_BT, mask_BT, weights_BT)
        else:
            # By units instead of batches, so that neither batch size nor packing affects the numbers.
            self._eval_meter.add(
                losses.loss_BT, roles_BT, mask_BT, weights_BT * units, units_B, self.accelerator.gather_for_metrics
            )
        record_token_metrics(self, inputs, losses, mask_BT)
        if training and self._step_units is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients over processes
        aux_loss = scaled_aux_loss(self, losses)
        if aux_loss is not None:
            loss = loss + aux_loss
        if not return_outputs:
            return loss
        with torch.no_grad():  # only the user's own metrics ask for logits
            return loss, model(**inputs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run a micro-batch's forward and backward pass, then check its weights.

        Raises:
            InputError: if the weighting returned a nan or infinite weight although the losses are finite.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        # Only now: the parent waits for the device after this anyway, to read the loss.
        weight, token_loss = self._totals.tolist()
        if math.isfinite(token_loss) and not math.isfinite(weight):
            refuse_endless_weights(self.weighting, f"step {self.state.global_step + 1}")
        return loss

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as TRL does, on data cut and packed like the data given at the start.

        Raises:
            InputError: naming the data, if only one of training and evaluation data is labelled.
        """
        metrics: dict[str, float] = super().evaluate(self._measured(eval_dataset), *args, **kwargs)
        return metrics

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict as Transformers does, on data of the form that `evaluate` takes."""
        return super().predict(self._measured(test_dataset, "test", packed=False), *args, **kwargs)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return Transformers' loader, for data of the form that `evaluate` takes."""
        return super().get_eval_dataloader(self._measured(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return Transformers' loader, for data of the form that `evaluate` takes."""
        return super().get_test_dataloader(self._measured(test_dataset, "test", packed=False))

    def _measured(self, dataset: Any, name: str = "eval", *, packed: bool = True) -> Any:
        """Return prepared data for evaluation; a name or None refers to data that is already prepared."""
        if dataset is None or isinstance(dataset, str):
            return dataset
        if self._rows is not None:
            return self._rows.evaluation(dataset, name, packed=packed)
        if any(map(is_labelled, named(dataset).values())):
            raise InputError(_LABELLED_EVALUATION)
        return dataset

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Add loss, share and weight per role to the metrics, with the prefix of this data."""
        self._eval_meter = RoleMeter()  # an earlier prediction may have left sums
        forget_metrics(self, "eval")
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        weighted_loss = self._eval_meter.weighted_loss()
        if (
            weighted_loss is not None
            and f"{metric_key_prefix}_loss" in output.metrics
            and not wants_router_logits(self)
        ):
            output.metrics[f"{metric_key_prefix}_loss"] = weighted_loss
        output.metrics.update(self._eval_meter.take(prefix=f"{metric_key_prefix}_"))
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add loss, share and weight per role to TRL's line."""
        if self.model.training:
            logs.update(self._meter.take(self.accelerator))
        super().log(logs, start_time)

    def _token_losses(self, model: Any, inputs: dict[str, Any], labels_BT: torch.Tensor) -> TokenLosses:
        inputs = {**inputs, "use_cache": False}
        if wants_router_logits(self):
            inputs["output_router_logits"] = True
        if self._fused_head:
            return fused_losses(model, inputs, labels_BT)
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        return selected_losses(model, head, inputs, labels_BT)

    def _units(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the number of samples with loss, or the sum of token counts, per row of a micro-batch; float of shape
        (B,)."""
        mask_BT = loss_mask(inputs["labels"], inputs)
        if self.weighting.unit == "token":
            with asking(self.weighting):
                return self.weighting.counts(self._roles(inputs), mask_BT).sum(dim=1)
        segments_BT = segments(inputs)
        if segments_BT is None:
            return mask_BT.any(dim=1).float()
        counts = [len(torch.unique(of_row[mask])) for of_row, mask in zip(segments_BT, mask_BT, strict=True)]
        return torch.tensor(counts, dtype=torch.float32, device=mask_BT.device)

    def _roles(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the roles of a micro-batch; PLAIN if the user's own collator gives no roles and none are needed."""
        roles_BT = inputs.get("token_roles")
        if roles_BT is not None:
            return roles_BT
        if self.weighting.needs_roles:
            raise InputError(
                "the data collator returns no `token_roles`; leave data_collator out, or pad them in your own collator"
            )
        return torch.where(inputs["labels"] != -100, Role.PLAIN, Role.CONTEXT)


def check_weighted(args: SFTConfig) -> None:
    """Refuse options that are incompatible with the weighted loss.

    Raises:
        InputError: naming the option.
    """
    check_strategy(args)
    if getattr(args, "lm_head", "auto") not in LM_HEADS:
        raise InputError(f"lm_head {args.lm_head} is not known; choose one of {', '.join(LM_HEADS)}")
    if args.loss_type != "nll":
        instead = ", and take the weighting dft" if args.loss_type == "dft" else ""
        raise InputError(
            f"loss_type={args.loss_type} would be ignored: the weighting sets the loss; leave it at nll{instead}"
        )
    if args.label_smoothing_factor:
        raise InputError("label_smoothing_factor would be ignored: the weighting sets the loss; leave it at 0")
