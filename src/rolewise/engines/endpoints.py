"""A pool of servers that serve the same model: choice of the server to ask, and handling of failures.

The `openai` package keeps the connections and retries with growing delays after a broken connection, 429 and 5xx.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from rolewise.core.errors import InputError
from rolewise.core.limits import TooLarge, one_line
from rolewise.engines.base import EngineError
from rolewise.engines.limited_http import cause_of, limited_async_client, too_large

FIRST_RETRIES = 1
FIRST_TIMEOUT = 30.0
PROBE_TIMEOUT = 180.0
"""Short limits, so that a missing or hanging server is reported soon. vLLM's first request with log-probabilities may
take half a minute on a CPU."""

_BUSY = (408, 409, 429, 503)
_BUSY_ROUNDS = 4
"""Statuses of an overloaded server, and the rounds of tries that a request then gets, since it is seldom at fault.
The number is bounded because some servers answer 429 to a request that is larger than their quota per minute."""


class RequestRefused(Exception):
    """A server refused one request (4xx); others may pass. The message names the server and gives its reason.

    Args:
        said: the message.
        status: HTTP status of the reply; None if the server broke the connection.
    """

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.status = status


class RequestFailed(RequestRefused):
    """A server repeatedly fails at one request but answers others."""


class _EndpointGone(Exception):
    """A server that should not be asked again. The message names the server and the reason."""


class _NoAnswer(_EndpointGone):
    """A server that repeatedly gave no answer to a request; the server may or may not be the cause."""

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.status = status


def whole_url(url: str) -> str:
    """Return a server's URL, with `/v1` added if it has no path.

    Raises:
        InputError: for an invalid URL.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, an unclosed bracket
        known = False
    if not known:
        raise InputError(f"server {url!r} is not a URL; give it as http://localhost:8000/v1")
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def first_model(url: str, api_key: str | None) -> str:
    """Return the first model that a server serves.

    Raises:
        InputError: for an invalid URL, or if the package `openai` is missing.
        EngineError: if the server can't be reached, or names no model.
    """

    async def ask() -> str:
        endpoint = Endpoint(url, api_key, FIRST_TIMEOUT, FIRST_RETRIES)
        try:
            return str((await endpoint.models())[0]["id"])
        except _EndpointGone as error:
            raise EngineError(str(error)) from error
        finally:
            await endpoint.close()

    # In a separate thread: the caller may have an event loop running, as a notebook does.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ask()).result()


class Endpoint:
    """One server.

    Args:
        url: with or without `/v1`.
        api_key: API key; None for a server that requires none.
        timeout: time limit for one try, in seconds.
        retries: number of retries.

    Raises:
        InputError: for an invalid URL.
    """

    def __init__(self, url: str, api_key: str | None, timeout: float, retries: int) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError("to ask a server, install the package for it: pip install 'rolewise[openai]'") from error
        self.url = whole_url(url)
        self.model: str | None = None
        self.underway = 0
        self._openai = openai
        self._timeout = timeout
        self._answered: Mapping[str, Any] | None = None
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=api_key or "none",
            timeout=timeout,
            max_retries=retries,
            http_client=limited_async_client(openai),
        )

    async def models(self) -> list[dict[str, Any]]:
        """Return the server's entries for the models that it serves.

        Raises:
            _EndpointGone: if the server can't be asked.
            EngineError: if the reply names no models.
        """
        try:
            reply = await self._call("GET", "/models", None, first=FIRST_TIMEOUT)
        except RequestRefused as error:
            raise EngineError(f"{error}; does the server speak OpenAI's protocol?") from error
        models = reply.get("data")
        if not isinstance(models, list) or not models or not all(isinstance(m, dict) and m.get("id") for m in models):
            raise EngineError(f"{self.url}/models: the reply names no model in the field 'data[0].id'")
        return models

    async def complete(self, body: Mapping[str, Any], *, first: float | None = None) -> dict[str, Any]:
        """Return the reply to a completion request; the model's name is added to the request.

        Args:
            body: the request's other fields.
            first: maximum seconds to wait, with few retries, while it is unknown whether the server works.

        Raises:
            RequestRefused: for 4xx.
            RequestFailed: if the server fails at this request but answers others.
            _EndpointGone: if the server can't be asked.
            EngineError: for a refused key, a reply that is not JSON, or a missing model (404): no request can succeed.
        """
        rounds = 0
        while True:
            try:
                reply = await self._call("POST", "/completions", {"model": self.model, **body}, first=first)
            except RequestRefused as error:
                if error.status == 404:
                    raise EngineError(
                        f"{error}; the server must serve completions of the model {self.model!r}"
                    ) from error
                raise
            except _NoAnswer as error:
                if not await self._answers_others():
                    raise
                rounds += 1
                if error.status not in _BUSY or rounds == _BUSY_ROUNDS:
                    raise RequestFailed(f"{error}, but it answers other requests", error.status) from error
            else:
                self._answered = self._answered or body
                return reply

    async def _answers_others(self) -> bool:
        """Return True if the server still answers the first request that it ever answered, which is short."""
        if self._answered is None:
            return False
        try:
            await self._call("POST", "/completions", {"model": self.model, **self._answered}, first=PROBE_TIMEOUT)
        except (_EndpointGone, RequestRefused, EngineError):
            return False
        return True

    async def load_adapter(self, name: str, path: str) -> None:
        """Load a LoRA adapter on the server under a name (vLLM); raises as `complete`."""
        await self._call("POST", "/load_lora_adapter", {"lora_name": name, "lora_path": path}, json=False)

    async def close(self) -> None:
        await self._client.close()

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, first: float | None = None, json: bool = True
    ) -> dict[str, Any]:
        timeout, client = self._timeout, self._client
        if first is not None:
            timeout = min(first, timeout)
            client = client.with_options(timeout=timeout, max_retries=FIRST_RETRIES)
        try:
            if method == "GET":
                reply = await client.get(path, cast_to=object)
            else:
                reply = await client.post(path, cast_to=object, body=body)
        except self._openai.APITimeoutError as error:
            raise _EndpointGone(f"{self.url} sent no complete answer within {timeout:g} s") from error
        except self._openai.APIConnectionError as error:
            if (larger := too_large(error)) is not None:
                raise self._too_large(path, larger) from error
            raise _NoAnswer(f"{self.url} can't be reached ({cause_of(error)})", None) from error
        except self._openai.APIStatusError as error:
            self._sort_out(error)
        except TooLarge as error:
            raise self._too_large(path, error) from error
        except (ValueError, RecursionError):  # not JSON, or nested too deeply to parse
            reply = None
        if not json:
            return {}
        if not isinstance(reply, dict):
            raise EngineError(
                f"{self.url}{path}: the reply is not a JSON object; does the server speak OpenAI's protocol?"
            )
        return reply

    def _too_large(self, path: str, error: TooLarge) -> EngineError:
        return EngineError(f"{self.url}{path} {error}; does the server speak OpenAI's protocol?")

    def _sort_out(self, error: Any) -> None:
        said = f"{self.url} answers {error.status_code} ({_message(error)})"
        if error.status_code in _BUSY or error.status_code >= 500:
            raise _NoAnswer(f"{said} repeatedly", error.status_code) from error
        if error.status_code in (401, 403):
            raise EngineError(f"{said}; give the right api_key") from error
        raise RequestRefused(said, error.status_code) from error


class EndpointPool:
    """Servers of one model; requests go to the least busy one, and a server that stops answering is dropped.

    Args:
        endpoints: servers, at least one.
        concurrency: maximum number of concurrent requests per server.

    Attributes:
        alive: servers that have not failed.
        notes: servers that were dropped, with the reasons.
    """

    def __init__(self, endpoints: Sequence[Endpoint], concurrency: int) -> None:
        self.alive = list(endpoints)
        self.notes: list[str] = []
        self._all = list(endpoints)
        self._failure: str | None = None
        self._places = asyncio.Semaphore(concurrency * len(endpoints))

    async def open(self, model: str | None) -> list[dict[str, Any]]:
        """Query the served models and choose one; return the servers' entries for it, one for each server alive.

        Raises:
            EngineError: if no server can be reached, one does not serve the model, or they serve different models.
        """
        found = []
        for endpoint in list(self.alive):
            try:
                served = await endpoint.models()
            except _EndpointGone as error:
                self._leave_out(endpoint, str(error))
                continue
            names = [str(entry["id"]) for entry in served]
            endpoint.model = model or names[0]
            if endpoint.model not in names:
                raise EngineError(f"{endpoint.url} does not serve {model!r}; it serves {one_line(', '.join(names))}")
            found.append(served[names.index(endpoint.model)])
        if len({endpoint.model for endpoint in self.alive}) > 1:
            told = ", ".join(f"{one_line(endpoint.model)} at {endpoint.url}" for endpoint in self.alive)
            raise EngineError(f"the servers serve different models ({told}); name one that all of them serve")
        return found

    async def complete(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the URL and the reply of a server.

        Raises:
            RequestRefused: for 4xx.
            RequestFailed: if every server fails at the request but answers others.
            EngineError: if no server is left, or one speaks another protocol.
        """
        failures: dict[Endpoint, RequestFailed] = {}
        async with self._places:
            while True:
                if self._failure is not None:
                    raise EngineError(self._failure)
                untried = [endpoint for endpoint in self.alive if endpoint not in failures]
                if not untried:
                    raise list(failures.values())[-1]
                endpoint = min(untried, key=lambda one: one.underway)
                endpoint.underway += 1
                try:
                    return endpoint.url, await endpoint.complete(body)
                except RequestFailed as error:
                    failures[endpoint] = error
                except _EndpointGone as error:
                    self._leave_out(endpoint, str(error))
                finally:
                    endpoint.underway -= 1

    async def each(self, action: Any) -> None:
        """Await `action(endpoint)` for every server alive; drop those that fail.

        Raises:
            EngineError: if none is left.
        """
        for endpoint in list(self.alive):
            try:
                await action(endpoint)
            except _EndpointGone as error:
                self._leave_out(endpoint, str(error))

    async def close(self) -> None:
        for endpoint in self._all:
            await endpoint.close()

    def _leave_out(self, endpoint: Endpoint, reason: str) -> None:
        """Stop sending requests to a server that failed.

        Raises:
            EngineError: if it was the last server.
        """
        if endpoint in self.alive:
            self.alive.remove(endpoint)
            self.notes.append(f"server dropped: {reason}")
        if not self.alive:
            others = f"; all {len(self._all)} servers have failed" if len(self._all) > 1 else ""
            self._failure = f"{reason}{others}"
            raise EngineError(self._failure)


def _message(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("message") or body.get("error") or body
        return one_line(inner)
    return one_line(body or error.message)
