"""Several processes on one job, as `torchrun` starts them: who writes, and when the others wait."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState

from rolewise.core.errors import InputError
from rolewise.core.launch import check_launcher, launched

TIMEOUT = timedelta(hours=6)
"""How long processes wait for the one that writes, which may have a large data set to assemble."""


def start(*, cpu: bool = False, timeout: timedelta = TIMEOUT) -> None:
    """Join the other processes, if there are any; before anything is put on a device, since this chooses it.

    Settings of a trainer join too, and on a CPU each for itself unless it is told. So this comes before them, and tells
    them through the environment variable `ACCELERATE_USE_CPU`.

    Args:
        cpu: work on the CPU though there is an accelerator.
        timeout: how long a process waits for the others.

    Raises:
        InputError: if the processes can't meet, or fewer did than were started.
    """
    check_launcher()
    count = launched()
    if count > 1 and (cpu or not torch.accelerator.is_available()):
        os.environ["ACCELERATE_USE_CPU"] = "true"
    state = _state(cpu=cpu, timeout=timeout)
    if state.num_processes != count:
        raise InputError(
            f"{count} processes were started, but {state.num_processes} joined, so each would train by itself; call "
            "rolewise.training.processes.start() before the trainer's settings are made, or set ACCELERATE_USE_CPU=true"
        )


def is_main() -> bool:
    """Whether this process is the one that writes results."""
    return bool(_state().is_main_process)


def count() -> int:
    """How many processes work on the job."""
    return int(_state().num_processes)


def number() -> int:
    """This process's number, from 0."""
    return int(_state().process_index)


def wait() -> None:
    """Until every process has come here."""
    _state().wait_for_everyone()


def _state(*, cpu: bool = False, timeout: timedelta = TIMEOUT) -> PartialState:
    # The first call joins. Without an accelerator the processes meet over gloo, but only if told to use the CPU.
    try:
        return PartialState(cpu=cpu or not torch.accelerator.is_available(), timeout=timeout)
    except (RuntimeError, torch.distributed.DistError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the processes could not meet ({reason[:200]}); end those of a killed run if they are still there, or "
            "give torchrun another --master_port"
        ) from error
