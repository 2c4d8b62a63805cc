"""Several processes that a launcher such as `torchrun` started together: which one this is, and how each of them ends.

Told from the environment, without torch, which takes seconds to load.
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
"""Where launchers, torchrun first and then those of MPI, say how many they started: the names that Accelerate reads."""


def launched() -> int:
    """How many processes the launcher says that it started; 1 without one.

    Raises:
        InputError: for a number that is none.
    """
    for name in _COUNTS:
        if given := os.environ.get(name):
            try:
                return max(1, int(given))
            except ValueError:
                raise InputError(f"the environment variable {name} is {given!r}, no number; unset it") from None
    return 1


def is_first() -> bool:
    """Whether this is the one process of several that speaks to the user."""
    return os.environ.get("RANK", "0") == "0"


def check_alone(what: str) -> None:
    """Check that a command that can't share its work was started once.

    Raises:
        InputError: if a launcher started it several times.
    """
    if (count := launched()) > 1:
        raise InputError(f"{what} works in one process, and {count} were started; start it without torchrun")


def check_launcher() -> None:
    """Check that a launcher neither keeps a number of processes to itself nor the place where they meet.

    Raises:
        InputError: if `accelerate launch --cpu` was asked for several processes: it starts one and says nothing; if
            `torchrun --master_port 0` took a free port: it tells them 0, and each would wait there for the others.
    """
    if launched() > 1 and os.environ.get("MASTER_PORT") == "0":
        raise InputError(
            "the processes can't meet at port 0, which torchrun --master_port 0 gives them; leave --master_port out, "
            "and torchrun takes a free one, or give another number"
        )
    meeting_place = "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if by_accelerate and meeting_place and not any(name in os.environ for name in _COUNTS):
        raise InputError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU; start them with "
            "torchrun --nproc_per_node, or give --num_processes 1 and unset MASTER_ADDR and MASTER_PORT"
        )


def end_together(work: Callable[[], int]) -> NoReturn:
    """Do this process's part of the work, then end the process; its exit code is what `work` returns, 1 for an error.

    A process that joined others must not end as usual: a thread of gloo may drop a tensor that Python owns while the
    interpreter shuts down, which aborts the process though its work is done. So it leaves without that, once all have
    come here (a launcher that sees one of them end may stop those that still write), after its exit handlers have run
    and all that it printed is out. One that failed waits for nobody.
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
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone, a stream that is closed
            stream.flush()
    os._exit(code)


def _wait_for_others() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return  # never joined: help was shown, say
    # The work is done; if another one failed, its own exit code tells.
    with contextlib.suppress(RuntimeError):
        distributed.barrier()
