"""Servers that serve the same model: which of them is asked, and what happens when one fails.

The `openai` package keeps the connections and tries again, ever more slowly, after a broken connection, 429 and 5xx.
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
"""Who names a server that is not there, or hangs, should hear it soon. vLLM's first request with log-probabilities may
take half a minute on a CPU."""

_BUSY = (408, 409, 429, 503)
_BUSY_ROUNDS = 4
"""A server that answers so has too much to do, which is seldom one request's fault: that one gets so many rounds of
tries. For ever would be too long: some answer 429 to a request that is larger than all they grant in a minute."""


class RequestRefused(Exception):
    """A server refused one request (4xx); others may pass. The message names the server and gives its reason.

    Args:
        said: the message.
        status: the server's; None where it broke the connection.
    """

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.status = status


class RequestFailed(RequestRefused):
    """A server fails at one request, try after try, and answers others."""


class _EndpointGone(Exception):
    """A server that is not worth asking again. The message names it and says why."""


class _NoAnswer(_EndpointGone):
    """A server that gave no answer to a request, try after try; whether the server is to blame is not known yet."""

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.status = status


def whole_url(url: str) -> str:
    """A server's URL with `/v1`, if it has no path.

    Raises:
        InputError: for a URL that is none.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        known = False
    if not known:
        raise InputError(f"server {url!r} is no URL; give it as http://localhost:8000/v1")
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def first_model(url: str, api_key: str | None) -> str:
    """The model that a server serves, its first one.

    Raises:
        InputError: for a URL that is none, or if the package `openai` is missing.
        EngineError: if the server can't be reached, or does not say.
    """

    async def ask() -> str:
        endpoint = Endpoint(url, api_key, FIRST_TIMEOUT, FIRST_RETRIES)
        try:
            return str((await endpoint.models())[0]["id"])
        except _EndpointGone as error:
            raise EngineError(str(error)) from error
        finally:
            await endpoint.close()

    # In a thread of its own: whoever asks may have an event loop running, as a notebook does.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, ask()).result()


class Endpoint:
    """One server.

    Args:
        url: with or without `/v1`.
        api_key: its key; None for a server that wants none.
        timeout: seconds that one try may take.
        retries: further tries.

    Raises:
        InputError: for a URL that is none.
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
        """What it says of the models that it serves.

        Raises:
            _EndpointGone: if it can't be asked.
            EngineError: if it does not say.
        """
        try:
            reply = await self._call("GET", "/models", None, first=FIRST_TIMEOUT)
        except RequestRefused as error:
            raise EngineError(f"{error}; is it a server that speaks OpenAI's protocol?") from error
        models = reply.get("data")
        if not isinstance(models, list) or not models or not all(isinstance(m, dict) and m.get("id") for m in models):
            raise EngineError(f"{self.url}/models: the reply names no model in the field 'data[0].id'")
        return models

    async def complete(self, body: Mapping[str, Any], *, first: float | None = None) -> dict[str, Any]:
        """The reply to a completion request, the model's name added to it.

        Args:
            body: the request's other fields.
            first: seconds to wait at most, with few retries, while it is not known whether the server works.

        Raises:
            RequestRefused: for 4xx.
            RequestFailed: if it fails at this one, and answers others.
            _EndpointGone: if it can't be asked.
            EngineError: for a refused key, no JSON, or a model that is not there (404), for no request will pass then.
        """
        rounds = 0
        while True:
            try:
                reply = await self._call("POST", "/completions", {"model": self.model, **body}, first=first)
            except RequestRefused as error:
                if error.status == 404:
                    raise EngineError(f"{error}; it must serve completions of the model {self.model!r}") from error
                raise
            except _NoAnswer as error:
                if not await self._answers_others():
                    raise
                rounds += 1
                if error.status not in _BUSY or rounds == _BUSY_ROUNDS:
                    raise RequestFailed(f"{error}, though it answers others", error.status) from error
            else:
                self._answered = self._answered or body
                return reply

    async def _answers_others(self) -> bool:
        """Whether it still answers the first request that it ever answered; that one is short."""
        if self._answered is None:
            return False
        try:
            await self._call("POST", "/completions", {"model": self.model, **self._answered}, first=PROBE_TIMEOUT)
        except (_EndpointGone, RequestRefused, EngineError):
            return False
        return True

    async def load_adapter(self, name: str, path: str) -> None:
        """Have it load a LoRA adapter under a name (vLLM); raises as `complete`."""
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
            raise _EndpointGone(f"{self.url} gives no whole answer within {timeout:g} s") from error
        except self._openai.APIConnectionError as error:
            if (larger := too_large(error)) is not None:
                raise self._too_large(path, larger) from error
            raise _NoAnswer(f"{self.url} can't be reached ({cause_of(error)})", None) from error
        except self._openai.APIStatusError as error:
            self._sort_out(error)
        except TooLarge as error:
            raise self._too_large(path, error) from error
        except (ValueError, RecursionError):  # no JSON, or nested so deep that nobody can read it
            reply = None
        if not json:
            return {}
        if not isinstance(reply, dict):
            raise EngineError(f"{self.url}{path}: the reply is no JSON object; is it a server of OpenAI's protocol?")
        return reply

    def _too_large(self, path: str, error: TooLarge) -> EngineError:
        return EngineError(f"{self.url}{path} {error}; is it a server of OpenAI's protocol?")

    def _sort_out(self, error: Any) -> None:
        said = f"{self.url} answers {error.status_code} ({_message(error)})"
        if error.status_code in _BUSY or error.status_code >= 500:
            raise _NoAnswer(f"{said} again and again", error.status_code) from error
        if error.status_code in (401, 403):
            raise EngineError(f"{said}; give the right api_key") from error
        raise RequestRefused(said, error.status_code) from error


class EndpointPool:
    """Servers of one model; the least busy is asked, and one that answers no request any more is left out.

    Args:
        endpoints: at least one.
        concurrency: requests under way at once, per server.

    Attributes:
        alive: those that have not failed.
        notes: which were left out, and why.
    """

    def __init__(self, endpoints: Sequence[Endpoint], concurrency: int) -> None:
        self.alive = list(endpoints)
        self.notes: list[str] = []
        self._all = list(endpoints)
        self._failure: str | None = None
        self._places = asyncio.Semaphore(concurrency * len(endpoints))

    async def open(self, model: str | None) -> list[dict[str, Any]]:
        """Find out what is served, and choose the model; returns what the servers say of it, one entry for each alive.

        Raises:
            EngineError: if no server can be reached, one does not serve the model, or they serve different ones.
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
        """The URL and the reply of a server.

        Raises:
            RequestRefused: for 4xx.
            RequestFailed: if every server fails at it, and answers others.
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
        """Await `action(endpoint)` for every server alive; one that fails is left out.

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
        """A server that failed gets no more requests.

        Raises:
            EngineError: if it was the last.
        """
        if endpoint in self.alive:
            self.alive.remove(endpoint)
            self.notes.append(f"left out: {reason}")
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
