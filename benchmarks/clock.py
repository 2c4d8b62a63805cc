"""The clock of all benchmarks. It stands still while the main thread is ready to run and other work has the cores."""

import time

SCHEDULER_FILE = "/proc/self/schedstat"


def undisturbed_seconds() -> float:
    """Seconds by a clock that leaves out the time spent in the system's queue for a core, as Linux counts it."""
    with open(SCHEDULER_FILE, encoding="ascii") as stream:  # noqa: PTH123 - a Path costs as much again
        queued_nanoseconds = int(stream.read().split()[1])
    return time.perf_counter() - queued_nanoseconds / 1e9
