"""A pool of processes that answer requests within a hard time limit: one that hangs or dies is killed and replaced.

The standard pools can't do this: their tasks have no limit that ends the process. These processes also load only the
modules that they need, never the user's script, so they can be started from anywhere.
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
"""Seconds past the limit after which a process without a parent ends by itself."""


class LateReply(Exception):
    """No reply came within the limit."""


class DeadWorker(Exception):
    """The process ended without a reply."""


class _Worker:
    """One process. Its replies go to a queue as (worker, reply), and (worker, None) when it ends."""

    def __init__(self, module: str, replies: "queue.Queue[tuple[_Worker, Any]]") -> None:
        # It uses this process's import path, without the working directory.
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
        with suppress(OSError):  # the process has died; the reader reports it
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):  # data that could no longer be written
                stream.close()


class WorkerPool:
    """A pool of such processes, started as concurrent requests require. Close it when it is no longer needed."""

    def __init__(self, module: str, *, workers: int, limit: float) -> None:
        """
        Args:
            module: module to run with `python -m`; it writes a first line when it is ready, then reads a request per
                line as JSON and answers each with a line. A request holds as `limit` the seconds after which the
                process ends by itself.
            workers: maximum number of processes.
            limit: time limit for a request, in seconds.
        """
        self._module = module
        self._size = workers
        self._limit = limit
        self._workers: list[_Worker] = []
        self._replies: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._lock = threading.Lock()
        weakref.finalize(self, _stop_all, self._workers)

    def start(self, requests: int) -> None:
        """Start the processes that this many concurrent requests need, without waiting until they are ready."""
        with self._lock:
            self._start_for(requests)

    def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the reply to each request, in order, or the exception (`LateReply`, `DeadWorker`) in its place.

        Raises:
            RolewiseError: if the processes don't start.
        """
        with self._lock:
            try:
                return self._answer(requests)
            except BaseException:
                _stop_all(self._workers)  # otherwise a reply to this call would be taken for one to the next
                raise

    def close(self) -> None:
        """Stop the processes. A later request starts new ones."""
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
        """Wait for the next reply, death or deadline, and return the tasks that it ends."""
        pressing = [worker for worker in self._workers if worker.task is not None or not worker.ready]
        soonest = min(worker.deadline for worker in pressing)
        try:
            worker, reply = self._replies.get(timeout=max(0.0, soonest - time.monotonic()))
        except queue.Empty:
            now = time.monotonic()
            return [end for late in pressing if late.deadline <= now for end in self._end(late, LateReply())]
        if worker not in self._workers:  # killed in the meantime
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
        """Kill a worker and end its task, if it had one, with the error."""
        self._workers.remove(worker)
        worker.stop()
        if not worker.ready:
            how = "did not start in time" if isinstance(error, LateReply) else f"ended ({worker.process.returncode})"
            raise RolewiseError(f"a helper process {how}; run it to see its error: {sys.executable} -m {self._module}")
        return [] if worker.task is None else [(worker.task, error)]


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
