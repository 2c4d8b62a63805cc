"""The small experiment that is run anew: what it takes for reproduced, and, slowly, that it is."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import reproduce

from rolewise.core.errors import InputError
from rolewise.jobs import demo_model

KEYS = [f"{reproduce.SETTING}, 64 samples, seed {seed}" for seed in reproduce.SEEDS]


def run(monkeypatch: pytest.MonkeyPatch, model: str, rows: dict[str, Any] | None = None) -> int:
    """The script's exit code; with `rows` as what a run gave, without it after a run."""
    if rows is not None:
        monkeypatch.setattr(reproduce, "run_anew", lambda *_: rows)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--model", model])
    with pytest.raises(SystemExit) as ended:
        reproduce.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def rows() -> dict[str, Any]:
    """The committed rows that are run anew."""
    committed = json.loads(reproduce.COMMITTED.read_text(encoding="utf-8"))
    return copy.deepcopy({key: committed[key] for key in KEYS})


def test_the_committed_numbers_reproduce_themselves(
    rows: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "any", rows) == 0
    said = capsys.readouterr().out
    assert "OUT" not in said
    assert said.count("ok ") == 2 * (len(reproduce.EXACT) + 5)


@pytest.mark.parametrize(
    ("path", "by", "name"),
    [
        (("auroc", "LD", "estimate"), 0.05, "AUROC of LD"),
        (("auroc_where_reasoning_begins", "estimate"), -0.05, "auroc_where_reasoning_begins"),
        (("format_error", "estimate"), 0.1, "format_error"),
        (("tokens_tuned",), 1, "tokens_tuned"),
    ],
)
def test_a_number_outside_its_interval_is_named(
    path: tuple[str, ...],
    by: float,
    name: str,
    rows: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    place = rows[KEYS[1]]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] += by
    assert run(monkeypatch, "any", rows) == 1
    said = capsys.readouterr().out
    [out] = [line for line in said.splitlines() if line.startswith("OUT")]
    assert f"seed 1: {name} " in out
    assert "1 of 20 numbers are not as committed" in said


@pytest.mark.slow
def test_the_experiment_reproduces_its_committed_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        model = demo_model._convert_package_file(tmp_path / "model")
    except InputError as error:
        pytest.skip(str(error))
    assert run(monkeypatch, str(model)) == 0
