"""Weightings of the user's own that fail: one line that names them, in fine-tuning and in reinforcement learning."""

from pathlib import Path

import pytest
import torch
from workbench import Workbench

from rolewise.cli.main import main
from rolewise.core.errors import InputError, RolewiseError
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.training.rollout_weights import RolloutTokens, as_rollout_weighting
from rolewise.weighting import RFT

PLUGIN = """
import math

import torch

from rolewise.weighting import SampleMean, register_weighting


class Late(SampleMean):
    def __init__(self, value):
        self.value = value
        self.calls = 0

    def weigh(self, batch):
        self.calls += 1
        weights_BT = super().weigh(batch)
        weights_BT[0, -3:] *= self.value if self.calls == 3 else 1.0
        return weights_BT


class Falls(SampleMean):
    def weigh(self, batch):
        return {}["no such key"]


class Unshaped(SampleMean):
    def weigh(self, batch):
        return torch.zeros(3, 2, 1)


register_weighting("late-nan", lambda: Late(math.nan))
register_weighting("late-inf", lambda: Late(math.inf))
register_weighting("late-one", lambda: Late(1.0))
register_weighting("falls", Falls)
register_weighting("unshaped", Unshaped)
"""
CASES = {
    "late-nan": "weighting Late (mine.py): a weight is nan or infinite in {third}; fix it, it would ruin the model",
    "late-inf": "weighting Late (mine.py): a weight is nan or infinite in {third}; fix it, it would ruin the model",
    "falls": "weighting Falls (mine.py) failed: KeyError: 'no such key' (mine.py:23); fix it",
    "unshaped": "weighting Unshaped (mine.py) failed: ValueError: weights of shape (3, 2, ",
}


@pytest.fixture
def plugin(tmp_path: Path, registries: None) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


def said_in_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("rolewise ")]
    return line


def test_fine_tuning_stops_at_the_first_step_with_such_weights(
    bench: Workbench, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sft", "--model", bench.model, "--data", bench.data, "--plugin", plugin, "--max-length", 256]
    arguments += ["--max-steps", 4, "--per-device-train-batch-size", 1, "--generations", 0, "--use-cpu", "true"]
    for name, message in CASES.items():
        output = tmp_path / name
        assert main([str(a) for a in [*arguments, "--weighting", name, "--output", output]]) == 2
        assert message.format(third="step 3") in said_in_one_line(capsys)
        assert not output.exists()
    output = tmp_path / "well"
    assert main([str(a) for a in [*arguments, "--weighting", "late-one", "--output", output]]) == 0


def test_reinforcement_learning_stops_at_the_first_rollout_with_such_weights(
    bench: Workbench, plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_conversations(generate(4, seed=1, formats=("rlla",)), tmp_path / "data.jsonl")
    arguments = ["grpo", "--model", bench.model, "--data", tmp_path / "data.jsonl", "--plugin", plugin]
    arguments += ["--max-steps", 4, "--num-generations", 2, "--per-device-train-batch-size", 2, "--generations", 0]
    arguments += ["--max-completion-length", 6, "--use-cpu", "true"]
    for name, message in CASES.items():
        assert main([str(a) for a in [*arguments, "--weighting", name, "--output", tmp_path / name]]) == 2
        assert message.format(third="rollout 3") in said_in_one_line(capsys)


def test_what_fails_in_ours_is_shown_whole() -> None:
    roles_BT, mask_BT = torch.zeros(1, 3, dtype=torch.uint8), torch.ones(1, 3, dtype=torch.bool)

    def nothing_to_score() -> tuple[torch.Tensor, torch.Tensor]:
        raise ValueError("no scores")

    tokens = RolloutTokens(roles_BT, mask_BT, step=0, total_steps=1, score=nothing_to_score, accelerator=None)
    with pytest.raises(ValueError, match="no scores"):
        as_rollout_weighting(RFT())(tokens)

    def of_the_users(tokens: RolloutTokens) -> torch.Tensor:
        return tokens.mask_BT / 0

    with pytest.raises(
        InputError, match=r"of_the_users \(test_users_weighting.py\): a weight is nan or infinite in roll"
    ):
        as_rollout_weighting(of_the_users)(tokens)
    with pytest.raises(RolewiseError, match=r"failed: TypeError"):
        as_rollout_weighting(lambda: None)(tokens)
