"""Token rewards: DPO equals TRL's own, rewards are differences of log-probabilities, and what can't be used is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import options_of
from datasets import Dataset
from peft import PeftModel
from rich.progress import Progress
from safetensors.torch import load_file
from test_shad import naive_losses
from transformers import AutoModelForCausalLM, set_seed
from trl import DPOConfig, DPOTrainer
from workbench import Workbench

from rolewise import InputError, LabelOptions, Role, label, load_labelled
from rolewise.core.transformers_insides import checkpointing
from rolewise.data.preferences import read_preferences
from rolewise.data.render import RenderedSample, Renderer
from rolewise.generator import generate
from rolewise.labelling.reward import Reward
from rolewise.labelling.settings.reward import RewardConfig
from rolewise.training.models import lora_config

CONFIG = RewardConfig(learning_rate=1e-2, batch_size=4, micro_batch_size=4, rank=4)


@pytest.fixture(scope="module")
def samples(bench: Workbench) -> list[RenderedSample]:
    renderer = Renderer(bench.tokenizer(), max_length=512)
    return [sample for c in generate(4, seed=1) for sample in renderer.render(c)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs as Orca DPO has them."""
    path = tmp_path_factory.mktemp("pairs") / "orca.jsonl"
    rows = [
        {
            "system": "",
            "question": f"What is {i} + 1?",
            "chosen": f"It is {i + 1}.",
            "rejected": f"Perhaps {i + 2}, who knows.",
        }
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rewarded(bench, samples, pairs, tmp_path_factory) -> tuple[Path, list[Any]]:
    """The working directory and the labels."""
    work = tmp_path_factory.mktemp("reward")
    reward = Reward(str(bench.model), bench.tokenizer(), preferences=read_preferences(str(pairs)), config=CONFIG)
    labels, excluded = reward.label(samples, work, Progress(disable=True))
    assert not any(excluded)
    return work, list(labels)


def test_the_adapter_is_the_one_that_trls_trainer_gives(bench, pairs, rewarded, tmp_path):
    set_seed(0)
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    turns = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(tmp_path),
            beta=0.1,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            per_device_train_batch_size=4,
            num_train_epochs=1,
            seed=0,
            max_length=None,
            **checkpointing(False),
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(turns),
        processing_class=bench.tokenizer(),
        peft_config=lora_config(4),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "expected"))
    expected, actual = (
        load_file(directory / "adapter_model.safetensors")
        for directory in (tmp_path / "expected", rewarded[0] / "tuned-0")
    )
    assert expected.keys() == actual.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-6)


def test_rewards_are_log_ratios_of_the_tuned_model_and_its_reference(bench, samples, rewarded):
    work, labels = rewarded
    reference = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32).eval()
    fresh = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(fresh, work / "tuned-0").eval()
    largest = 0.0
    for sample, label_ in zip(samples, labels, strict=True):
        rewards_T = naive_losses(reference, sample) - naive_losses(tuned, sample)  # log π_dpo − log π_ref
        np.testing.assert_allclose(label_.base_loss_T - label_.tuned_loss_T, rewards_T, atol=1e-4, rtol=0)
        clear = sample.loss_mask & (np.abs(rewards_T) > 1e-3)
        assert ((label_.roles_T == Role.REASONING) == (rewards_T > 0))[clear].all()
        largest = max(largest, float(np.nanmax(np.abs(rewards_T))))
    assert largest > 0.1


def test_a_second_call_tunes_nothing_anew(bench, samples, pairs, rewarded):
    work, labels = rewarded
    adapter = work / "tuned-0" / "adapter_model.safetensors"
    stamp = adapter.stat().st_mtime_ns
    reward = Reward(str(bench.model), bench.tokenizer(), preferences=read_preferences(str(pairs)), config=CONFIG)
    again, _ = reward.label(samples, work, Progress(disable=True))
    assert adapter.stat().st_mtime_ns == stamp
    for a, b in zip(labels, again, strict=True):
        np.testing.assert_array_equal(a.tuned_loss_T, b.tuned_loss_T)


@pytest.mark.parametrize("whole", [False, True])
def test_a_reward_model_of_the_users_own(bench, samples, rewarded, whole, tmp_path):
    work = rewarded[0]
    directory = work / "tuned-0"
    if whole:
        fresh = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
        PeftModel.from_pretrained(fresh, directory).merge_and_unload().save_pretrained(tmp_path / "merged")
        bench.tokenizer().save_pretrained(tmp_path / "merged")
        directory = tmp_path / "merged"
    options = LabelOptions(
        model=str(bench.model),
        data=str(bench.data),
        output=str(tmp_path / "labelled"),
        method="reward",
        method_args={"reward_model": str(directory)},
        limit=3,
    )
    result = label(options)
    assert result.info.threshold is None
    assert result.checks.truth is not None
    assert list(result.checks.truth.auroc) == ["reward", "base loss", "regex"]
    assert 'id="threshold"' in (result.path / "report.html").read_text(encoding="utf-8")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bench.model), work / "tuned-0").eval()
    [first, *_] = load_labelled(result.path).samples()
    [sample] = Renderer(bench.tokenizer()).render(generate(24, seed=0)[0])
    np.testing.assert_allclose(first.tuned_loss_T, naive_losses(tuned, sample), atol=1e-4, rtol=0)


class TestRefused:
    def options(self, bench: Workbench, tmp_path: Path, **more: Any) -> LabelOptions:
        places = {"model": str(bench.model), "data": str(bench.data), "output": str(tmp_path / "out")}
        return options_of(LabelOptions, **{**places, "method": "reward", "limit": 3, **more})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "method reward needs either preferences"),
            ({"preferences": "a", "reward_model": "b"}, "method reward needs either preferences"),
            ({"method": "shad", "preferences": "a"}, "preferences would change nothing with method shad"),
            ({"preferences": "PAIRS", "beta": 0.0}, "beta is 0.0; it must be above 0"),
            ({"preferences": "PAIRS", "tuning": "full"}, "use lora"),
            ({"reward_model": "EMPTY"}, "contains neither an adapter"),
            (
                {"preferences": "LONG", "max_length": 999},
                "no preference pair has a prompt shorter than max_length, 999",
            ),
        ],
    )
    def test_options_that_do_not_go_together(self, options, message, bench, pairs, tmp_path):
        (tmp_path / "empty").mkdir()
        long = {"prompt": "word " * 2000, "chosen": "a", "rejected": "b"}
        (tmp_path / "long.jsonl").write_text(json.dumps(long))
        names = {"PAIRS": str(pairs), "LONG": str(tmp_path / "long.jsonl"), "EMPTY": str(tmp_path / "empty")}
        options = {name: names.get(value, value) for name, value in options.items()}
        with pytest.raises(InputError, match=message) as error:
            label(self.options(bench, tmp_path, **options))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_a_model_of_another_tokenizer(self, bench, chatml_tokenizer, tmp_path):
        shutil.copytree(bench.model, tmp_path / "other")
        chatml_tokenizer.save_pretrained(tmp_path / "other")
        with pytest.raises(InputError, match=r"other: has a different tokenizer than .*, so it can't judge its tokens"):
            label(self.options(bench, tmp_path, reward_model=str(tmp_path / "other")))

    def test_an_adapter_of_another_model(self, bench, rewarded, tmp_path):
        shutil.copytree(rewarded[0] / "tuned-0", tmp_path / "other")
        config = json.loads((tmp_path / "other" / "adapter_config.json").read_text())
        config["r"] = 8
        (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=r"other: this adapter does not fit"):
            label(self.options(bench, tmp_path, reward_model=str(tmp_path / "other")))

    def test_messages_for_a_model_without_a_chat_template(self, bench, pairs, tmp_path):
        """A template that is given for the conversations is what pairs of messages are written in, too."""
        shutil.copytree(bench.model, tmp_path / "base")
        (tmp_path / "base" / "chat_template.jinja").unlink()
        options = {"model": str(tmp_path / "base"), "preferences": str(pairs)}
        assert label(self.options(bench, tmp_path, **options, chat_template="chatml")).info.method == "reward"
