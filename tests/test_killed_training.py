"""Trainings killed at chosen points: the same command goes on, takes as many steps, and ends with the same bytes.

Only seconds, and what is counted by the second, differ.
"""

import json
from pathlib import Path

import pytest
from killed_run import run_killed
from workbench import Workbench, files_of, small_label_arguments

from rolewise.cli.main import main

POINTS = [
    *("saving 2", "half 4", "saved 2", "saved 4", "evaluating 4", "saving 8", "saved 8"),
    *("evaluating 8", "result", "publishing", "published"),
]


@pytest.fixture(scope="module")
def sft_arguments(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Eight steps at a constant rate, measured at the end of epochs of which one ends with a checkpoint."""
    labelled = tmp_path_factory.mktemp("labelled") / "labelled"
    assert main(small_label_arguments(bench, labelled)) == 0
    given = ["sft", "--model", bench.model, "--data", labelled, "--output", "tuned", "--max-steps", 8]
    given += ["--save-steps", 2, "--lr-scheduler-type", "constant", "--learning-rate", "0.01", "--eval-share", 0.2]
    given += ["--per-device-train-batch-size", 5, "--logging-steps", 3, "--generations", 1, "--generation-tokens", 4]
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def undisturbed(sft_arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_killed(sft_arguments, "", folder) == 0
    return folder / "tuned"


def results_of(directory: Path) -> dict[str, bytes]:
    files = {name: content for name, content in files_of(directory).items() if name != "run.json"}
    lines = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    kept = [{k: v for k, v in line.items() if not k.endswith(("runtime", "_per_second"))} for line in lines]
    return files | {"log.jsonl": json.dumps(kept, sort_keys=True).encode()}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_a_fine_tuning_ends_with_the_same_bytes(sft_arguments, undisturbed, tmp_path, point):
    folder = tmp_path / "run"
    folder.mkdir()
    assert run_killed(sft_arguments, point, folder) == -9
    assert run_killed(sft_arguments, "", folder) == 0
    assert [path.name for path in folder.iterdir()] == ["tuned"]
    expected, found = results_of(undisturbed), results_of(folder / "tuned")
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
