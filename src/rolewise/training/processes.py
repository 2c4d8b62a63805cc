"""Several processes on one job, as `torchrun` starts them: who writes, and when the others wait."""

from datetime import timedelta

import torch
from accelerate import PartialState

from rolewise.core.errors import InputError

TIMEOUT = timedelta(hours=6)
"""How long processes wait for the one that writes, which may have a large data set to assemble."""


def start() -> None:
    """Join the other processes, if there are any; before anything is put on a device, since this chooses it."""
    _state()


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


def _state() -> PartialState:
    # The first call joins. Without an accelerator the processes meet over gloo, but only if told to use the CPU.
    try:
        return PartialState(cpu=not torch.accelerator.is_available(), timeout=TIMEOUT)
    except (RuntimeError, torch.distributed.DistError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the processes could not meet ({reason[:200]}); end those of a killed run if they are still there, or "
            "give torchrun another --master_port"
        ) from error
