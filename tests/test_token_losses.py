"""Losses per token against full-logits cross-entropy: values, gradients, every kind of LM head."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import KINDS, collated, full_logits_losses, labelled_dataset, tiny_model
from torch import nn
from trl.trainer.utils import add_fused_lm_head

from rolewise.training.token_losses import TokenLosses, fused_losses, only_positions, selected_losses

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
LENGTHS = (31, 3, 47, 2, 19)


def batch_of(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> dict[str, torch.Tensor]:
    return collated(labelled_dataset(lengths, seed=seed))


def selected(model: nn.Module, batch: dict[str, torch.Tensor]) -> TokenLosses:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return selected_losses(model, model.get_output_embeddings(), {**inputs, "use_cache": False}, batch["labels"])


def fused(model: nn.Module, batch: dict[str, torch.Tensor]) -> TokenLosses:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return fused_losses(model, inputs, batch["labels"])


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [selected, fused])
def test_losses_and_gradients_equal_full_logits(way, kind: str) -> None:
    model, batch = tiny_model(kind), batch_of()
    weights_BT = torch.rand(batch["labels"].shape, generator=torch.Generator().manual_seed(0))

    expected_BT, mask_BT, log_probs_BTV = full_logits_losses(model, batch)
    expected_gradients = gradients(model, (expected_BT * weights_BT).sum())
    losses = way(model, batch)
    actual_gradients = gradients(model, (losses.loss_BT * weights_BT).sum())

    assert losses.loss_BT.dtype == torch.float32
    assert losses.loss_BT.shape == batch["labels"].shape
    torch.testing.assert_close(losses.loss_BT, expected_BT, **TOLERANCE)
    assert (losses.loss_BT[~mask_BT] == 0).all()
    assert actual_gradients.keys() == expected_gradients.keys()
    for name, expected in expected_gradients.items():
        torch.testing.assert_close(
            actual_gradients[name], expected, **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}"
        )

    entropy_BT = -(log_probs_BTV.exp() * log_probs_BTV).sum(dim=-1) * mask_BT
    torch.testing.assert_close(losses.entropy_BT, entropy_BT, **TOLERANCE)
    assert not losses.entropy_BT.requires_grad
    correct_BT = (log_probs_BTV.argmax(dim=-1) == batch["labels"]) & mask_BT
    assert losses.correct_BT.dtype == torch.bool
    assert torch.equal(losses.correct_BT, correct_BT)


def test_some_predictions_of_a_learnt_sample_are_correct() -> None:
    """Random labels are never right; here each label is made the model's own choice."""
    model, batch = tiny_model(), batch_of((17,))
    for t in range(1, 17):
        batch["input_ids"][0, t] = model(batch["input_ids"][:, :t]).logits[0, -1].argmax()
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][0, :9] = -100
    for way in (selected, fused):
        assert way(model, batch).correct_BT.sum() == 8
        assert way(model, batch).correct_BT[0, 9:].all()


def test_soft_capping_and_scaling_change_the_losses() -> None:
    """Else the test above could not tell whether they are honoured."""
    batch = batch_of()
    for kind, name, neutral in [("gemma2", "final_logit_softcapping", None), ("granite", "logits_scaling", 1.0)]:
        model = tiny_model(kind)
        before = selected(model, batch).loss_BT.detach()
        setattr(model.config, name, neutral)
        setattr(model, name, neutral)
        assert not torch.allclose(before, selected(model, batch).loss_BT.detach(), atol=1e-3), kind


def test_mixture_of_experts_gives_its_balancing_loss() -> None:
    model, batch = tiny_model("moe"), batch_of()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "output_router_logits": True}
    expected = model(**inputs).aux_loss
    assert expected > 0
    ours = selected_losses(model, model.get_output_embeddings(), inputs, batch["labels"]).aux_loss
    torch.testing.assert_close(ours, expected)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    torch.testing.assert_close(fused_losses(model, inputs, batch["labels"]).aux_loss, expected)


@pytest.mark.parametrize("way", [selected, fused])
def test_padding_to_the_right_changes_nothing(way) -> None:
    model, batch = tiny_model(), batch_of()
    values = {"input_ids": 7, "attention_mask": 0, "labels": -100, "token_roles": 0, "token_scores": 0.0}
    padded = {name: nn.functional.pad(tensor, (0, 13), value=values[name]) for name, tensor in batch.items()}
    width = batch["labels"].size(1)
    ours = way(model, padded)
    torch.testing.assert_close(ours.loss_BT[:, :width], way(model, batch).loss_BT, **TOLERANCE)
    assert (ours.loss_BT[:, width:] == 0).all()


@pytest.mark.parametrize("way", [selected, fused])
def test_a_label_on_the_first_token_is_left_out(way) -> None:
    model, batch = tiny_model(), batch_of()
    expected = way(model, batch).loss_BT
    batch["labels"][:, 0] = batch["input_ids"][:, 0]
    torch.testing.assert_close(way(model, batch).loss_BT, expected, **TOLERANCE)


@pytest.mark.parametrize("way", [selected, fused])
def test_a_batch_without_labels_gives_a_zero_that_can_be_differentiated(way) -> None:
    model, batch = tiny_model(), batch_of()
    batch["labels"].fill_(-100)
    loss = way(model, batch).loss_BT.sum()
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(model, loss).values())


@pytest.mark.parametrize("way", [selected, fused])
def test_peft_wrapped_models(way) -> None:
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model, batch = get_peft_model(tiny_model(), config).eval(), batch_of()
    expected_BT, _, _ = full_logits_losses(model, batch)
    expected = gradients(model, expected_BT.sum())
    losses = way(model, batch)
    torch.testing.assert_close(losses.loss_BT, expected_BT, **TOLERANCE)
    actual = gradients(model, losses.loss_BT.sum())
    assert actual.keys() == expected.keys()
    assert all("lora" in name for name in actual)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-4)


def test_the_head_projects_selected_positions_only_in_row_major_order() -> None:
    model, batch = tiny_model(), batch_of()
    positions_BT = torch.rand(batch["labels"].shape, generator=torch.Generator().manual_seed(1)) < 0.3
    full = model(batch["input_ids"]).logits
    with only_positions(model.get_output_embeddings(), positions_BT):
        some = model(batch["input_ids"]).logits
    assert some.shape == (1, int(positions_BT.sum()), 203)
    torch.testing.assert_close(some[0], full[positions_BT], **TOLERANCE)


def test_the_hook_is_gone_afterwards_even_after_an_error() -> None:
    model, batch = tiny_model(), batch_of()
    head = model.get_output_embeddings()
    before = model(batch["input_ids"]).logits
    selected(model, batch)
    assert not head._forward_pre_hooks
    bad = {"input_ids": torch.full_like(batch["input_ids"], 10**6)}
    with pytest.raises(IndexError):
        selected_losses(model, head, bad, batch["labels"])
    assert not head._forward_pre_hooks
    torch.testing.assert_close(model(batch["input_ids"]).logits, before)
