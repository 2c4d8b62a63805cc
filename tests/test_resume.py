"""Killed at any moment, the same command resumes and ends as if nothing had happened."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import pytest
import torch
from safetensors.torch import load_file
from workbench import Workbench, command_line, environment, files_of, lasting_files_of

from rolewise.cli.main import main
from rolewise.data.readers import write_conversations
from rolewise.generator import generate

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]


def start_in_a_terminal(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command_line(*arguments),
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore interrupts, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def any_finished_file(work: Path) -> bool:
    """Whether something worth keeping is there: a file just opened, or not yet in its place, is not."""
    written = (Path(folder) / name for folder, _, names in os.walk(work) for name in names if not name.endswith(".tmp"))
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size for path in written)
    return False


def run(arguments: list[str], folder: Path) -> None:
    code = forked.end_of(forked.start(main, arguments, folder=folder))
    assert code == 0, forked.log_of(folder).read_text()


def wait_for_work(process: BaseProcess, partial: Path) -> None:
    """Until the command has begun to write, or is done."""
    while process.exitcode is None and not (partial / "job.json").exists():
        time.sleep(0.01)


def kill_at_random_moments(arguments: list[str], folder: Path, output: str, work_seconds: float, seed: int) -> int:
    """Start the command and kill it in the midst of its work, three times; how often it was hit there.

    A command that ended before its first kill, on a machine that is less busy than when its work was timed, begins
    anew and is given half the time.
    """
    chance = random.Random(seed)
    hits = 0
    for _ in range(9):
        process = forked.start(main, arguments, folder=folder)
        wait_for_work(process, folder / f"{output}.partial")
        time.sleep(chance.uniform(0, work_seconds))
        process.kill()
        hits += forked.end_of(process) == -signal.SIGKILL
        if hits == 3 or (hits and (folder / output).exists()):
            break
        if not hits:
            shutil.rmtree(folder / output)
            work_seconds /= 2
    return hits


def work_seconds_of(directory: Path) -> float:
    return sum(json.loads((directory / "run.json").read_text())["seconds"].values())


@pytest.fixture(scope="module")
def label_arguments(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`rolewise label` with enough to do for several checkpoints and shards."""
    data = tmp_path_factory.mktemp("many") / "conversations.jsonl"
    write_conversations(generate(160, seed=3), data)
    arguments = [
        "label",
        "--method",
        "shad",
        "--model",
        bench.model,
        "--data",
        data,
        "--output",
        "labelled",
        "--max-length",
        1024,
    ]
    return [str(a) for a in [*arguments, "--min-pairs", 110, "--epochs", 3, "--batch-tokens", 512]]


@pytest.fixture(scope="module")
def undisturbed(label_arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(label_arguments, folder)
    return folder / "labelled"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_labelling_ends_byte_for_byte_as_an_undisturbed_one(label_arguments, undisturbed, tmp_path, seed):
    folder = tmp_path / "run"
    folder.mkdir()
    hits = kill_at_random_moments(label_arguments, folder, "labelled", work_seconds_of(undisturbed) / 2, seed)
    assert hits >= 1
    run(label_arguments, folder)
    assert [path.name for path in folder.iterdir()] == ["labelled"]
    first, second = lasting_files_of(undisturbed), lasting_files_of(folder / "labelled")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_contrast_ends_byte_for_byte_as_an_undisturbed_one(label_arguments, tmp_path, seed):
    at = label_arguments.index("--min-pairs")
    arguments = [*label_arguments[:at], "--batch-tokens", "256", "--method", "contrast"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    for each in (whole, folder):
        each.mkdir()
    run(arguments, whole)
    hits = kill_at_random_moments(arguments, folder, "labelled", work_seconds_of(whole / "labelled") / 2, seed)
    assert hits >= 1
    run(arguments, folder)
    assert [path.name for path in folder.iterdir()] == ["labelled"]
    assert lasting_files_of(whole / "labelled") == lasting_files_of(folder / "labelled")


def test_an_interrupt_is_one_line_and_the_work_stays(label_arguments, tmp_path):
    process = start_in_a_terminal(label_arguments, tmp_path)
    work = tmp_path / "labelled.partial" / "work"
    while process.poll() is None and not any_finished_file(work):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "rolewise label: interrupted; rerun the command to resume"
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.partial"]


@pytest.fixture(scope="module")
def sft_arguments(bench: Workbench, undisturbed: Path) -> list[str]:
    arguments = ["sft", "--model", bench.model, "--data", undisturbed, "--output", "tuned", "--save-steps", 2]
    arguments += ["--max-steps", 24, "--per-device-train-batch-size", 8, "--logging-steps", 1, "--generations", 1]
    return [str(a) for a in [*arguments, "--generation-tokens", 8, "--learning-rate", "1e-3"]]


@pytest.fixture(scope="module")
def undisturbed_sft(sft_arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed-sft")
    run(sft_arguments, folder)
    return folder / "tuned"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_fine_tuning_ends_with_the_same_weights_and_log(sft_arguments, undisturbed_sft, tmp_path, seed):
    folder = tmp_path / "run"
    folder.mkdir()
    hits = kill_at_random_moments(sft_arguments, folder, "tuned", work_seconds_of(undisturbed_sft) / 2, seed)
    assert hits >= 1
    run(sft_arguments, folder)
    assert [path.name for path in folder.iterdir()] == ["tuned"]
    assert files_of(folder / "tuned").keys() == files_of(undisturbed_sft).keys()
    first, second = (load_file(path / "adapter_model.safetensors") for path in (undisturbed_sft, folder / "tuned"))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0)
    assert (folder / "tuned" / "generations.json").read_text() == (undisturbed_sft / "generations.json").read_text()
    logs = [
        [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
        for path in (undisturbed_sft, folder / "tuned")
    ]
    assert len(logs[0]) == len(logs[1]) == 24
    for expected, entry in zip(*logs, strict=True):
        assert entry.keys() == expected.keys()
        for name in expected:
            assert entry[name] == pytest.approx(expected[name], abs=1e-6), name
