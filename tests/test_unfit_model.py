"""`rolewise label` says so when the model is worse than guessing, and is silent about one that is not."""

import math
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM
from workbench import Workbench, small_label_arguments

from rolewise.cli.main import main
from rolewise.data.labelled import TokenLabels, load_labelled
from rolewise.labelling.checks import unfit_model


def labels(*losses: float) -> TokenLabels:
    values = np.array(losses, dtype=np.float32)
    return TokenLabels(np.zeros(len(losses), dtype=np.uint8), values, values)


@pytest.mark.parametrize(("mean", "warned"), [(math.log(50) - 0.01, False), (math.log(50) + 0.01, True)])
def test_the_mean_over_measured_tokens_is_held_against_guessing(mean: float, warned: bool):
    samples = [labels(mean - 0.5, math.nan, mean + 0.5), labels(), labels(mean)]
    assert bool(unfit_model(samples, 50)) is warned


def test_nothing_measured_is_no_fault_of_the_model():
    assert unfit_model([labels(math.nan)], 50) == []


def test_a_broken_model_is_told_in_the_terminal_and_on_the_page(
    bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "broken"
    model = LlamaForCausalLM.from_pretrained(bench.model)
    model.get_output_embeddings().weight.data.mul_(100)
    model.save_pretrained(broken)
    bench.tokenizer().save_pretrained(broken)
    given = [str(broken) if argument == str(bench.model) else argument for argument in _arguments(bench, tmp_path)]
    assert main(given) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert "nats per token, while guessing among" in line
    labelled = load_labelled(tmp_path / "labelled")
    assert line.removeprefix("warning: ") in labelled.info.notes
    assert "nats per token, while guessing among" in (labelled.path / "report.html").read_text(encoding="utf-8")


def _arguments(bench: Workbench, folder: Path) -> list[str]:
    return [str(argument) for argument in small_label_arguments(bench, folder / "labelled")]
