"""Process rewards over HTTP, in a JSON schema of our own (docs/process_rewards.md)."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import urllib3

from rolewise.core.errors import InputError
from rolewise.rewards.process_reward import ProcessRewardError, ProcessRewardModel, Solution, misfit

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which it is worth asking again."""


class ServerReward(ProcessRewardModel):
    """A process-reward model behind a server.

    Args:
        url: where requests are posted, as `http://localhost:8100/score`.
        api_key: sent as a bearer token; None for a server that wants none.
        batch_size: solutions in one request.
        concurrency: requests under way at once.
        timeout: seconds that one try of a request may take.
        retries: further tries after a broken connection, a timeout, 429 or 5xx; waits grow from half a second to eight.

    Raises:
        InputError: for a URL that is none, or a number below 1.
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
            raise InputError(f"process-reward server {url!r} is no URL; give it as http://localhost:8100/score")
        if batch_size < 1 or concurrency < 1:
            raise InputError(f"batch_size ({batch_size}) and concurrency ({concurrency}) must be at least 1")
        self._url, self._batch_size, self._timeout = url, batch_size, timeout
        self._key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Posting twice does no harm here, so that every failure may be followed by another try.
        again = urllib3.Retry(
            retries,
            allowed_methods=None,
            status_forcelist=_PASSING,
            backoff_factor=0.5,
            backoff_max=8,
            raise_on_status=False,
            redirect=False,
        )
        self._connections = urllib3.PoolManager(maxsize=concurrency, retries=again, timeout=timeout)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="process-reward")

    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        batches = [solutions[i : i + self._batch_size] for i in range(0, len(solutions), self._batch_size)]
        requests = [self._threads.submit(self._score_batch, batch) for batch in batches]
        try:
            return [scores for request in requests for scores in request.result()]
        finally:
            for request in requests:  # those not begun, if one has failed
                request.cancel()

    def describe(self) -> dict[str, Any]:
        """The address is left out: the same model elsewhere gives the same scores."""
        return {"kind": "server"}

    def close(self) -> None:
        """End the connections; requests not begun are dropped."""
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
                raise InputError(f"process-reward server {self._url}: scores[{number}]: {problem}; mend the server")
        return [None if entry is None else [float(score) for score in entry] for entry in scores]

    def _ask(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", **self._key}
        try:
            reply = self._connections.request("POST", self._url, body=json.dumps(body).encode(), headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise ProcessRewardError(self._unreachable(error)) from error
        if reply.status in _PASSING:
            raise ProcessRewardError(f"process-reward server {self._url} answers {reply.status} again and again")
        if reply.status in (401, 403):
            raise InputError(f"process-reward server {self._url} answers {reply.status}; give the right key")
        if reply.status != 200:
            said = " ".join(reply.data.decode("utf-8", errors="replace").split())[:200]
            raise InputError(f"process-reward server {self._url} answers {reply.status} ({said}); check the URL")
        try:
            return json.loads(reply.data)
        except ValueError as error:
            raise InputError(
                f"process-reward server {self._url}: the reply is no JSON; see docs/process_rewards.md"
            ) from error

    def _unreachable(self, error: Exception) -> str:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.TimeoutError) and not isinstance(
            cause, urllib3.exceptions.NewConnectionError
        ):
            return f"process-reward server {self._url} gives no answer within {self._timeout:g} s"
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            return f"process-reward server {self._url} can't be reached"
        return f"process-reward server {self._url} breaks the connection ({' '.join(str(cause).split())[:200]})"


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        return False
