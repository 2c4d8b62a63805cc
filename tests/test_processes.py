"""Several processes, as torchrun starts them: the same labels and the same training as one; killed, the same again."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import psutil
import pytest
import torch
from datasets import load_from_disk
from safetensors.torch import load_file
from test_resume import work_seconds_of
from workbench import Workbench, environment, files_of, lasting_files_of

from rolewise.cli.main import main
from rolewise.data.readers import write_conversations
from rolewise.generator import generate
from rolewise.training.checkpoints import last_checkpoint

TOLERANCE = 1e-5


def launch(processes: int, arguments: list[str], folder: Path) -> "subprocess.Popen[str]":
    """`rolewise` in one process, or in several over gloo."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *start, "-m", "rolewise", *arguments],
        cwd=folder,
        env={**environment(), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(processes: int, arguments: list[str], folder: Path) -> None:
    code = forked.run(main, arguments, folder=folder, processes=processes)
    assert code == 0, forked.log_of(folder).read_text()


def end(process: "subprocess.Popen[str]") -> bool:
    """Kill it with all that it started; whether it was still at work."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    at_work = process.poll() is None
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()
    psutil.wait_procs(family, timeout=10)
    return at_work


@pytest.fixture(scope="module")
def label_arguments(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = tmp_path_factory.mktemp("several") / "conversations.jsonl"
    write_conversations(generate(120, seed=5), data)
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
        "--batch-size",
        4,
    ]
    return [str(a) for a in [*arguments, "--min-pairs", 40, "--batch-tokens", 512]]


@pytest.fixture(scope="module")
def labelled(label_arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The labelled set by the number of processes that made it."""
    folders = {processes: tmp_path_factory.mktemp(f"labelled-by-{processes}") for processes in (1, 2)}
    for processes, folder in folders.items():
        run(processes, label_arguments, folder)
    return {processes: folder / "labelled" for processes, folder in folders.items()}


@pytest.fixture(scope="module")
def sft_arguments(bench: Workbench, labelled: dict[int, Path]) -> list[str]:
    arguments = ["sft", "--model", bench.model, "--data", labelled[1], "--output", "tuned", "--optim", "sgd"]
    arguments += ["--max-steps", 6, "--logging-steps", 1, "--learning-rate", "0.1", "--save-steps", 2]
    return [str(a) for a in [*arguments, "--eval-share", 0.2, "--generations", 1, "--generation-tokens", 4]]


@pytest.fixture(scope="module")
def tuned(sft_arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The tuned adapter by the number of processes that shared steps of eight samples."""
    folders = {processes: tmp_path_factory.mktemp(f"tuned-by-{processes}") for processes in (1, 2)}
    for processes, folder in folders.items():
        run(processes, [*sft_arguments, "--per-device-train-batch-size", str(8 // processes)], folder)
    return {processes: folder / "tuned" for processes, folder in folders.items()}


def test_two_processes_label_as_one(labelled):
    one, two = (load_from_disk(str(labelled[processes])) for processes in (1, 2))
    assert one["input_ids"][:] == two["input_ids"][:]
    for column in ("base_loss", "tuned_loss"):
        a, b = (np.concatenate([np.array(row, dtype=np.float32) for row in rows[column]]) for rows in (one, two))
        np.testing.assert_allclose(b, a, atol=TOLERANCE, rtol=TOLERANCE)
    assert sorted(path.name for path in labelled[2].parent.iterdir()) == ["labelled"]


def test_two_processes_train_as_one(tuned):
    first, second = (load_file(tuned[processes] / "adapter_model.safetensors") for processes in (1, 2))
    for name in first:
        torch.testing.assert_close(second[name], first[name], atol=TOLERANCE, rtol=TOLERANCE)
    assert max(tensor.abs().max() for name, tensor in first.items() if "lora_B" in name) > 100 * TOLERANCE
    logs = [[json.loads(line) for line in (tuned[n] / "log.jsonl").read_text().splitlines()] for n in (1, 2)]
    assert len(logs[0]) == len(logs[1]) == 8  # six steps, and the held-out data before and after
    compared = ("loss", "eval_loss", "loss_reasoning", "weight_reasoning", "eval_loss_boilerplate", "num_tokens")
    for expected, entry in zip(*logs, strict=True):
        for name in compared:
            assert entry.get(name) == pytest.approx(expected.get(name), abs=TOLERANCE), name


def test_a_batch_that_cannot_be_shared_is_refused_by_one_voice(label_arguments, tmp_path):
    process = launch(2, [*label_arguments, "--batch-size", "3"], tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    said = [line for line in err.splitlines() if line.startswith("rolewise label: ")]
    assert said == ["rolewise label: batch_size 3 can't be divided among 2 processes; give a multiple of 2"]
    assert list(tmp_path.iterdir()) == []


def ranks_of(process: "subprocess.Popen[str]") -> dict[int, psutil.Process]:
    """The processes that torchrun started, by their number."""
    return {
        int(child.environ()["RANK"]): child
        for child in psutil.Process(process.pid).children()
        if "rolewise" in child.cmdline()
    }


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_one_of_two_killed_the_other_ends_and_the_rerun_goes_on(signal_number, rank, sft_arguments, tuned, tmp_path):
    arguments = [*sft_arguments, "--per-device-train-batch-size", "4"]
    process = launch(2, arguments, tmp_path)
    checkpoints = tmp_path / "tuned.partial" / "work" / "checkpoints"
    while process.poll() is None and last_checkpoint(checkpoints, 2) is None:
        time.sleep(0.01)
    ranks = ranks_of(process)
    ranks[rank].send_signal(signal_number)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert psutil.wait_procs(ranks.values(), timeout=10)[1] == []
    assert not (tmp_path / "tuned").exists()
    assert last_checkpoint(checkpoints, 2) is not None
    run(2, arguments, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]
    log, expected = (
        [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
        for path in (tmp_path / "tuned", tuned[2])
    )
    assert [entry["step"] for entry in log] == [entry["step"] for entry in expected]
    name = "adapter_model.safetensors"
    assert (tmp_path / "tuned" / name).read_bytes() == (tuned[2] / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "processes"), [("label", 1), ("label", 2), ("sft", 1)])
def test_killed_thirty_four_times(command, processes, label_arguments, labelled, sft_arguments, tuned, tmp_path):
    """Rounds of up to five kills at random moments of the work, each ended by a run that is left alone."""
    arguments = label_arguments if command == "label" else [*sft_arguments, "--per-device-train-batch-size", "8"]
    undisturbed = labelled[processes] if command == "label" else tuned[1]
    seconds = work_seconds_of(undisturbed)
    chance = random.Random(f"{command} {processes}")
    kills = rounds = 0
    while kills < 34:
        folder = tmp_path / str(rounds)
        folder.mkdir()
        for _ in range(5):
            process = launch(processes, arguments, folder)
            partial = folder / f"{undisturbed.name}.partial"
            while process.poll() is None and not (partial / "job.json").exists():
                time.sleep(0.01)
            time.sleep(chance.uniform(0, seconds / 2))
            kills += end(process)
            if (folder / undisturbed.name).exists():
                break
        run(processes, arguments, folder)
        assert [path.name for path in folder.iterdir()] == [undisturbed.name]
        assert files_of(folder / undisturbed.name).keys() == files_of(undisturbed).keys()
        if command == "label":
            first, second = lasting_files_of(undisturbed), lasting_files_of(folder / undisturbed.name)
            assert [name for name in first if first[name] != second[name]] == []
        else:
            pair = [load_file(path / "adapter_model.safetensors") for path in (undisturbed, folder / undisturbed.name)]
            for name in pair[0]:
                torch.testing.assert_close(pair[1][name], pair[0][name], atol=TOLERANCE, rtol=0)
        rounds += 1
    print(f"{command}, {processes} processes: {kills} kills in {rounds} rounds", file=sys.__stderr__)
