"""Every benchmark runs on a tiny model and records what its table needs; what it measures here means nothing."""

import argparse
import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaMLP
from workbench import Workbench

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = {path.stem for path in BENCHMARKS.glob("*.py")}


@pytest.fixture
def run(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a script as a user does, on the tiny model, and gives the record that it writes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("ROLEWISE_DATA", raising=False)  # the generator's questions do

    def run(script: str, *options: object) -> dict[str, Any]:
        output = tmp_path / f"{script}.json"
        argv = [script, "--model", bench.model, *options, "--output", output]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
        record: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        assert record["model"]["sha256"]
        assert record["machine"]["processor"]
        assert str(bench.model.parent) not in output.read_text(encoding="utf-8")
        return record

    yield run
    for name in MODULES & set(sys.modules):  # plain names, which another test may mean otherwise
        del sys.modules[name]


def test_the_clock_reads_both_of_its_times_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    clock = importlib.import_module("clock")
    queued = iter([0, 2_000_000_000, 2_000_000_000])  # two seconds in the queue between the first two readings
    monkeypatch.setattr(clock, "_queued_nanoseconds", lambda: next(queued))
    monkeypatch.setattr(clock.time, "perf_counter", iter([10.0, 12.0]).__next__)
    assert clock.undisturbed_seconds() == 10.0
    del sys.modules["clock"]


def is_ratio(interval: dict[str, float]) -> bool:
    return 0 < interval["low"] <= interval["median"] <= interval["high"]


def test_scoring(run) -> None:
    record = run("scoring", "--samples", 4, "--rounds", 2)
    assert set(record["ways"]) == {"ours", "bare", "backbone", "naive"}
    assert all(is_ratio(way["ours_over_it"]) for way in record["ways"].values())
    assert record["ways"]["ours"]["ours_over_it"] == {"median": 1, "low": 1, "high": 1}
    assert record["largest_difference"] < 1e-4  # all ways do the same work


@pytest.mark.parametrize(
    ("script", "rows", "sizes"),
    [
        ("rft_step", ["fused", "selected"], ["--pairs", 2, "--tokens", 64]),
        ("grpo_step", ["rest", "variance"], ["--pairs", 2, "--batch", 4, "--tokens", 24]),
    ],
)
def test_steps(run, script: str, rows: list[str], sizes: list[object]) -> None:
    record = run(script, "--rows", *rows, "--warmup", 1, *sizes)
    assert set(record["rows"]) == set(rows)
    for row in record["rows"].values():
        assert {name: len(seconds) for name, seconds in row["seconds"].items()} == dict.fromkeys(
            ("ours", "trl", "floor", "optimizer"), 2
        )
        assert all(
            is_ratio(row[name]) for name in ("ratio", "over_floor", "over_floor_and_optimizer", "trl_over_floor")
        )


def test_regions(run) -> None:
    record = run("regions", "--responses", 4, "--tokens", 64, "--pairs", 2)
    assert is_ratio(record["ratio"])


def test_generation(run) -> None:
    record = run("generation", "--prompts", 4, "--plain-every", 2, "--tokens", 4, "--rounds", 2)
    assert is_ratio(record["throughput_ratio"])
    assert record["same_ids"] == record["ways"]["plain"]["answers"] == 2


def test_search(run) -> None:
    sizes = ["--questions", 2, "--rollouts", 2, "--depth", 2, "--tokens", 4, "--rounds", 2, "--in-flight", 2]
    record = run("search", "--policies", "prompts", "tokens", *sizes)
    assert set(record["policies"]) == {"prompts", "tokens"}
    for policy in record["policies"].values():
        assert all(is_ratio(ratio) for ratio in policy["throughput_ratio"].values())
        assert set(policy["same_trees"].values()) == {2}  # ways that draw alike find the same trees


def test_profile_of_commands(run) -> None:
    sizes = ["--questions", 2, "--rollouts", 1, "--depth", 1, "--tokens", 4]
    record = run("profile_commands", "--commands", "search", *sizes)
    assert set(record["commands"]) == {"search"}
    assert 0 < record["commands"]["search"]["model_share"] < 1


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_utilisation(run, bench: Workbench, tuning: str) -> None:
    sizes = ["--batch", 2, "--tokens", 32, "--labelled", 0.25, "--rounds", 2, "--matrix", 128]
    record = run("utilisation", *sizes, "--tuning", tuning)
    [works] = record["models"].values()
    assert set(works) == {"scoring", "training"}
    for work in works.values():
        assert set(work["share_of_peak"]) == {"ours", "floor"}
        assert all(share > 0 for share in work["share_of_peak"].values())
        assert is_ratio(work["ours_over_floor"])

    # Llama by hand: 2 operations for each weight that a token passes, forward; twice that backward, on all weights.
    hidden, between, layers, vocabulary, keys = 64, 128, 2, len(bench.tokenizer()), 32
    tokens, rows, labelled, rank = 64, 2, 8, 16
    shapes = [(hidden, hidden)] * 2 + [(hidden, keys)] * 2 + [(hidden, between)] * 3
    weights = layers * sum(one * other for one, other in shapes)
    adapter = layers * sum(rank * (one + other) for one, other in shapes)
    attention = layers * rows * 4 * 32 * 32 * hidden  # scores and values, over the whole square
    head = 2 * rows * labelled * hidden * vocabulary
    forward, own = 2 * weights * tokens + attention + head, 2 * adapter * tokens
    scoring, training = (works[kind]["tera_operations"] * 1e12 for kind in ("scoring", "training"))
    # Angles of positions are a matrix product of a few hundred operations in some versions of Transformers.
    if tuning == "full":
        assert scoring == pytest.approx(2 * forward, rel=1e-4)
        assert training == pytest.approx(3 * forward, rel=1e-4)
    else:  # the adapter is on in one of scoring's two passes; frozen weights want no gradient of their own
        assert scoring == pytest.approx(2 * forward + own, rel=1e-4)
        # The first layer's inputs want none either, nor do the products that only they would need.
        unneeded = 2 * tokens * (hidden * hidden + 2 * hidden * keys) + 2 * tokens * rank * (3 * hidden)
        assert training == pytest.approx(2 * forward + attention + 3 * own - unneeded, rel=1e-4)


def test_gradient_checkpointing_is_on_when_it_is_asked_for(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: dict[bool, int] = {}
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    utilisation = importlib.import_module("utilisation")
    for is_on in (False, True):
        options = argparse.Namespace(
            model=str(bench.model), dtype="float32", batch=2, tokens=16, labelled=0.5, tuning="lora", seed=0
        )
        options.gradient_checkpointing = is_on
        case = utilisation.make_case("tiny", AutoConfig.from_pretrained(bench.model), options)
        works = utilisation.ways(case, options, str(tmp_path), "cpu")
        count = 0

        def counted(*_: object) -> None:
            nonlocal count
            count += 1

        handle = register_module_forward_pre_hook(
            lambda module, *_: counted() if isinstance(module, LlamaMLP) else None
        )
        works["training"]["ours"]()
        handle.remove()
        passes[is_on] = count
    assert passes == {False: 2, True: 4}  # each of two layers runs again for the backward pass
    for name in MODULES & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize("script", ["scoring", "rft_step", "utilisation"])
def test_a_model_that_is_not_there_is_told_in_one_line(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--model", str(tmp_path / "gone")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{script}.py: {tmp_path / 'gone'}: no tokenizer found")
