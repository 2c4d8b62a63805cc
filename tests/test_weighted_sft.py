"""The trainer as a user calls it: what a step does to the parameters, what is logged, what is refused."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import PeftModel, PromptTuningConfig
from tiny import collated, full_logits_losses, labelled_dataset, reference_weights, tiny_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.core.transformers_insides import checkpointing
from rolewise.training.models import lora_config
from rolewise.training.packing import pack_rows
from rolewise.training.sft import WeightedSFTConfig, WeightedSFTTrainer
from rolewise.weighting import RFT, WEIGHTINGS, TokenBatch, Weighting

LENGTHS = (23, 9, 31, 12, 17, 40, 5, 28)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def tokenizer(chatml_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return chatml_tokenizer


@pytest.fixture(scope="module", autouse=True)
def _quick_garbage_collection() -> Iterator[None]:
    """Each training ends with a full collection, which takes a second in a process that has imported so much."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., WeightedSFTConfig]:
    """One step of SGD at learning rate 1, so that the parameters' change is the gradient; all eight samples in it."""

    def make(config: type[SFTConfig] = WeightedSFTConfig, **options: Any) -> SFTConfig:
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 1,
            "per_device_train_batch_size": 8,
            "optim": "sgd",
            "learning_rate": 1.0,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            **checkpointing(False),
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return config(**{**defaults, **options})

    return make


def data(tokenizer: PreTrainedTokenizerFast, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Dataset:
    return labelled_dataset(lengths, vocab_size=len(tokenizer), seed=seed)


def model_for(tokenizer: PreTrainedTokenizerFast, kind: str = "llama") -> PreTrainedModel:
    return tiny_model(kind, vocab_size=len(tokenizer))


def train(
    tokenizer: PreTrainedTokenizerFast, args: SFTConfig, dataset: Dataset, *, kind: str = "llama", **options: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Parameters after training, and the log lines of its steps."""
    trainer = WeightedSFTTrainer(
        model_for(tokenizer, kind), args, train_dataset=dataset, processing_class=tokenizer, **options
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}, lines


def assert_same_parameters(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")


def reference_step(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], weighting: str
) -> tuple[dict[str, torch.Tensor], float, np.ndarray, np.ndarray]:
    """One SGD step by hand; also the loss, the token losses and the weights."""
    loss_BT, mask_BT, _ = full_logits_losses(model, batch)
    arrays = loss_BT.detach().numpy(), batch["token_roles"].numpy(), mask_BT.numpy()
    weights_BT = reference_weights(weighting, *arrays, scores_BT=batch["token_scores"].numpy())
    loss = (torch.from_numpy(weights_BT).float() * loss_BT).sum()
    loss.backward()
    stepped = {name: (p - p.grad).detach() for name, p in model.named_parameters()}
    return stepped, loss.item(), loss_BT.detach().numpy(), weights_BT


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_step_equals_the_one_by_hand_however_it_is_cut_or_padded(weighting, tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    expected, loss, _, _ = reference_step(model_for(tokenizer), collated(dataset), weighting)
    cuts = [{"per_device_train_batch_size": rows, "gradient_accumulation_steps": 8 // rows} for rows in (1, 2, 4, 8)]
    sorted_rows = dataset.select(np.argsort(LENGTHS).tolist())
    runs = [(cut, dataset) for cut in cuts]
    runs.append(({**cuts[1], "pad_to_multiple_of": 16}, dataset))
    runs.append(({**cuts[1], "train_sampling_strategy": "sequential"}, sorted_rows))
    for options, rows in runs:
        parameters, lines = train(tokenizer, arguments(weighting=weighting, **options), rows)
        assert_same_parameters(parameters, expected)
        assert lines[0]["loss"] == pytest.approx(loss, abs=1e-5), options


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("lm_head", ["selected", "fused"])
def test_packed_and_padding_free_steps_equal_the_one_by_hand(weighting, lm_head, tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    packed = pack_rows(dataset, 48)
    assert sorted(length for lengths in packed["seq_lengths"] for length in lengths) == sorted(LENGTHS)
    assert len(packed) == 4
    expected, loss, _, _ = reference_step(model_for(tokenizer), collated(dataset), weighting)
    runs = [{"packing": True, "max_length": 48, "per_device_train_batch_size": rows} for rows in (1, 2, 4)]
    runs = [{**run, "gradient_accumulation_steps": 4 // run["per_device_train_batch_size"]} for run in runs]
    runs.append({"packing": True, "max_length": None})  # rows as long as the longest sample
    runs.append({"padding_free": True})
    runs.append({"padding_free": True, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    for options in runs:
        parameters, lines = train(tokenizer, arguments(weighting=weighting, lm_head=lm_head, **options), dataset)
        assert_same_parameters(parameters, expected)
        assert lines[0]["loss"] == pytest.approx(loss, abs=1e-5), options
        assert lines[0]["num_tokens"] == sum(LENGTHS)


def test_text_that_trl_packs_itself_gets_sample_means_over_samples(tokenizer, arguments) -> None:
    texts = Dataset.from_dict({"text": ["one text", "another longer text", "a third text of some more words"]})
    options = {"weighting": "sample-mean", "max_length": 64}
    plain, lines = train(tokenizer, arguments(**options), texts)
    packed, packed_lines = train(tokenizer, arguments(packing=True, **options), texts)
    assert_same_parameters(packed, plain)
    assert packed_lines[0]["loss"] == pytest.approx(lines[0]["loss"], abs=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_held_out_numbers_depend_on_no_batch_size_and_no_packing(weighting, tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    _, loss, loss_BT, weights_BT = reference_step(model_for(tokenizer), collated(dataset), weighting)
    expected = {f"eval_{key}": value for key, value in expected_line(loss_BT, weights_BT, collated(dataset)).items()}
    layouts = [{"per_device_eval_batch_size": size} for size in (1, 3, 8)]
    layouts += [{"packing": True, "max_length": 48}, {"eval_packing": True, "max_length": 48}]
    layouts += [{"padding_free": True, "per_device_eval_batch_size": 3}]
    for layout in layouts:
        trainer = WeightedSFTTrainer(
            model_for(tokenizer),
            arguments(weighting=weighting, **layout),
            train_dataset=dataset,
            eval_dataset=dataset,
            processing_class=tokenizer,
        )
        metrics = trainer.evaluate()
        for key, value in {"eval_loss": loss, **expected}.items():
            assert metrics[key] == pytest.approx(value, abs=1e-5), (layout, key)


def test_weightings_differ(tokenizer, arguments) -> None:
    """Else the test above could compare four times the same thing."""
    losses = {w: reference_step(model_for(tokenizer), collated(data(tokenizer)), w)[1] for w in WEIGHTINGS}
    assert len({round(loss, 3) for loss in losses.values()}) == len(WEIGHTINGS), losses


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_dft_equals_trls_own(kind, tokenizer, arguments) -> None:
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    dataset = data(tokenizer)
    prepared = {"loss_type": "dft", "dataset_kwargs": {"skip_prepare_dataset": True}}
    trls = SFTTrainer(
        model_for(tokenizer, kind),
        arguments(SFTConfig, **prepared, **options),
        train_dataset=dataset.select_columns(["input_ids", "labels"]),
        processing_class=tokenizer,
    )
    trls.train()
    parameters, lines = train(tokenizer, arguments(weighting="dft", **options), dataset, kind=kind)
    assert lines[0]["loss"] == pytest.approx(trls.state.log_history[0]["loss"], abs=1e-6)
    start = dict(model_for(tokenizer, kind).named_parameters())
    for name, expected in trls.model.named_parameters():  # the learning rate is 1: differences are gradients
        torch.testing.assert_close(parameters[name], expected.detach(), rtol=0, atol=1e-6)
    assert max((parameters[name] - start[name]).abs().max() for name in start) > 1e-4


def test_micro_batches_of_which_nothing_is_kept_weigh_nothing(tokenizer, arguments) -> None:
    """The second sample is all boilerplate: its micro-batch counts 0, and a step of it alone changes nothing."""
    dataset = data(tokenizer)
    options = {"weighting": "rho", "per_device_train_batch_size": 1}
    parameters, lines = train(tokenizer, arguments(**options), dataset.select([1]))
    assert_same_parameters(parameters, dict(model_for(tokenizer).named_parameters()))
    assert lines[0]["loss"] == 0


def test_data_without_losses_is_refused_by_reward(tokenizer, arguments) -> None:
    dataset = data(tokenizer).remove_columns("tuned_loss")
    assert "the train data lacks tuned_loss" in refusal(tokenizer, arguments(weighting="reward"), dataset)


def test_the_last_step_of_an_epoch_with_fewer_samples(tokenizer, arguments) -> None:
    """Five samples where a step would take sixteen: micro-batches of 2, 2 and 1."""
    dataset = data(tokenizer).select(range(5))
    expected, loss, _, _ = reference_step(model_for(tokenizer), collated(dataset), "rft")
    args = arguments(per_device_train_batch_size=2, gradient_accumulation_steps=8)
    parameters, lines = train(tokenizer, args, dataset)
    assert_same_parameters(parameters, expected)
    assert lines[0]["loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gemma2", "moe"])
def test_weighting_none_equals_trls_own_trainer(kind, tokenizer, arguments) -> None:
    options = {
        "max_steps": 5,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "learning_rate": 1e-3,
        "max_grad_norm": 1.0,
    }
    if kind == "moe":
        options["router_aux_loss_coef"] = 0.5
    dataset = data(tokenizer)
    plain = SFTTrainer(
        model_for(tokenizer, kind),
        arguments(SFTConfig, dataset_kwargs={"skip_prepare_dataset": True}, **options),
        train_dataset=dataset.select_columns(["input_ids", "labels"]),
        processing_class=tokenizer,
    )
    plain.train()
    expected = {name: p.detach() for name, p in plain.model.named_parameters()}
    expected_lines = [line for line in plain.state.log_history if "loss" in line]
    start = dict(model_for(tokenizer, kind).named_parameters())
    assert max((expected[name] - start[name]).abs().max() for name in start) > 1e-3

    parameters, lines = train(tokenizer, arguments(weighting="none", **options), dataset, kind=kind)
    assert len(lines) == len(expected_lines) == 5
    for line, expected_line in zip(lines, expected_lines, strict=True):
        for key in expected_line:
            assert line[key] == pytest.approx(expected_line[key], rel=1e-5, abs=1e-5), key
    assert_same_parameters(parameters, expected)


def test_the_fused_head_gives_the_same_step(tokenizer, arguments) -> None:
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    selected, selected_lines = train(tokenizer, arguments(lm_head="selected", **options), data(tokenizer))
    fused, fused_lines = train(tokenizer, arguments(lm_head="fused", **options), data(tokenizer))
    assert_same_parameters(fused, selected)
    for key in ("loss", "entropy", "mean_token_accuracy", "loss_reasoning", "weight_boilerplate"):
        assert fused_lines[0][key] == pytest.approx(selected_lines[0][key], abs=1e-5), key


def expected_line(loss_BT: np.ndarray, weights_BT: np.ndarray, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    roles_BT, mask_BT = batch["token_roles"].numpy(), batch["labels"].numpy() != -100
    groups = {
        "reasoning": [Role.REASONING],
        "boilerplate": [Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE],
        "plain": [Role.PLAIN],
    }
    line = {"loss_token_mean": loss_BT[mask_BT].mean()}
    for name, roles in groups.items():
        members = mask_BT & np.isin(roles_BT, [int(role) for role in roles])
        line[f"loss_{name}"] = loss_BT[members].mean()
        line[f"share_{name}"] = members.sum() / mask_BT.sum()
        line[f"weight_{name}"] = weights_BT[members].sum() / weights_BT.sum()
    return line


def test_log_lines_carry_loss_share_and_weight_per_role(tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    batch = collated(dataset)
    args = arguments(max_steps=2, learning_rate=0.1, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    _, lines = train(tokenizer, args, dataset)
    model = model_for(tokenizer)
    for step, line in enumerate(lines, start=1):
        model.zero_grad()
        _, _, loss_BT, weights_BT = reference_step(model, batch, "rft")
        expected = expected_line(loss_BT, weights_BT, batch)
        assert len(expected) == 10
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, abs=1e-5), key
        assert line["num_tokens"] == step * sum(LENGTHS)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert len(lines) == 2
    assert abs(lines[0]["loss_reasoning"] - lines[1]["loss_reasoning"]) > 1e-3


def test_a_log_line_over_several_steps_still_has_shares_of_the_whole_weight(tokenizer, arguments) -> None:
    _, lines = train(tokenizer, arguments(max_steps=2, logging_steps=2), data(tokenizer))
    assert len(lines) == 1
    assert sum(lines[0][f"weight_{name}"] for name in ("reasoning", "boilerplate", "plain")) == pytest.approx(1)


def test_evaluation_reports_the_weighted_loss_and_the_roles(tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    batch = collated(dataset)
    _, loss, loss_BT, weights_BT = reference_step(model_for(tokenizer), batch, "rft")
    trainer = WeightedSFTTrainer(
        model_for(tokenizer),
        arguments(per_device_eval_batch_size=4),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=tokenizer,
    )
    trainer.evaluate()
    numbers = next(line for line in trainer.state.log_history if "eval_loss" in line)
    assert numbers["eval_loss"] == pytest.approx(loss, abs=1e-5)
    for key, value in expected_line(loss_BT, weights_BT, batch).items():
        assert numbers[f"eval_{key}"] == pytest.approx(value, abs=1e-5), key


def test_evaluation_between_steps_neither_disturbs_training_nor_is_disturbed(tokenizer, arguments) -> None:
    options = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 0.1}
    expected, _ = train(tokenizer, arguments(**options), data(tokenizer))
    held_out = data(tokenizer, (9, 14), seed=1)
    trainer = WeightedSFTTrainer(
        model_for(tokenizer),
        arguments(eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=3, **options),
        train_dataset=data(tokenizer),
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    trainer.train()
    assert_same_parameters({name: p.detach() for name, p in trainer.model.named_parameters()}, expected)
    assert all("loss_reasoning" in line for line in trainer.state.log_history if "loss" in line)
    model = model_for(tokenizer)
    model.load_state_dict(expected)
    _, loss, _, _ = reference_step(model, collated(held_out), "rft")
    assert [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line][-1] == pytest.approx(
        loss, abs=1e-4
    )


def test_a_metric_of_the_users_own_gets_logits(tokenizer, arguments) -> None:
    seen = []

    def metric(prediction: Any) -> dict[str, float]:
        seen.append(prediction.predictions.shape)
        return {"mine": 1.0}

    dataset = data(tokenizer, (12, 12, 12))
    trainer = WeightedSFTTrainer(
        model_for(tokenizer),
        arguments(),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=tokenizer,
        compute_metrics=metric,
    )
    assert trainer.evaluate()["eval_mine"] == 1.0
    assert seen == [(3, 12, len(tokenizer))]


def test_resuming_gives_the_weights_of_an_undisturbed_run(tokenizer, arguments, tmp_path) -> None:
    options = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "save_strategy": "steps",
        "save_steps": 3,
    }
    dataset = data(tokenizer)
    expected, expected_lines = train(tokenizer, arguments(**options), dataset)
    trainer = WeightedSFTTrainer(
        model_for(tokenizer), arguments(**options), train_dataset=dataset, processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-6, atol=1e-6)
    last = [line for line in trainer.state.log_history if "loss" in line][-1]
    assert last["step"] == 6
    assert last["loss"] == pytest.approx(expected_lines[-1]["loss"], abs=1e-6)


def test_lora_trains_the_adapter_alone_and_saves_it(tokenizer, arguments, tmp_path) -> None:
    trainer = WeightedSFTTrainer(
        model_for(tokenizer),
        arguments(max_steps=3, learning_rate=0.5),
        train_dataset=data(tokenizer),
        processing_class=tokenizer,
        peft_config=lora_config(4),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    ids = torch.arange(3, 20)[None]
    base = model_for(tokenizer).eval()
    plain = base(ids).logits
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(loaded(ids).logits, trainer.model.eval()(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(loaded(ids).logits, plain, atol=1e-3)
    with loaded.disable_adapter():
        torch.testing.assert_close(loaded(ids).logits, plain)


def test_gradient_checkpointing_gives_the_same_step(tokenizer, arguments) -> None:
    expected, _ = train(tokenizer, arguments(), data(tokenizer))
    parameters, _ = train(tokenizer, arguments(**checkpointing(True)), data(tokenizer))
    assert_same_parameters(parameters, expected)


class FirstToken(Weighting):
    """Every sample's first loss token, and nothing else."""

    unit = "sample"
    needs_roles = False

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        first_BT = batch.mask_BT & (batch.mask_BT.cumsum(dim=1) == 1)
        return first_BT / first_BT.sum().clamp(min=1)


def test_a_weighting_of_the_users_own(tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    model, batch = model_for(tokenizer), collated(dataset)
    loss_BT, mask_BT, _ = full_logits_losses(model, batch)
    loss = torch.stack([row[mask][0] for row, mask in zip(loss_BT, mask_BT, strict=True)]).mean()
    loss.backward()
    args = arguments(SFTConfig, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    parameters, lines = train(tokenizer, args, dataset, weighting=FirstToken())
    assert_same_parameters(parameters, {name: (p - p.grad).detach() for name, p in model.named_parameters()})
    assert lines[0]["loss"] == pytest.approx(loss.item(), abs=1e-5)


class StepSeen(FirstToken):
    """Notes the steps that it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        self.steps.append(batch.step)
        return super().weigh(batch)


def test_a_weighting_is_told_the_optimizer_step(tokenizer, arguments) -> None:
    weighting = StepSeen()
    args = arguments(max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    train(tokenizer, args, data(tokenizer), weighting=weighting)
    assert weighting.steps == [0, 0, 1, 1, 2, 2]


def refusal(tokenizer: PreTrainedTokenizerFast, args: SFTConfig, dataset: Dataset, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        WeightedSFTTrainer(model_for(tokenizer), args, train_dataset=dataset, processing_class=tokenizer, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_data_without_roles_is_refused_by_rft_and_taken_by_none(tokenizer, arguments) -> None:
    texts = Dataset.from_dict({"text": ["The user asks for the weather.", "Which tool fits?", "a city"]})
    for weighting in ("rft", "alpha"):
        assert "no `token_roles`" in refusal(tokenizer, arguments(weighting=weighting), texts)
    _, lines = train(tokenizer, arguments(weighting="none"), texts)
    trls = SFTTrainer(model_for(tokenizer), arguments(SFTConfig), train_dataset=texts, processing_class=tokenizer)
    trls.train()
    assert lines[0]["loss"] == pytest.approx(trls.state.log_history[0]["loss"], abs=1e-5)
    assert lines[0]["share_plain"] == lines[0]["weight_plain"] == 1.0
    assert lines[0]["loss_plain"] == pytest.approx(lines[0]["loss"], abs=1e-5)
    assert "loss_reasoning" not in lines[0]


@pytest.mark.parametrize("strategy", ["wrapped", "bfd_split"])
def test_packing_that_cuts_samples_is_refused(strategy, tokenizer, arguments) -> None:
    args = arguments(packing=True, packing_strategy=strategy, max_length=48)
    assert "splits samples" in refusal(tokenizer, args, data(tokenizer))


@pytest.mark.parametrize(
    ("options", "instead"),
    [({"loss_type": "dft"}, "take the weighting dft"), ({"label_smoothing_factor": 0.1}, "leave it at 0")],
)
def test_options_that_the_weighted_loss_would_ignore_are_refused(options, instead, tokenizer, arguments) -> None:
    message = refusal(tokenizer, arguments(**options), data(tokenizer))
    assert next(iter(options)) in message
    assert instead in message


def test_a_loss_function_of_the_users_own_is_refused(tokenizer, arguments) -> None:
    message = refusal(tokenizer, arguments(), data(tokenizer), compute_loss_func=lambda *a, **k: 0)
    assert "subclass Weighting" in message


def test_a_plain_config_needs_a_weighting(tokenizer, arguments) -> None:
    assert "a plain SFTConfig names none" in refusal(tokenizer, arguments(SFTConfig), data(tokenizer))


def test_the_users_config_is_left_as_it_was(tokenizer, arguments) -> None:
    args = arguments(max_length=16)
    train(tokenizer, args, data(tokenizer))
    assert (args.max_length, args.remove_unused_columns) == (16, True)


def test_a_prediction_leaves_nothing_behind_for_the_next_evaluation(tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    trainer = WeightedSFTTrainer(
        model_for(tokenizer), arguments(), train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer
    )
    alone = trainer.evaluate()
    predicted = trainer.predict(data(tokenizer, seed=1))
    assert predicted.metrics["test_loss_reasoning"] != pytest.approx(alone["eval_loss_reasoning"], abs=1e-3)
    assert trainer.evaluate()["eval_loss_reasoning"] == alone["eval_loss_reasoning"]


def test_several_evaluation_sets_have_their_own_numbers(tokenizer, arguments) -> None:
    sets = {name: data(tokenizer, seed=seed) for seed, name in enumerate(("a", "b"), start=1)}
    trainer = WeightedSFTTrainer(
        model_for(tokenizer), arguments(), train_dataset=sets["a"], eval_dataset=sets, processing_class=tokenizer
    )
    together = trainer.evaluate()
    for name, dataset in sets.items():
        assert trainer.evaluate(dataset)["eval_loss_reasoning"] == together[f"eval_{name}_loss_reasoning"]
    assert together["eval_a_loss_reasoning"] != together["eval_b_loss_reasoning"]


def test_trls_own_collator_will_do_where_no_roles_are_read(tokenizer, arguments) -> None:
    dataset = data(tokenizer)
    collator = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
    parameters, lines = train(tokenizer, arguments(weighting="none"), dataset, data_collator=collator)
    expected, expected_lines = train(tokenizer, arguments(weighting="none"), dataset)
    assert_same_parameters(parameters, expected)
    assert lines[0]["loss"] == expected_lines[0]["loss"]


def test_what_is_no_weighting_is_refused(tokenizer, arguments) -> None:
    for wrong in ("rft", RFT):
        assert "is not a Weighting with the unit" in refusal(tokenizer, arguments(), data(tokenizer), weighting=wrong)


def test_parameters_beside_a_weighting_that_has_its_own_are_refused(tokenizer, arguments) -> None:
    args = arguments(weighting_args={"inv_tau": 3})
    assert "leave one of them out" in refusal(tokenizer, args, data(tokenizer), weighting=RFT(2.0))


def test_labelled_evaluation_data_beside_plain_training_data_is_refused(tokenizer, arguments) -> None:
    texts = Dataset.from_dict({"text": ["one text", "another"]})
    message = refusal(tokenizer, arguments(weighting="none"), texts, eval_dataset=data(tokenizer))
    assert "the evaluation data is labelled but the training data is not" in message


def test_prompt_learning_is_refused(tokenizer, arguments) -> None:
    peft_config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    assert "prompt learning" in refusal(tokenizer, arguments(), data(tokenizer), peft_config=peft_config)
