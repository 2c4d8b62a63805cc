"""Tuning with functional tokens: all weights, or an adapter and the new rows alone; merged, loaded, served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from grpo_rollouts import loss_and_gradients, make_trainer, rollout_of
from peft import LoraConfig, PeftModel, PrefixTuningConfig
from tiny import collated, full_logits_losses, labelled_dataset, tiny_model
from tiny_tokenizers import tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.engines.base import Sampling
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.training.functional_tokens import (
    add_functional_tokens,
    add_to_tokenizer,
    functional_token_ids,
    make_room,
    prepare_functional,
)
from rolewise.training.models import lora_config, write_merged
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer

MODELS = ("llama", "llama-tied", "gemma2", "granite")
SPARE = 5
"""Rows that the models' vocabularies are padded with; fewer than there are functional tokens."""


def base(kind: str = "llama") -> Any:
    return tiny_model(kind, vocab_size=len(tiny_tokenizer("qwen")) + SPARE)


def rows_of(model: Any) -> list[torch.Tensor]:
    """The embedding matrices as the model reads them, copied: one if they are tied."""
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    if model.config.tie_word_embeddings:
        assert torch.equal(layers[0].weight, layers[1].weight)
    return [layer.weight.detach().clone() for layer in layers]


def data() -> Dataset:
    """Random ids; in each row all functional tokens, and one token that follows on the last of them."""
    tokenizer = tiny_tokenizer("qwen")
    add_to_tokenizer(tokenizer)
    ids = [*(token_id for pair in functional_token_ids(tokenizer).values() for token_id in pair), 5]
    random = labelled_dataset((8, 11, 9, 8), vocab_size=len(tokenizer))
    role = {"input_ids": ids, "labels": ids, "token_roles": [int(Role.REASONING)] * len(ids)}
    return random.map(lambda row: {**row, **{name: row[name] + more for name, more in role.items()}})


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., WeightedSFTTrainer]:
    """A trainer that has made one step or more with functional tokens."""

    def run(
        kind: str, *, lora: bool = True, steps: int = 1, save: str = "no", resume: str | None = None, **options: Any
    ) -> WeightedSFTTrainer:
        torch.manual_seed(0)
        model, tokenizer, adapter = prepare_functional(
            base(kind), tiny_tokenizer("qwen"), peft_config=lora_config(4) if lora else None
        )
        args = WeightedSFTConfig(
            output_dir=str(tmp_path / "run"),
            weighting="none",
            max_steps=steps,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            weight_decay=0.1,
            max_grad_norm=0.0,
            save_strategy=save,
            save_steps=2,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            gradient_checkpointing=False,
            **options,
        )
        trainer = WeightedSFTTrainer(model, args, train_dataset=data(), processing_class=tokenizer, peft_config=adapter)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


@pytest.mark.parametrize("lm_head", ["selected", "fused"])
@pytest.mark.parametrize("kind", MODELS)
def test_only_the_new_rows_are_trained_beside_the_adapter(kind, lm_head, tune) -> None:
    prepared = base(kind)
    ids = add_functional_tokens(prepared, tiny_tokenizer("qwen"))
    before = rows_of(prepared)
    model = tune(kind, lm_head=lm_head, steps=3).model
    for old, new in zip(before, rows_of(model), strict=True):
        others = [row for row in range(len(old)) if row not in ids]
        assert torch.equal(old[others], new[others])
        assert ((old[ids] - new[ids]).abs().amax(dim=1) > 1e-3).all()
    rows = [weights for name, weights in model.named_parameters() if "trainable_tokens" in name]
    assert {tuple(weights.shape) for weights in rows} == {(len(ids), prepared.config.hidden_size)}
    assert all("lora" in n or "trainable_tokens" in n for n, w in model.named_parameters() if w.requires_grad)


@pytest.mark.parametrize("lm_head", ["selected", "fused"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_rows_get_the_gradient_that_full_tuning_gives_them(kind, lm_head, tune) -> None:
    """One plain SGD step moves them by the learning rate times the gradient of the whole matrix."""
    reference = base(kind)
    ids = add_functional_tokens(reference, tiny_tokenizer("qwen"))
    loss_BT, mask_BT, _ = full_logits_losses(reference, collated(data()))
    (loss_BT.sum() / mask_BT.sum()).backward()
    before = rows_of(reference)
    model = tune(kind, lm_head=lm_head, optim="sgd", lr_scheduler_type="constant").model
    layers = [reference.get_input_embeddings(), reference.get_output_embeddings()]
    for layer, old, new in zip(layers, before, rows_of(model), strict=True):
        step = 1e-2 * (layer.weight.grad[ids] + 0.1 * old[ids])  # the decay of the weights too
        torch.testing.assert_close(new[ids], old[ids] - step, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_full_tuning_trains_all_rows(kind, tune) -> None:
    prepared = base(kind)
    add_functional_tokens(prepared, tiny_tokenizer("qwen"))
    for old, new in zip(rows_of(prepared), rows_of(tune(kind, lora=False).model), strict=True):
        assert old.shape == new.shape
        assert (old != new).any(dim=1)[3:].all()  # but for padding


@pytest.mark.parametrize("kind", MODELS)
def test_the_adapter_loads_again_and_merges_into_the_same_model(kind, tune, tmp_path) -> None:
    trainer = tune(kind, steps=3)
    tokenizer, model = trainer.processing_class, trainer.model.eval()
    trainer.save_model(str(tmp_path))
    ids = functional_token_ids(tokenizer)
    prompt = torch.tensor([[5, 9, *ids["next_step"], 7, *ids["output"], 20]])
    expected = model(prompt).logits

    again = base(kind)
    make_room(again, tmp_path)
    loaded = PeftModel.from_pretrained(again, str(tmp_path)).eval()
    torch.testing.assert_close(loaded(prompt).logits, expected, rtol=1e-4, atol=1e-5)

    write_merged(base(kind), tmp_path, tmp_path / "merged", tokenizer)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(prompt).logits, expected, rtol=1e-4, atol=1e-4)  # rounded in another order
    for adapted, whole in zip(rows_of(model), rows_of(merged), strict=True):
        assert torch.equal(adapted, whole)
    tied = merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    assert tied == bool(merged.config.tie_word_embeddings)
    assert functional_token_ids(AutoTokenizer.from_pretrained(tmp_path / "merged")) == ids


def test_a_resumed_run_ends_as_an_undisturbed_one(tune, tmp_path) -> None:
    whole = tune("llama", steps=4, save="steps").model.state_dict()
    resumed = tune("llama", steps=4, resume=str(tmp_path / "run" / "checkpoint-2")).model.state_dict()
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weights, resumed[name]) for name, weights in whole.items())


def test_without_its_adapter_the_model_is_the_base(tune) -> None:
    """As TRL's reference policy is, which reads the head's weight itself."""
    prepared = base("llama-tied")
    ids = add_functional_tokens(prepared, tiny_tokenizer("qwen"))
    model = tune("llama-tied", steps=3).model.eval()
    prompt = torch.tensor([[5, *ids]])
    with model.disable_adapter():
        assert torch.equal(model.get_output_embeddings().weight, prepared.get_output_embeddings().weight)
        torch.testing.assert_close(model(prompt).logits, prepared(prompt).logits)


def test_a_merged_model_is_asked_for_functional_tokens_by_id(tune, tmp_path) -> None:
    """In process: an opening token in the prompt, a closing one that stops, one among the allowed next tokens."""
    trainer = tune("llama-tied", steps=3)
    trainer.save_model(str(tmp_path))
    write_merged(base("llama-tied"), tmp_path, tmp_path / "merged", trainer.processing_class)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    opening, closing = functional_token_ids(tokenizer)["verify"]
    with torch.no_grad():  # a model that closes the step at once
        model.get_input_embeddings().weight[closing] *= 50
    prompt = tokenizer("3?", add_special_tokens=False)["input_ids"] + [opening]
    with TransformersEngine(model, tokenizer) as engine:
        sampling = Sampling(max_new_tokens=20, temperature=1.0, stop_token_ids=(closing,), n=8)
        [samples] = engine.generate([prompt], sampling)
        stopped = [sample for sample in samples if sample.finish_reason == "stop" and closing in sample.ids]
        assert stopped
        assert all(sample.ids.index(closing) == len(sample.ids) - 1 for sample in stopped)
        [logprobs] = engine.next_token_logprobs([prompt], [[opening, closing]])
    expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[[opening, closing]]
    assert logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
def test_grpo_gives_the_rows_the_gradient_of_full_tuning_too(kind, chatml_tokenizer, tmp_path) -> None:
    """Its loss knows the fused head alone."""
    ids = list(range(40, 60))
    names = ["model.embed_tokens", "lm_head"][: 1 if kind == "llama-tied" else 2]
    adapter = LoraConfig(target_modules=["q_proj"], trainable_token_indices=dict.fromkeys(names, ids))
    full = make_trainer(chatml_tokenizer, tmp_path, kind=kind)
    _, expected = loss_and_gradients(full, rollout_of(full))
    rows = make_trainer(chatml_tokenizer, tmp_path, kind=kind, peft_config=adapter)
    _, found = loss_and_gradients(rows, rollout_of(rows))
    for name in names:
        delta = found[f"base_model.model.{name}.token_adapter.trainable_tokens_delta.default"]
        torch.testing.assert_close(delta, expected[f"{name}.weight"][ids], rtol=1e-4, atol=1e-6)
        assert delta.abs().sum() > 0


def test_adapters_that_can_not_train_rows_are_refused() -> None:
    for config in (LoraConfig(trainable_token_indices=[3]), PrefixTuningConfig(num_virtual_tokens=2)):
        with pytest.raises(InputError, match="this adapter can't train the functional tokens' rows"):
            prepare_functional(base(), tiny_tokenizer("qwen"), peft_config=config)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(PhiConfig(vocab_size=len(tiny_tokenizer("qwen")), **sizes))
    with pytest.raises(InputError, match="LM head has a bias"):
        prepare_functional(model, tiny_tokenizer("qwen"), peft_config=lora_config(4))


def test_the_users_adapter_config_stays_as_it_was() -> None:
    config = lora_config(4)
    prepare_functional(base(), tiny_tokenizer("qwen"), peft_config=config)
    assert config.trainable_token_indices is None
