"""The plugin of experiments/token_weights.py: weights per token from SHAD's losses, by hand and as a command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from workbench import Workbench, small_label_arguments

from rolewise.cli.main import main
from rolewise.core.plugins import load_plugins
from rolewise.weighting import SampleMean, Weighting, make_weighting

PLUGIN = Path(__file__).parent.parent / "experiments" / "difference_weights.py"
NAN = float("nan")
MASK_BT = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
# LD = −score; the last loss token of the first row was not measured.
SCORES_BT = torch.tensor([[NAN, -0.6, 0.0, 3.0, NAN], [9.0, NAN, NAN, 0.3, 400.0]])


@pytest.fixture(params=["difference-sigmoid", "difference-softmax"])
def weighting(request: pytest.FixtureRequest) -> Weighting:
    load_plugins([str(PLUGIN)])
    return make_weighting(request.param)


def weights(weighting: Weighting, scores_BT: torch.Tensor, mask_BT: torch.Tensor, **options: object) -> torch.Tensor:
    loss_BT = torch.rand(mask_BT.shape)
    return weighting.weights(loss_BT, mask_BT.long(), mask_BT, scores_BT=scores_BT, **options)


def reference(name: str, scores: list[float]) -> list[float]:
    """One sample's weights, token by token; they sum to 1."""
    known = [-score for score in scores if not np.isnan(score)]
    rule = (lambda d: 1 / (1 + np.exp(-d / 0.3))) if "sigmoid" in name else (lambda d: np.exp(d / 2))
    raw = {d: rule(d) for d in known}
    total = sum(raw[d] for d in known)
    return [(1 if np.isnan(s) else len(known) * raw[-s] / total) / len(scores) for s in scores]


def test_each_sample_s_weights_are_those_by_hand(weighting: Weighting, request: pytest.FixtureRequest) -> None:
    found_BT = weights(weighting, SCORES_BT, MASK_BT)
    for found_T, scores_T, mask_T in zip(found_BT, SCORES_BT, MASK_BT, strict=True):
        expected = reference(request.node.name, scores_T[mask_T].tolist())
        assert (found_T[mask_T] * 2).tolist() == pytest.approx(expected, abs=1e-6)
        assert not found_T[~mask_T].any()


def test_packed_into_one_row_they_are_the_same(weighting: Weighting) -> None:
    segments_BT = torch.arange(2).repeat_interleave(5)[None]
    packed = weights(weighting, SCORES_BT.view(1, -1), MASK_BT.view(1, -1), segments_BT=segments_BT)
    assert torch.allclose(packed.view(2, -1), weights(weighting, SCORES_BT, MASK_BT))


def test_without_losses_every_token_counts_as_in_the_plain_mean(weighting: Weighting) -> None:
    plain = SampleMean().weights(torch.rand(MASK_BT.shape), MASK_BT.long(), MASK_BT)
    assert torch.allclose(weights(weighting, torch.full(MASK_BT.shape, NAN), MASK_BT), plain)


def test_a_plugin_s_weighting_reads_shad_s_losses_but_needs_some(
    bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tune(labelled: Path, output: Path) -> int:
        words = ["sft", "--model", bench.model, "--data", labelled, "--output", output, "--max-steps", 1]
        words += ["--plugin", PLUGIN, "--weighting", "difference-sigmoid", "--generations", 0, "--rank", 2]
        return main([str(word) for word in words])

    assert main(small_label_arguments(bench, tmp_path / "shad")) == 0
    assert tune(tmp_path / "shad", tmp_path / "tuned") == 0
    lines = (tmp_path / "tuned" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["weight_reasoning"] > first["share_reasoning"] > 0

    assert main(small_label_arguments(bench, tmp_path / "regex", "--method", "regex")) == 0
    capsys.readouterr()
    assert tune(tmp_path / "regex", tmp_path / "refused") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("weighting difference-sigmoid reads them; label with --method shad, rho or reward")
    assert not (tmp_path / "refused").exists()
