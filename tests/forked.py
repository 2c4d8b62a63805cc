"""Processes of a test's own that have the libraries loaded: each is forked from a clean server, and starts at once.

For tests of what a process leaves behind. Those of how a command starts and ends for its user, an interpreter of their
own, use `workbench.rolewise`.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore
from workbench import environment

MODULES = ("cli.main", "jobs.label", "jobs.sft", "jobs.grpo", "jobs.reinforce", "jobs.evaluate", "jobs.warmup")
MODULES += ("labelling.preference_tuning",)


def start(work: Callable[..., int | None], *arguments: Any, folder: Path, **variables: str) -> BaseProcess:
    """Begin `work(*arguments)` in a process that works in `folder`, with these environment variables more.

    What it returns is the exit code; what it prints, on both streams, is appended to `log_of(folder)`.
    """
    server = multiprocessing.get_context("forkserver")  # imports once, then forks a clean process each time
    server.set_forkserver_preload([f"rolewise.{name}" for name in MODULES])
    process = server.Process(target=_run, args=(work, arguments, folder, environment(**variables)))
    process.start()
    return process


def end_of(process: BaseProcess) -> int:
    """The exit code of a process, waited for; negative for a signal."""
    process.join(300)
    assert process.exitcode is not None, "still at work after five minutes"
    return process.exitcode


def run(work: Callable[..., int | None], *arguments: Any, folder: Path, processes: int = 1) -> int:
    """The exit code of `work(*arguments)` done by a process, or by several, as torchrun starts them; the highest."""
    if processes == 1:
        return end_of(start(work, *arguments, folder=folder, ACCELERATE_USE_CPU="true"))
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they meet; torchrun's agent has it
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    started = [
        start(work, *arguments, folder=folder, **shared, RANK=str(number), LOCAL_RANK=str(number))
        for number in range(processes)
    ]
    return max((end_of(process) for process in started), key=abs)


def log_of(folder: Path) -> Path:
    """The file, beside `folder`, with what its processes printed."""
    return folder.with_name(f"{folder.name}-log.txt")


def _run(work: Callable[..., int | None], arguments: tuple[Any, ...], folder: Path, variables: dict[str, str]) -> None:
    import torch

    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log_of(folder).open("a") as log:
        os.dup2(log.fileno(), 2)
        os.dup2(log.fileno(), 1)
    os.chdir(folder)
    sys.exit(work(*arguments))
