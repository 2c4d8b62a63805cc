"""Client of the official checker's process: started once, reused, and restarted when an answer kills it."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from rolewise.core.errors import InputError

_SCRIPT = Path(__file__).with_name("worker") / "serve.py"
_START_SECONDS = 120
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
"""Environment variables passed to the checker, which must not see any keys."""


class CheckFailed(Exception):
    """The checker reached no verdict on an answer; the text says why."""


class OfficialChecker:
    """Client that runs `worker/serve.py`, which documents the rights of the process.

    Args:
        folders: folders of the unpacked packages.
        seconds: time limit of one request. All but hostile ones take milliseconds.
    """

    def __init__(self, folders: Sequence[Path], seconds: int = 20) -> None:
        self._folders = list(folders)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.Queue[bytes] = queue.Queue()
        self.starts = 0
        """Number of times that the process was started."""

    def request(self, operation: str, **arguments: Any) -> Any:
        """Return the result of an operation of `worker/official.py`, as JSON values.

        Raises:
            CheckFailed: if the operation raises an error, takes too long, or ends the process.
            InputError: if the process can't be started.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([operation, arguments]).encode() + b"\n")
            process.stdin.flush()
            reply = self._reply(self._seconds)
        except OSError:
            reply = None
        except queue.Empty:
            self.close()
            raise CheckFailed(f"the checker took more than {self._seconds} seconds over the answer") from None
        if reply is None:
            self.close()
            raise CheckFailed("the answer ended the checker's process")
        if "error" in reply:
            raise CheckFailed(f"the checker failed: {reply['error']}")
        return reply["value"]

    def close(self) -> None:
        """Stop the process; a later request starts it again."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def forget(self, session: str) -> None:
        """Delete the tools of a multi-turn play, if the process still has them."""
        if self._process is not None:
            with contextlib.suppress(CheckFailed):
                self.request("forget", session=session)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # -E and -s: ignore the user's Python settings. -B: write no files into the cache.
        command = [sys.executable, "-E", "-s", "-B", str(_SCRIPT), str(self._seconds), *map(str, self._folders)]
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folders[0],
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        )
        self.starts += 1
        self._replies = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, self._replies), daemon=True).start()
        try:
            started = self._reply(_START_SECONDS)
        except queue.Empty:
            started = {"error": f"it did not answer within {_START_SECONDS} seconds"}
        if started is None or "error" in started:
            self.close()
            reason = started["error"] if started else "it ended at once"
            raise InputError(
                f"the official BFCL checker in {self._folders[0]} can't be started ({reason}); delete that folder to "
                "fetch it again"
            )
        return process

    def _reply(self, seconds: float) -> dict[str, Any] | None:
        """Return the next reply; None if the process ended instead.

        Raises:
            queue.Empty: if there is no reply in time.
        """
        line = self._replies.get(timeout=seconds)
        reply: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return reply


def _pass_on(stream: IO[bytes], replies: "queue.Queue[bytes]") -> None:
    """Forward the output of a process line by line, and an incomplete last line when it ends."""
    with contextlib.suppress(OSError, ValueError):  # closed by this side
        for line in stream:
            replies.put(line)
    replies.put(b"")
