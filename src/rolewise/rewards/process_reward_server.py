"""Process rewards over HTTP, in a JSON schema of our own (docs/process_rewards.md)."""

import json
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from rolewise.core import limits
from rolewise.core.errors import InputError
from rolewise.core.limits import TooLarge, joined, one_line, parse_json
from rolewise.rewards.process_reward import ProcessRewardError, ProcessRewardModel, Solution, misfit

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which a retry may succeed."""


class ServerReward(ProcessRewardModel):
    """A process-reward model behind a server.

    Args:
        url: address for requests, e.g. `http://localhost:8100/score`.
        api_key: key to send as a bearer token; None for a server that requires none.
        batch_size: number of solutions in one request.
        concurrency: maximum number of concurrent requests.
        timeout: time limit for one try of a request, in seconds.
        retries: retries after a broken connection, a timeout, 429 or 5xx; delays grow from half a second to eight.

    Raises:
        InputError: for an invalid URL, or a number below 1.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        batch_size: int = 16,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 3,
    ) -> None:
        super().__init__()
        if not _is_url(url):
            raise InputError(f"process-reward server {url!r} is not a URL; give it as http://localhost:8100/score")
        if batch_size < 1 or concurrency < 1:
            raise InputError(f"batch_size ({batch_size}) and concurrency ({concurrency}) must be at least 1")
        self._url, self._batch_size, self._timeout = url, batch_size, timeout
        self._key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._retries = retries
        self._closed = threading.Event()
        self._connections = urllib3.PoolManager(maxsize=concurrency)
        self._connections.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="process-reward")

    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        batches = [solutions[i : i + self._batch_size] for i in range(0, len(solutions), self._batch_size)]
        requests = [self._threads.submit(self._score_batch, batch) for batch in batches]
        try:
            return [scores for request in requests for scores in request.result()]
        finally:
            for request in requests:  # those not started, if one has failed
                request.cancel()

    def describe(self) -> dict[str, Any]:
        """Return the description without the address: the same model elsewhere gives the same scores."""
        return {"kind": "server"}

    def close(self) -> None:
        """Close the connections; drop requests not started, and don't retry failed ones."""
        self._closed.set()
        self._threads.shutdown(cancel_futures=True)
        self._connections.clear()

    def _score_batch(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        items = [{"question": solution.question, "steps": list(solution.steps)} for solution in solutions]
        reply = self._ask({"items": items})
        scores = reply.get("scores") if isinstance(reply, dict) else None
        if not isinstance(scores, list) or len(scores) != len(items):
            found = f"{len(scores)} of them" if isinstance(scores, list) else "none"
            raise InputError(
                f"process-reward server {self._url}: the reply needs 'scores', a list with an entry for each of the "
                f"{len(items)} items, but has {found}; see docs/process_rewards.md"
            )
        for number, (solution, entry) in enumerate(zip(solutions, scores, strict=True)):
            problem = None if entry is None else misfit(entry, len(solution.steps))
            if problem is not None:
                raise InputError(f"process-reward server {self._url}: scores[{number}]: {problem}; fix the server")
        return [None if entry is None else [float(score) for score in entry] for entry in scores]

    def _ask(self, body: dict[str, Any]) -> Any:
        """Return the reply to a request as JSON values."""
        status, data = self._try_again_and_again(json.dumps(body).encode())
        if status in (401, 403):
            raise InputError(f"process-reward server {self._url} answers {status}; give the right key")
        if status != 200:
            said = one_line(data[:4000].decode("utf-8", errors="replace"), 200)
            raise InputError(f"process-reward server {self._url} answers {status} ({said}); check the URL")
        try:
            return parse_json(data)
        except ValueError as error:
            raise InputError(
                f"process-reward server {self._url}: the reply is not JSON; see docs/process_rewards.md"
            ) from error

    def _try_again_and_again(self, body: bytes) -> tuple[int, bytes]:
        """Return status and body of a final reply. Requests can be repeated safely here, whatever failed.

        Raises:
            ProcessRewardError: if there is no reply.
        """
        for wait in [*(min(8.0, 0.5 * 2**n) for n in range(self._retries)), None]:
            try:
                status, data = self._try(body)
                failure = f"answers {status} repeatedly"
                if status not in _PASSING:
                    return status, data
            except urllib3.exceptions.NewConnectionError:
                failure = "can't be reached"
            except urllib3.exceptions.TimeoutError:
                failure = f"sent no answer within {self._timeout:g} s"
            except urllib3.exceptions.HTTPError as error:
                failure = f"broke the connection ({one_line(error, 200)})"
            if wait is None or self._closed.wait(wait):
                break
        raise ProcessRewardError(f"process-reward server {self._url} {failure}")

    def _try(self, body: bytes) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout
        try:
            status, data = self._exchange(body)
        except urllib3.exceptions.HTTPError as error:
            if time.monotonic() < deadline:
                raise
            raise urllib3.exceptions.TimeoutError from error  # the connection broke because the timer cut it
        if time.monotonic() >= deadline:  # after a cut, a reply may seem complete
            raise urllib3.exceptions.TimeoutError
        return status, data

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **self._key}
        timeout = urllib3.Timeout(total=self._timeout)
        reply = self._connections.request(
            "POST", self._url, body=body, headers=headers, timeout=timeout, retries=False, preload_content=False
        )
        cut = reply.connection.cut if isinstance(reply.connection, _CutConnection) else None
        try:
            data = joined(iter(partial(reply.read1, 1 << 16), b""), limits.MAX_REPLY_BYTES, "the reply")
        except TooLarge as error:
            reply.close()
            raise InputError(f"process-reward server {self._url}: {error}; fix the server") from error
        except BaseException:
            reply.close()
            raise
        finally:
            if cut is not None:
                cut.cancel()
        reply.release_conn()
        return reply.status, data


class _CutConnection(HTTPConnection):
    """Connection that ends when its time is over; the library's own timeout limits silence only, and a server may send
    a byte now and then forever.

    Attributes:
        cut: timer that ends the connection; to be canceled after the reply is read.
    """

    cut: threading.Timer | None = None

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # like urllib3's own
        left = (
            self.timeout if isinstance(self.timeout, int | float) else None
        )  # rest of the total after sending the request
        if left is not None and self.sock is not None:
            self.cut = threading.Timer(left, _shut, (self.sock,))
            self.cut.daemon = True
            self.cut.start()
        try:
            return super().getresponse()
        except BaseException:
            if self.cut is not None:
                self.cut.cancel()
            raise


class _SecureCutConnection(_CutConnection, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _CutConnection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureCutConnection


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # the connection has ended
        connection.shutdown(socket.SHUT_RDWR)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, an unclosed bracket
        return False
