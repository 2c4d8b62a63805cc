"""Weighted GRPO by two processes over gloo: the same step as by one, its weights averaged over both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from workbench import environment

SCRIPT = Path(__file__).with_name("grpo_rollouts.py")


@pytest.fixture(scope="module")
def trained(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with model and log, by the number of processes."""
    folders = {processes: tmp_path_factory.mktemp(f"grpo-by-{processes}") for processes in (1, 2)}
    for processes, folder in folders.items():
        chatml_tokenizer.save_pretrained(folder / "tokenizer")
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        result = subprocess.run(
            [sys.executable, *start, str(SCRIPT), str(8 // processes), str(folder)],
            env={**environment(), "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    return folders


def test_two_processes_take_the_steps_of_one(trained: dict[int, Path]) -> None:
    one, two = (torch.load(trained[processes] / "model.pt") for processes in (1, 2))
    for name, parameter in one.items():
        torch.testing.assert_close(two[name], parameter, atol=1e-5, rtol=1e-5)


def test_two_processes_log_the_numbers_of_one(trained: dict[int, Path]) -> None:
    one, two = (json.loads((trained[processes] / "log.json").read_text()) for processes in (1, 2))
    assert [entry["step"] for entry in one] == [1, 2, 2]
    names = [name for name in one[0] if name.startswith(("share/", "weight/", "entropy/", "policy_gradient/"))]
    assert len(names) == 3 * 3 + 2
    for entry, expected in zip(two[:2], one[:2], strict=True):
        for name in [*names, "reward", "loss", "grad_norm"]:
            assert entry[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
