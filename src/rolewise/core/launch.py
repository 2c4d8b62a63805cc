"""Several processes that a launcher such as `torchrun` started together: the rank of this one, and a common end.

The environment provides the answers, without torch, which takes seconds to load.
"""

import atexit
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from rolewise.core.errors import InputError

_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables with the number of processes started, torchrun's first, then those of MPI launchers; Accelerate
reads the same names."""


def launched() -> int:
    """Return the number of processes that the launcher reports; 1 without a launcher.

    Raises:
        InputError: if the value is not a number.
    """
    for name in _COUNTS:
        if given := os.environ.get(name):
            try:
                return max(1, int(given))
            except ValueError:
                raise InputError(f"the environment variable {name} is {given!r}, not a number; unset it") from None
    return 1


def is_first() -> bool:
    """Return True if this is the process, of several, that prints messages for the user."""
    return os.environ.get("RANK", "0") == "0"


def check_alone(what: str) -> None:
    """Check that a command that can't share its work runs in one process.

    Raises:
        InputError: if a launcher started several.
    """
    if (count := launched()) > 1:
        raise InputError(f"{what} runs in one process, but {count} were started; start it without torchrun")


def check_launcher() -> None:
    """Check that the launcher reports the number of processes and the port where they meet correctly.

    Raises:
        InputError: if `accelerate launch --cpu` was asked for several processes: it silently starts one; if
            `torchrun --master_port 0` took a free port: it passes 0 to the processes, and each would wait there for the
            others.
    """
    if launched() > 1 and os.environ.get("MASTER_PORT") == "0":
        raise InputError(
            "the processes can't meet at port 0, which torchrun --master_port 0 gives them; leave --master_port out to "
            "let torchrun take a free one, or give another number"
        )
    meeting_place = "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if by_accelerate and meeting_place and not any(name in os.environ for name in _COUNTS):
        raise InputError(
            "accelerate launch was asked for several processes but started one, as it does on a CPU; start them with "
            "torchrun --nproc_per_node, or give --num_processes 1 and unset MASTER_ADDR and MASTER_PORT"
        )


def end_together(work: Callable[[], int]) -> NoReturn:
    """Do this process's part of the work, then end the process; the exit code is `work`'s result, 1 for an error.

    A process that joined others must not end as usual: a thread of gloo may drop a tensor that Python owns while the
    interpreter shuts down, which aborts the process though its work is done. So the process exits without that
    shutdown, after all others have arrived here (a launcher that sees one of them end may stop those that still
    write), its exit handlers have run and its output is flushed. A process that failed does not wait.
    """
    try:
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    if code == 0:
        _wait_for_others()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader is gone, or the stream is closed
            stream.flush()
    os._exit(code)


def _wait_for_others() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return  # never joined, for instance because help was shown
    # The work is done; if another process failed, its own exit code reports it.
    with contextlib.suppress(RuntimeError):
        distributed.barrier()
