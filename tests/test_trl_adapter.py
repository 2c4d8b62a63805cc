"""What the trainers rely on in TRL's and Transformers' insides; a failure here says what moved."""

import inspect
from collections import defaultdict
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import torch
from tiny import labelled_dataset, tiny_model
from transformers import PreTrainedTokenizerFast, Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer.base_trainer import _BaseTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import add_fused_lm_head

from rolewise.core.role import Role
from rolewise.core.transformers_insides import checkpointing
from rolewise.training.trl_adapter import RoleCollator

EXAMPLES = [
    {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "token_roles": [0, 2, 4]},
    {"input_ids": [8, 9], "labels": [-100, 9], "token_roles": [0, 3]},
]


@pytest.fixture(scope="module")
def trainer(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> SFTTrainer:
    """TRL's own trainer on data that is ready, set up as ours sets it up."""
    directory: Path = tmp_path_factory.mktemp("trl")
    args = SFTConfig(
        output_dir=str(directory),
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        use_cpu=True,
        bf16=False,
        report_to="none",
        **checkpointing(True),
    )
    return SFTTrainer(
        tiny_model(vocab_size=len(chatml_tokenizer)),
        args,
        train_dataset=labelled_dataset((9, 12)),
        processing_class=chatml_tokenizer,
    )


def parameters_of(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_collator_gives_padded_ids_labels_and_mask() -> None:
    batch = DataCollatorForLanguageModeling(pad_token_id=0).torch_call(EXAMPLES)
    assert set(batch) == {"input_ids", "labels", "attention_mask"}, "keys of the collator's batch moved"
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]], "ids are no longer padded on the right"
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, 9, -100]], "labels of the data are no longer kept"
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_the_collator_can_be_copied_by_its_fields() -> None:
    assert is_dataclass(DataCollatorForLanguageModeling), "RoleCollator copies the parent's fields by vars()"
    collator = RoleCollator(**vars(DataCollatorForLanguageModeling(pad_token_id=3, pad_to_multiple_of=8)))
    assert (collator.pad_token_id, collator.pad_to_multiple_of) == (3, 8)


def test_the_role_collator_pads_roles_beside_the_labels() -> None:
    batch = RoleCollator(pad_token_id=0, pad_to_multiple_of=4)(EXAMPLES)
    assert batch["token_roles"].dtype == torch.uint8
    assert batch["token_roles"].tolist() == [[0, 2, 4, 0], [0, 3, 0, 0]]
    assert batch["labels"].shape == batch["token_roles"].shape
    plain = RoleCollator(pad_token_id=0)([{k: v for k, v in e.items() if k != "token_roles"} for e in EXAMPLES])
    assert plain["token_roles"].tolist() == [[0, Role.PLAIN, Role.PLAIN], [0, Role.PLAIN, 0]]


def test_the_trainer_makes_that_collator_and_takes_ready_data(trainer: SFTTrainer) -> None:
    assert type(trainer.data_collator) is DataCollatorForLanguageModeling, "the trainer's text collator moved"
    assert "token_roles" in trainer.train_dataset.column_names, "skip_prepare_dataset no longer keeps columns"


def test_the_trainer_has_the_attributes_that_metrics_are_put_into(trainer: SFTTrainer) -> None:
    assert isinstance(trainer._metrics["train"], defaultdict), "SFTTrainer._metrics[mode] moved"
    assert isinstance(trainer._metrics["eval"], defaultdict), "SFTTrainer._metrics[mode] moved"
    assert trainer._total_train_tokens == 0, "SFTTrainer._total_train_tokens moved"
    assert trainer.aux_loss_enabled is False, "SFTTrainer.aux_loss_enabled moved"
    assert trainer.router_aux_loss_coef == 0.0, "SFTTrainer.router_aux_loss_coef moved"
    assert "compute_loss_func" in vars(trainer), "Trainer.compute_loss_func moved"


def test_the_trainers_log_averages_and_clears_those_lists(trainer: SFTTrainer) -> None:
    trainer.model.train()
    trainer._metrics["train"]["probe"] = [1.0, 2.0]
    logs: dict[str, float] = {}
    trainer.log(logs)
    assert logs["probe"] == 1.5, "SFTTrainer.log no longer averages _metrics"
    assert not trainer._metrics["train"], "SFTTrainer.log no longer clears _metrics"


def test_signatures_of_what_is_overridden() -> None:
    loss_parameters = ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    assert parameters_of(SFTTrainer.compute_loss) == loss_parameters, "SFTTrainer.compute_loss has other parameters"
    assert parameters_of(SFTTrainer.get_batch_samples) == ["self", "epoch_iterator", "num_batches", "device"], (
        "Trainer.get_batch_samples has other parameters"
    )
    assert parameters_of(SFTTrainer.log)[:3] == ["self", "logs", "start_time"], "SFTTrainer.log has other parameters"
    assert parameters_of(SFTTrainer.__init__)[:7] == [
        "self",
        "model",
        "args",
        "data_collator",
        "train_dataset",
        "eval_dataset",
        "processing_class",
    ], "SFTTrainer's first parameters, which ours repeats, moved"


def test_batches_of_a_step_come_as_a_list_before_they_are_trained_on(trainer: SFTTrainer) -> None:
    batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 3, torch.device("cpu"))
    assert [set(batch) >= {"input_ids", "labels"} for batch in batches] == [True], (
        "get_batch_samples no longer returns the batches that are left"
    )
    source = inspect.getsource(Trainer)
    assert "self.get_batch_samples(" in source, "the training loop no longer fetches a step's batches at once"


def test_a_loss_that_is_scaled_already_is_not_divided_again(trainer: SFTTrainer) -> None:
    # Transformers below 5.19 has no such attribute, and TRL turns it into others.
    reader = Trainer.training_step if hasattr(Trainer, "loss_is_scaled_for_ga") else _BaseTrainer.__init__
    assert "loss_is_scaled_for_ga" in inspect.getsource(reader), (
        f"{reader.__qualname__} no longer reads loss_is_scaled_for_ga, so it may divide by the accumulation steps"
    )
    assert hasattr(trainer, "current_gradient_accumulation_steps") or (
        "self.current_gradient_accumulation_steps" in inspect.getsource(Trainer)
    ), "Trainer.current_gradient_accumulation_steps moved"


def test_the_trainer_patches_the_model_with_a_fused_head(trainer: SFTTrainer) -> None:
    ids_BT = torch.arange(3, 15).view(2, 6)
    output = trainer.model(input_ids=ids_BT, labels=ids_BT, fused_lm_head=True)
    for name in ("log_probs", "entropy", "is_top1"):
        value = getattr(output, name)
        assert value is not None, f"the trainer no longer asks the fused head for {name}"
        assert value.shape == (2, 5), f"{name} of the fused head has another shape than (B, T-1)"
    assert output.aux_loss is None
    assert (output.log_probs < 0).all(), "log_probs of the fused head changed sign"
    assert output.entropy.min() > 0, "entropy of the fused head changed sign"


def test_the_fused_head_leaves_unlabelled_positions_zero() -> None:
    model = tiny_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    labels_BT = torch.tensor([[5, -100, 7, -100]])
    output = model(input_ids=torch.tensor([[5, 6, 7, 8]]), labels=labels_BT, fused_lm_head=True)
    for name in ("log_probs", "entropy", "is_top1"):
        assert getattr(output, name)[0, [0, 2]].tolist() == [0, 0], f"{name} is not zero where the label is -100"


def test_the_fused_head_leaves_the_plain_forward_alone() -> None:
    model, ids_BT = tiny_model(), torch.arange(3, 15).view(2, 6)
    before = model(ids_BT).logits
    add_fused_lm_head(model, outputs=("log_probs",))
    assert torch.equal(model(ids_BT).logits, before)
