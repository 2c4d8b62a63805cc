"""Several processes on one job, as `torchrun` starts them: who writes, and when the others wait."""

from datetime import timedelta

import torch
from accelerate import PartialState

TIMEOUT = timedelta(hours=6)
"""How long processes wait for the one that writes, which may have a large data set to assemble."""


def start() -> None:
    """Join the other processes, if there are any; before anything is put on a device, since this chooses it.

    Without an accelerator the processes meet over gloo, which Accelerate only does when told to use the CPU.
    """
    PartialState(cpu=not torch.accelerator.is_available(), timeout=TIMEOUT)


def is_main() -> bool:
    """Whether this process is the one that writes results."""
    return bool(PartialState().is_main_process)


def count() -> int:
    """How many processes work on the job."""
    return int(PartialState().num_processes)


def number() -> int:
    """This process's number, from 0."""
    return int(PartialState().process_index)


def wait() -> None:
    """Until every process has come here."""
    PartialState().wait_for_everyone()
