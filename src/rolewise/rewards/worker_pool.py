"""Processes that answer requests within a hard time limit: one that hangs or dies is killed and replaced.

The standard pools can't do this: their tasks have no limit that ends the process. And these processes load only what
they need, never the user's script, so that they may be started from anywhere.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rolewise.core.errors import RolewiseError

_START_LIMIT = 120.0  # seconds
_GRACE = 5.0
"""Seconds beyond the limit after which a process whose parent is gone ends by itself."""


class LateReply(Exception):
    """No reply came within the limit."""


class DeadWorker(Exception):
    """The process ended without a reply."""


class _Worker:
    """One process. What it says goes to a queue as (worker, reply), and (worker, None) when it ends."""

    def __init__(self, module: str, replies: "queue.Queue[tuple[_Worker, Any]]") -> None:
        # It finds what this process finds, and nothing that happens to lie in the working directory.
        path = os.pathsep.join(entry or os.curdir for entry in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        )
        self.deadline = time.monotonic() + _START_LIMIT
        self.ready = False
        self.task: int | None = None
        self._reader = threading.Thread(target=self._listen, args=(replies,), daemon=True)
        self._reader.start()

    def _listen(self, replies: "queue.Queue[tuple[_Worker, Any]]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            replies.put((self, json.loads(line)))
        replies.put((self, None))

    def give(self, task: int, request: Mapping[str, Any], limit: float) -> None:
        assert self.process.stdin is not None
        self.task = task
        self.deadline = time.monotonic() + limit
        line = json.dumps({**request, "limit": limit + _GRACE}).encode() + b"\n"
        with suppress(OSError):  # it has died; the reader says so
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):  # what could not be written any more
                stream.close()


class WorkerPool:
    """A few such processes, started when so many requests come at once. Close it when they are not needed any more."""

    def __init__(self, module: str, *, workers: int, limit: float) -> None:
        """
        Args:
            module: run by `python -m`; reads a request a line as JSON, answers each with a line, after a first line
                that says that it is ready. A request holds, as `limit`, after how many seconds to end by itself.
            workers: processes at once.
            limit: seconds for a request.
        """
        self._module = module
        self._size = workers
        self._limit = limit
        self._workers: list[_Worker] = []
        self._replies: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._lock = threading.Lock()
        weakref.finalize(self, _stop_all, self._workers)

    def start(self, requests: int) -> None:
        """Start the processes that so many requests at once will need, without waiting until they are ready."""
        with self._lock:
            self._start_for(requests)

    def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The reply to each request, in order, or the exception (`LateReply`, `DeadWorker`) that stands for it.

        Raises:
            RolewiseError: if the processes don't start.
        """
        with self._lock:
            try:
                return self._answer(requests)
            except BaseException:
                _stop_all(self._workers)  # or a reply of this call would be taken for one of the next
                raise

    def close(self) -> None:
        """End the processes. The next request would start others."""
        with self._lock:
            _stop_all(self._workers)

    def _answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        results: list[Any] = [None] * len(requests)
        waiting = list(range(len(requests)))[::-1]
        open_tasks = len(requests)
        while open_tasks:
            self._start_for(open_tasks)
            for worker in self._workers:
                if worker.ready and worker.task is None and waiting:
                    task = waiting.pop()
                    worker.give(task, requests[task], self._limit)
            for task, result in self._next_results():
                results[task] = result
                open_tasks -= 1
        return results

    def _start_for(self, requests: int) -> None:
        while len(self._workers) < min(self._size, requests):
            self._workers.append(_Worker(self._module, self._replies))

    def _next_results(self) -> list[tuple[int, Any]]:
        """Wait for the next reply, death or deadline, and return the tasks that this ends."""
        pressing = [worker for worker in self._workers if worker.task is not None or not worker.ready]
        soonest = min(worker.deadline for worker in pressing)
        try:
            worker, reply = self._replies.get(timeout=max(0.0, soonest - time.monotonic()))
        except queue.Empty:
            now = time.monotonic()
            return [end for late in pressing if late.deadline <= now for end in self._end(late, LateReply())]
        if worker not in self._workers:  # killed meanwhile
            return []
        if reply is None:
            return self._end(worker, DeadWorker())
        if not worker.ready:
            worker.ready = True
            return []
        task, worker.task = worker.task, None
        assert task is not None
        return [(task, reply)]

    def _end(self, worker: _Worker, error: Exception) -> list[tuple[int, Any]]:
        """Kill a worker; its task, if it had one, ends with the error."""
        self._workers.remove(worker)
        worker.stop()
        if not worker.ready:
            how = "did not start in time" if isinstance(error, LateReply) else f"ended ({worker.process.returncode})"
            raise RolewiseError(f"a helper process {how}; see what it says: {sys.executable} -m {self._module}")
        return [] if worker.task is None else [(worker.task, error)]


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
