"""The clock of all benchmarks. It stands still while the main thread is ready to run and other work has the cores."""

import time

SCHEDULER_FILE = "/proc/self/schedstat"


def undisturbed_seconds() -> float:
    """Seconds by a clock that leaves out the time spent in the system's queue for a core, as Linux counts it."""
    before = _queued_nanoseconds()
    while True:
        now = time.perf_counter()
        after = _queued_nanoseconds()
        if after == before:  # or else this thread waited between the two readings, and they do not belong together
            return now - after / 1e9
        before = after


def _queued_nanoseconds() -> int:
    with open(SCHEDULER_FILE, encoding="ascii") as stream:  # noqa: PTH123 - a Path costs as much again
        return int(stream.read().split()[1])
