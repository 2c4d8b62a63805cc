"""SHAD's roles of sampled responses: against each response read alone, and through the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from workbench import Workbench

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.labelling import sampled_roles
from rolewise.labelling.sampled_roles import shad_rollout_roles
from rolewise.training.grpo import WeightedGRPOConfig, WeightedGRPOTrainer
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.region_schemes.rest import role_curriculum


@pytest.fixture(scope="module")
def tuned(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SHAD adapter of the workbench's model, kept by the command that labels."""
    output = tmp_path_factory.mktemp("labelled") / "labelled"
    arguments = [
        "label",
        "--method",
        "shad",
        "--model",
        bench.model,
        "--data",
        bench.data,
        "--output",
        output,
        "--keep-tuned",
    ]
    assert main([str(argument) for argument in [*arguments, "--limit", 12, "--min-pairs", 8]]) == 0
    assert (output / "tuned-1" / "adapter_config.json").is_file()
    return output / "tuned-0"


def losses_alone(model, before, response):
    """Losses of one response's tokens from the full logits, float32 [T]; NaN where nothing predicts the token."""
    ids = torch.tensor([[*before, *response]])
    with torch.no_grad():
        losses = -model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return torch.cat([torch.tensor([torch.nan]), losses])[len(before) :].numpy()


@pytest.mark.parametrize("threshold", [0.0, -0.05])
def test_roles_are_those_of_each_response_read_alone(
    threshold: float, bench: Workbench, tuned: Path, monkeypatch
) -> None:
    monkeypatch.setattr(sampled_roles, "BATCH_TOKENS", 60)  # several batches, of several rows
    rng = np.random.default_rng(0)
    before = [rng.integers(3, 600, size).tolist() for size in (0, 7, 25, 3, 90, 1)]
    responses = [rng.integers(3, 600, size).tolist() for size in (4, 20, 1, 13, 30, 0)]
    roles = shad_rollout_roles(str(bench.model), tuned, threshold=threshold)
    found = roles.label(before, responses)
    base = AutoModelForCausalLM.from_pretrained(bench.model).eval()
    model = PeftModel.from_pretrained(base, tuned).eval()
    seen = set()
    for start, ids, of_response in zip(before, responses, found, strict=True):
        higher = losses_alone(model, start, ids)
        with model.disable_adapter():
            higher = higher - losses_alone(model, start, ids)
        expected = [
            Role.PLAIN if np.isnan(d) else Role.REASONING if d > threshold else Role.BOILERPLATE for d in higher
        ]
        close = np.abs(higher - threshold) < 1e-5
        assert of_response.dtype == np.uint8
        assert len(of_response) == len(ids)
        assert [Role(r) for r, c in zip(of_response, close, strict=True) if not c] == [
            r for r, c in zip(expected, close, strict=True) if not c
        ]
        seen |= set(of_response.tolist())
    assert seen == {Role.PLAIN, Role.REASONING, Role.BOILERPLATE}
    assert roles.outside == Role.CONTEXT


def test_the_curriculum_over_roles_ends_with_the_run() -> None:
    weighting = role_curriculum(
        end_points={Role.REASONING: (0.2, 2.0), Role.BOILERPLATE: (1.5, 0.5)}, ramp=Ramp(0, 1), total_steps=11
    )
    weights = weighting.code_weights(5, 11)
    assert (weights[Role.REASONING], weights[Role.FORMAT], weights[Role.TEMPLATE]) == pytest.approx((1.1, 1.0, 1.0))
    assert role_curriculum().code_weights(0, 11)[Role.REASONING] == pytest.approx(0.6)
    assert set(role_curriculum().code_weights(10, 11).values()) == {1.0}


@pytest.mark.parametrize(("weighting", "share"), [("alpha", 0.1), ("rest", None)])
def test_grpo_weighs_by_shads_roles(
    weighting: str, share: float | None, bench: Workbench, tuned: Path, tmp_path: Path
) -> None:
    arguments = ["grpo", "--model", bench.model, "--data", bench.data, "--output", tmp_path / "run", "--limit", 4]
    arguments += ["--roles", "shad", "--shad-model", tuned, "--weighting", weighting]
    arguments += ["--alpha", 0.1] if weighting == "alpha" else []
    arguments += ["--max-steps", 2, "--num-generations", 2, "--per-device-train-batch-size", 2, "--generations", 0]
    arguments += ["--max-completion-length", 32, "--use-cpu", "true", "--gradient-checkpointing", "false"]
    assert main([str(argument) for argument in arguments]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for entry in log:
        assert entry["share/reasoning"] + entry["share/boilerplate"] == pytest.approx(1)
        assert entry["weight/reasoning"] != pytest.approx(entry["weight/boilerplate"], abs=1e-3) or entry is log[-1]
        if share is not None:
            assert entry["weight/boilerplate"] * entry["share/boilerplate"] == pytest.approx(share, abs=1e-3)
    if weighting == "rest":
        assert log[0]["weight/reasoning"] / log[0]["weight/boilerplate"] == pytest.approx(0.6, abs=0.02)
        assert log[1]["weight/reasoning"] == pytest.approx(1, abs=1e-5)
    assert "reasoning" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_what_does_not_go_with_shads_roles_is_one_line(bench: Workbench, tuned: Path, tmp_path: Path, capsys) -> None:
    common = ["grpo", "--model", str(bench.model), "--data", str(bench.data), "--output", str(tmp_path / "run")]
    shad = ["--roles", "shad", "--shad-model", str(tuned)]
    cases = {
        ("--roles", "shad"): "give both, or neither",
        ("--shad-model", str(tuned)): "give both, or neither",
        ("--roles", "spans"): "roles 'spans' is not known; choose one of regions, shad, contrast",
        ("--weighting", "rft"): "'rft' does not go with roles regions: choose one of none, rest, rest-entropy",
        (*shad, "--weighting", "rest-official"): "choose one of none, rest, rft, alpha, or other roles",
        (*shad, "--region-weights", "think=1"): "'think' is not a role; choose from context, plain, reasoning",
        (*shad, "--threshold", "inf"): "threshold is inf",
        (
            "--roles",
            "contrast",
            "--weighting",
            "rft",
            "--threshold",
            "-3",
        ): "threshold is -3.0; it must be a finite number",
        ("--threshold", "0.5"): "threshold needs roles shad or contrast",
        ("--roles", "shad", "--shad-model", str(tmp_path / "none")): "no model found",
    }
    for more, message in cases.items():
        assert main([*common, *more]) == 2, more
        assert message in capsys.readouterr().err
    assert main(["label", *common[1:], "--method", "regex", "--keep-tuned"]) == 2
    assert "keep_tuned saves the models that shad tunes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_trainer_asks_for_the_roles_that_its_settings_name(tmp_path: Path) -> None:
    args = WeightedGRPOConfig(output_dir=str(tmp_path), roles="shad", weighting="rft", use_cpu=True, report_to="none")
    with pytest.raises(InputError, match="pass roles=shad_rollout_roles"):
        WeightedGRPOTrainer("no model", args=args)
    with pytest.raises(InputError, match="no such folder"):
        shad_rollout_roles("no model", tmp_path / "none")
