"""The card of a trained model: what it says of the run, what it leaves to its owner, and what it must not tell."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from workbench import Workbench

from rolewise import SFTOptions, WeightedSFTConfig, fine_tune
from rolewise.core.transformers_insides import checkpointing
from rolewise.jobs.card_contents import FINE_TUNING, REINFORCEMENT, ROLLOUTS, write_model_cards
from rolewise.options.training import GRPOOptions, ReinforceOptions
from rolewise.reporting.content import Table
from rolewise.training.grpo import WeightedGRPOConfig
from rolewise.weighting import WEIGHTINGS, TokenMean, register_weighting


def training(**more: object) -> WeightedGRPOConfig:
    settings = {"use_cpu": True, "bf16": False, "report_to": "none", **checkpointing(True)}
    return WeightedGRPOConfig(output_dir="unused", **settings, **more)


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"prompt": ["?"] * count})


def card_of(directory: Path) -> tuple[dict, str]:
    """Front matter and body."""
    text = (directory / "README.md").read_text(encoding="utf-8")
    assert ModelCard(text).data.to_dict()  # as the hub reads it
    _, front_matter, body = text.split("---\n", 2)
    return yaml.safe_load(front_matter), body


@pytest.fixture(scope="module")
def tuned(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter and its merged model, with functional tokens."""
    output = tmp_path_factory.mktemp("card") / "my-model"
    options = SFTOptions(
        model=str(bench.model),
        data=str(bench.data),
        output=str(output),
        behaviours="rftt",
        merge=True,
        eval_share=0.25,
        generations=0,
    )
    config = WeightedSFTConfig(
        output_dir="unused",
        weighting="none",
        max_steps=1,
        learning_rate=0.003,
        eval_strategy="epoch",
        use_cpu=True,
        bf16=False,
        report_to="none",
        seed=7,
    )
    return fine_tune(options, config).path


def test_a_run_leaves_a_card_that_says_what_it_was(tuned: Path, bench: Workbench) -> None:
    front_matter, body = card_of(tuned)
    assert front_matter["library_name"] == "peft"
    assert "base_model" not in front_matter  # nobody else has that directory
    assert "license" not in front_matter
    assert "# license: yours to name" in (tuned / "README.md").read_text(encoding="utf-8")
    assert "# my-model" in body
    assert "the plain loss" in body
    pairs = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    facts = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    assert facts["base model"] == bench.model.name
    assert facts["data"] == bench.data.name
    assert int(facts["examples"]) > int(facts["held out"].partition(",")[0]) > 0
    assert (facts["max steps"], facts["learning rate"], facts["seed"]) == ("1", "0.003", "7")
    assert facts["trained weights"] == "LoRA adapter of rank 16"
    assert "## Training loss by role" in body
    assert "make_room" in body


def test_the_merged_model_has_its_own(tuned: Path) -> None:
    front_matter, body = card_of(tuned / "merged")
    assert front_matter["library_name"] == "transformers"
    assert 'AutoModelForCausalLM.from_pretrained("my-model")' in body
    assert "make_room" not in body


def test_folders_of_this_machine_stay_here(tuned: Path, bench: Workbench) -> None:
    for card in (tuned / "README.md", tuned / "merged" / "README.md"):
        text = card.read_text(encoding="utf-8")
        assert str(tuned.parent) not in text
        assert str(bench.model.parent) not in text
        assert "More Information Needed" not in text  # of PEFT's form


def test_a_base_from_the_hub_is_linked_and_shares_are_told(tmp_path: Path) -> None:
    options = GRPOOptions(model="owner/model", data="a/tools=0.7,b/agents=0.3", output=str(tmp_path / "x"), lora=False)
    table = Table("Reward", ["part", "first", "last"], [["a|b", 0.123456, "<b>"]])
    data = SimpleNamespace(train=rows(1200), eval=None)
    write_model_cards(tmp_path, "grpo", options, training(num_train_epochs=2), data, [None, table])
    front_matter, body = card_of(tmp_path)
    assert front_matter["base_model"] == "owner/model"
    assert front_matter["tags"] == ["rolewise", "trl", "grpo"]
    assert "ResT ([arXiv 2509.21826]" in body
    for line in (
        "| data | a/tools (0.7), b/agents (0.3) |",
        "| examples | 1,200 |",
        "| num train epochs | 2 |",
        "| weighting | rest |",
    ):
        assert line in body
    assert "| a\\|b | 0.1235 | \\<b> |" in body
    assert "| max steps" not in body


@pytest.mark.usefixtures("registries")
def test_every_method_is_named(tmp_path: Path) -> None:
    register_weighting("mine", TokenMean)
    assert set(FINE_TUNING) <= set(WEIGHTINGS), "others are named by the first line of their docstring"
    assert set(ROLLOUTS) == set(get_args(get_type_hints(ReinforceOptions)["rollouts_from"]))
    data = SimpleNamespace(train=rows(1), eval=None)
    for weighting in (*REINFORCEMENT, "mine"):
        options = GRPOOptions(model="o/m", data="d/d", output=str(tmp_path / "x"))
        settings = training()
        settings.weighting = weighting
        write_model_cards(tmp_path, "grpo", options, settings, data, [])
        assert REINFORCEMENT.get(weighting, "a custom weighting, mine") in card_of(tmp_path)[1]
    for source, words in ROLLOUTS.items():
        options = ReinforceOptions(model="o/m", data="d/d", output=str(tmp_path / "x"), rollouts_from=source)
        write_model_cards(tmp_path, "reinforce", options, training(), data, [])
        assert words in card_of(tmp_path)[1]
