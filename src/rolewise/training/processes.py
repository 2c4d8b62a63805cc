"""Several processes on one job, as `torchrun` starts them: choice of the writer, and waiting for it."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState

from rolewise.core.errors import InputError
from rolewise.core.launch import check_launcher, launched

TIMEOUT = timedelta(hours=6)
"""Maximum time that processes wait for the one that writes, which may have to assemble a large data set."""


def start(*, cpu: bool = False, timeout: timedelta = TIMEOUT) -> None:
    """Join the other processes, if any. Call this before putting anything on a device, since it chooses the device.

    Creating a trainer's settings joins the processes too, but on a CPU each would join on its own without instruction.
    Call this function first; it instructs them through the environment variable `ACCELERATE_USE_CPU`.

    Args:
        cpu: work on the CPU even if there is an accelerator.
        timeout: maximum time that a process waits for the others.

    Raises:
        InputError: if the processes can't meet, or fewer joined than were started.
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
    """Return True if this process is the one that writes results."""
    return bool(_state().is_main_process)


def count() -> int:
    """Return the number of processes that work on the job."""
    return int(_state().num_processes)


def number() -> int:
    """Return this process's number, from 0."""
    return int(_state().process_index)


def wait() -> None:
    """Wait until every process has reached this point."""
    _state().wait_for_everyone()


def _state(*, cpu: bool = False, timeout: timedelta = TIMEOUT) -> PartialState:
    # The first call joins. Without an accelerator the processes meet over gloo, but only if `cpu` is set.
    try:
        return PartialState(cpu=cpu or not torch.accelerator.is_available(), timeout=timeout)
    except (RuntimeError, torch.distributed.DistError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the processes could not meet ({reason[:200]}); end those of a killed run if they are still there, or "
            "give torchrun another --master_port"
        ) from error
