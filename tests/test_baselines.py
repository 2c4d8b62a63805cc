"""Every method of the table from conversations to a tuned model, through the jobs that the commands run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import options_of
from safetensors.torch import load_file
from test_processes import TOLERANCE, run
from tiny import full_logits_losses, reference_weights
from workbench import Workbench

from rolewise import InputError, LabelOptions, Role, SFTOptions, WeightedSFTConfig, fine_tune, label, load_labelled
from rolewise.cli.main import main
from rolewise.jobs.label_methods import make_labeller
from rolewise.jobs.methods import METHODS
from rolewise.labelling.registry import LABELLERS
from rolewise.training.models import load_model

LABELLED = {name: method for name, method in METHODS.items() if method.label is not None}
SMALL = {"min_pairs": 6, "min_references": 6, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preferences") / "pairs.jsonl"
    rows = [{"prompt": f"{i} + 1 =", "chosen": f" {i + 1}", "rejected": f" {i}"} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def labelled(bench: Workbench, preferences: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A labelled data set by the method of its labels."""
    root = tmp_path_factory.mktemp("baselines")
    paths: dict[str, Path] = {}
    for method in LABELLED.values():
        options: dict[str, Any] = {"max_length": 512, "limit": 12, **(method.label or {})}
        options |= {name: SMALL[name] for name in SMALL if name in LABELLERS.parameters(options["method"])}
        if options["method"] == "reward":
            options["preferences"] = str(preferences)
        if options["method"] not in paths:
            places = {"model": str(bench.model), "data": str(bench.data), "output": str(root / options["method"])}
            paths[options["method"]] = label(options_of(LabelOptions, **places, **options)).path
    return paths


def training(**options: Any) -> WeightedSFTConfig:
    defaults = {"max_steps": 1, "per_device_train_batch_size": 12, "logging_steps": 1, "learning_rate": 1e-3}
    quiet = {"output_dir": "", "report_to": "none", "use_cpu": True, "gradient_checkpointing": False}
    return WeightedSFTConfig(**{**defaults, **quiet, **options})


def batch_of(path: Path) -> dict[str, torch.Tensor]:
    rows = load_labelled(path).rows.with_format("numpy")[:]
    longest = max(map(len, rows["input_ids"]))

    def padded(name: str, value: float) -> torch.Tensor:
        cells = [np.pad(row.astype(np.float64), (0, longest - len(row)), constant_values=value) for row in rows[name]]
        return torch.from_numpy(np.stack(cells))

    return {
        "input_ids": padded("input_ids", 0).long(),
        "labels": padded("labels", -100).long(),
        "token_roles": padded("token_roles", int(Role.CONTEXT)).long(),
        "token_scores": padded("base_loss", np.nan) - padded("tuned_loss", np.nan),
    }


@pytest.mark.parametrize("name", list(LABELLED))
def test_a_labelled_methods_first_loss_is_the_equations(name, bench, labelled, tmp_path):
    method = METHODS[name]
    path = labelled[method.label["method"]]
    places = {"model": str(bench.model), "data": str(path), "output": str(tmp_path / "tuned")}
    result = fine_tune(SFTOptions(**places, generations=0), training(max_length=None, **method.sft))
    batch = batch_of(path)
    loss_BT, mask_BT, _ = full_logits_losses(load_model(str(bench.model)), batch)
    loss_BT = loss_BT.detach()
    arrays = loss_BT.numpy(), batch["token_roles"].numpy(), mask_BT.numpy()
    settings = {option: value for option, value in method.sft.items() if option != "weighting"}
    scores = batch["token_scores"].numpy()
    weights_BT = reference_weights(method.sft["weighting"], *arrays, scores_BT=scores, **settings)
    assert result.log[0]["loss"] == pytest.approx(float((weights_BT * loss_BT.numpy()).sum()), abs=1e-4)
    assert (result.path / "adapter_model.safetensors").exists()


def test_methods_with_and_without_labels_differ(bench, labelled, tmp_path):
    first = {}
    for name, method in METHODS.items():
        if method.sample is None:
            data = labelled[method.label["method"]] if method.label else bench.data
            places = {"model": str(bench.model), "data": str(data), "output": str(tmp_path / name)}
            # The same conversations, tokens and order for all: only the weights differ.
            rows = {"max_length": None if method.label else 512}
            options = SFTOptions(**places, generations=0)
            config = training(max_steps=1, per_device_train_batch_size=24, **method.sft, **rows)
            first[name] = fine_tune(options, config).log[0]["loss"]
    assert len({round(loss, 4) for loss in first.values()}) == len(first) == 10, first


def test_rho_keeps_the_share_that_was_asked_for(labelled):
    info = load_labelled(labelled["rho"]).info
    assert info.threshold is None
    judged = info.counts["reasoning"] + info.counts["boilerplate"]
    assert judged == info.counts["loss_tokens"]
    assert info.counts["reasoning"] / judged == pytest.approx(0.6, abs=0.002)
    assert info.settings["samples"] == [6, 6]


@pytest.fixture(scope="module")
def sft_command(bench: Workbench, labelled: dict[str, Path]) -> dict[str, list[str]]:
    """`rolewise sft` for two steps of half the samples each, by the method of the labels."""
    commands = {}
    for method in ("regex", "reward"):
        arguments = ["sft", "--model", bench.model, "--data", labelled[method], "--output", "tuned", "--optim", "sgd"]
        arguments += ["--max-steps", 2, "--logging-steps", 1, "--learning-rate", 1, "--generations", 0]
        commands[method] = [str(a) for a in [*arguments, "--weighting", method]]
    return commands


@pytest.mark.slow
@pytest.mark.parametrize("method", ["regex", "reward"])
def test_two_processes_train_as_one(method, sft_command, tmp_path):
    """Tokens that count unequally, and scores that travel with them."""
    logs, weights = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run(processes, [*sft_command[method], "--per-device-train-batch-size", str(6 // processes)], folder)
        logs.append([json.loads(line) for line in (folder / "tuned" / "log.jsonl").read_text().splitlines()])
        weights.append(load_file(folder / "tuned" / "adapter_model.safetensors"))
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=TOLERANCE, rtol=TOLERANCE)
    assert max(tensor.abs().max() for name, tensor in weights[0].items() if "lora_B" in name) > 100 * TOLERANCE
    for one, two in zip(*logs, strict=True):
        for name in ("loss", "loss_reasoning", "weight_reasoning"):
            assert two[name] == pytest.approx(one[name], abs=TOLERANCE), name


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def line(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return line


class TestRefused:
    @pytest.mark.parametrize("method", ["shad", "rho", "regex"])
    def test_labels_without_rewards(self, method, bench, labelled, tmp_path, refused):
        path = labelled[method]
        line = refused(
            *["sft", "--model", bench.model, "--data", path, "--weighting", "reward", "--output", tmp_path / "o"]
        )
        expected = f"{path}: labelled by {method}, which provides no token rewards for weighting reward"
        assert line == f"rolewise sft: {expected}; label with --method reward"

    def test_conversations_where_rewards_are_needed(self, bench, tmp_path, refused):
        line = refused(*["sft", "--model", bench.model, "--data", bench.data, "--weighting", "reward"], "--output", "o")
        assert "weighting reward needs a labelled data set" in line

    def test_a_format_weight_below_0(self, bench, labelled, refused):
        arguments = ["--model", bench.model, "--data", labelled["regex"], "--output", "o", "--weighting", "regex"]
        assert "format_weight is -1.0; it must be a finite number" in refused(
            "sft", *arguments, "--format-weight", "-1"
        )

    def test_a_threshold_for_what_has_none(self, labelled, tmp_path, refused):
        line = refused("relabel", "--data", labelled["rho"], "--output", tmp_path / "o", "--threshold", 0.1)
        assert "labelled by rho, which has no threshold to move" in line


def test_options_are_those_of_the_commands():
    for method in METHODS.values():
        assert set(method.sft) <= set(WeightedSFTConfig.__dataclass_fields__)
        assert set(method.label or {}) <= set(LabelOptions.__dataclass_fields__)
    with pytest.raises(InputError):  # preferences are the user's to name
        make_labeller(LabelOptions(model="m", data="d", output="o", **METHODS["reward"].label))
