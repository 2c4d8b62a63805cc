"""Processes of one launch: counted before any work, and ended together without a lost exit code or result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workbench import environment

from rolewise.cli.main import COMMANDS, _run
from rolewise.core import launch
from rolewise.core.errors import InputError

SCRIPT = Path(__file__).with_name("several_ends.py")
LAUNCHES = int(os.environ.get("ROLEWISE_LAUNCHES", "200"))


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in two processes, on a machine whose user set nothing for Accelerate."""
    plain = {name: value for name, value in environment().items() if not name.startswith("ACCELERATE_")}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(SCRIPT),
            *arguments,
        ],
        env=plain,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_processes_join_on_a_cpu_and_end_well() -> None:
    done = start()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sum 0 of 2\n"


def test_one_that_fails_ends_all_with_its_message() -> None:
    done = start("fails", "1")
    assert done.returncode == 1
    assert "RuntimeError: this one fails" in done.stderr


@pytest.mark.slow
def test_many_launches_lose_no_exit_code_and_no_result() -> None:
    """`ROLEWISE_LAUNCHES` of them, 200 unless told."""
    for number in range(LAUNCHES):
        done = start()
        assert (done.returncode, done.stdout) == (0, "sum 0 of 2\n"), f"launch {number}: {done.stderr}"


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("label", "sft", "grpo", "warmup", "reinforce")]
)
def test_a_command_of_one_process_is_refused_to_several(command, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _run([command]) == 2
    said = f"rolewise {command}: this command runs in one process, but 2 were started; start it without torchrun"
    assert capsys.readouterr().err.splitlines() == [said]


def test_accelerate_that_starts_one_of_several_is_told(monkeypatch, capsys) -> None:
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500"), ("ACCELERATE_MIXED_PRECISION", "no")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert _run(["sft", "--model", "m", "--data", "d", "--output", "o"]) == 2
    assert "asked for several processes but started one" in capsys.readouterr().err


def test_a_port_at_which_nobody_meets_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_PORT", "0")
    assert _run(["sft", "--model", "m", "--data", "d", "--output", "o"]) == 2
    assert "can't meet at port 0" in capsys.readouterr().err


def test_processes_that_did_not_join_are_refused(monkeypatch) -> None:
    from rolewise.training import processes

    processes.start()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    with pytest.raises(InputError, match="2 processes were started, but 1 joined"):
        processes.start()


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE is 'two', not a number"):
        launch.launched()
