"""A model behind servers that speak OpenAI's protocol for completions: vLLM, llama.cpp, SGLang and the like.

Prompts are sent as token ids, so that no chat template or tokenizer of the server interferes. Requests run in an event
loop in a separate thread.
"""

import asyncio
import queue
import zlib
from collections.abc import Coroutine, Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rolewise.core.errors import InputError
from rolewise.engines.base import Completion, Engine, EngineError, Sampling
from rolewise.engines.capabilities import (
    PLAIN_SAMPLING,
    SAMPLED_LOGPROBS,
    Capabilities,
    chosen_logprobs_fields,
    probe,
    probe_prompt_logprobs,
)
from rolewise.engines.completion_replies import (
    BrokenOff,
    SampleReader,
    choices_of,
    named_logprobs,
    prompt_logprobs,
)
from rolewise.engines.endpoints import PROBE_TIMEOUT, Endpoint, EndpointPool, RequestFailed, RequestRefused
from rolewise.engines.loop_thread import LoopThread

_T = TypeVar("_T")


class ServerEngine(Engine):
    """Engine that generates and scores on servers.

    Capabilities are probed at the start, see `capabilities`. A server that still fails after retries with growing
    delays is dropped and its requests go to the others; a request at which servers fail although they answer others
    ends with an error of its own.

    Args:
        urls: URLs of servers that serve the same model, as `http://localhost:8000/v1`.
        tokenizer: tokenizer of the model.
        model: name under which a model or adapter is served; None takes the first.
        api_key: API key of the servers, if they require one.
        concurrency: maximum number of concurrent requests per server.
        timeout: time limit for one try of a request, in seconds.
        retries: retries after a broken connection, 429 or 5xx; delays grow from half a second to eight.

    Attributes:
        capabilities: capabilities of the servers.
        model: served name.
        notes: notes for the user: servers that were dropped, and limitations of this kind of server.

    Raises:
        InputError: for an invalid URL, or if the package `openai` is missing.
        EngineError: if no server can be reached or used, or none serves `model`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        tokenizer: Any,
        *,
        model: str | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        timeout: float = 600.0,
        retries: int = 5,
    ) -> None:
        if not urls:
            raise InputError("no server given; give its URL, e.g. http://localhost:8000/v1")
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}; it must be at least 1")
        endpoints = [Endpoint(url, api_key, timeout, retries) for url in urls]
        self.tokenizer = tokenizer
        self.concurrency = concurrency * len(endpoints)
        self._pool = EndpointPool(endpoints, concurrency)
        self._said: dict[str, None] = {}
        self._underway: set[Hashable] = set()
        self._done: queue.SimpleQueue[tuple[Hashable, Completion | BaseException]] = queue.SimpleQueue()
        self._loop = LoopThread("server-engine")
        try:
            self._served = self._loop.run(self._pool.open(model))
            self.model = str(self._pool.alive[0].model)
            self.capabilities = self._loop.run(self._probe())
            self._context = self._smallest_context()
            self._reader = SampleReader(tokenizer, self.capabilities.generated_ids, self._note)
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        return [*self._said, *self._pool.notes]

    @property
    def context(self) -> int | None:
        return self._context

    @property
    def gives_logprobs(self) -> bool:
        return self.capabilities.logprobs and self.capabilities.generated_ids != "text"

    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        self._underway.add(key)
        self._loop.start(self._answer(key, [int(token) for token in prompt_ids], sampling))

    def collect(self) -> list[Completion]:
        done: list[Completion] = []
        while self._underway and (not done or not self._done.empty()):
            key, outcome = self._done.get()
            if isinstance(outcome, BaseException) and done:  # finished requests first, then the error
                self._done.put((key, outcome))
                break
            self._underway.discard(key)
            if isinstance(outcome, BaseException):
                raise outcome
            done.append(outcome)
        return done

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        self._need_prompt_logprobs()
        return self._loop.run(_gathered([self._score([int(token) for token in ids]) for ids in sequences]))

    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        if not self.capabilities.chosen_logprobs:
            self._need_prompt_logprobs()
        work = [
            self._next_logprobs([int(token) for token in ids], [int(token) for token in tokens])
            for ids, tokens in zip(prefixes, allowed, strict=True)
        ]
        return self._loop.run(_gathered(work))

    def load_adapter(self, path: str | Path, name: str | None = None) -> None:
        """Load a LoRA adapter on every server (vLLM) and use it from now on.

        Args:
            path: directory of the adapter, as the servers see it.
            name: name to serve it under. Default: the directory's name.

        Raises:
            EngineError: if a server can't load it, or does not allow it.
        """
        path = Path(path).resolve()
        name = name or path.name

        async def load(endpoint: Endpoint) -> None:
            try:
                await endpoint.load_adapter(name, str(path))
            except RequestRefused as error:
                raise EngineError(
                    f"{error} when asked to load the adapter {path}; start vLLM with --enable-lora --lora-modules "
                    f"{name}={path} and give {name} as the served model"
                ) from error
            endpoint.model = name

        self._loop.run(self._pool.each(load))
        self.model = name

    def describe(self) -> dict[str, Any]:
        owners = dict.fromkeys(str(entry.get("owned_by")) for entry in self._served if entry.get("owned_by"))
        return {
            "kind": "server",
            "urls": [endpoint.url for endpoint in self._pool.alive],
            "model": self.model,
            "server": ", ".join(owners),
            "context": self._context,
            "capabilities": asdict(self.capabilities),
            "notes": self.notes,
            "versions": {"openai": version("openai")},
        }

    def close(self) -> None:
        """Drop pending requests, close the connections and end the thread."""
        self._loop.close(self._pool.close())

    async def _probe(self) -> Capabilities:
        """Probe the capabilities of all servers alive.

        Raises:
            EngineError: if their capabilities differ.
        """
        found: list[tuple[str, Capabilities]] = []

        async def probe_one(endpoint: Endpoint) -> None:
            async def ask(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
                return endpoint.url, await endpoint.complete(body, first=PROBE_TIMEOUT)

            found.append((endpoint.url, await probe(ask, self.tokenizer)))

        await self._pool.each(probe_one)
        for url, other in found[1:]:
            if other != found[0][1]:
                raise EngineError(f"{found[0][0]} and {url} differ in capabilities; give servers of one kind")
        return found[0][1]

    def _smallest_context(self) -> int | None:
        """Return the context in tokens, if reported: by vLLM in `max_model_len`, by llama.cpp in `meta.n_ctx`."""
        told = []
        for entry in self._served:
            meta = entry.get("meta")
            told.append(entry.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None))
        return min((size for size in told if isinstance(size, int) and size > 0), default=None)

    async def _answer(self, key: Hashable, prompt_ids: list[int], sampling: Sampling) -> None:
        """Put the answer, or the error, into the queue that `collect` reads."""
        try:
            self._done.put((key, await self._complete(key, prompt_ids, sampling)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # otherwise `collect` would wait forever
            self._done.put((key, error))

    async def _complete(self, key: Hashable, prompt_ids: list[int], sampling: Sampling) -> Completion:
        if not prompt_ids:
            return Completion(key, [], "the prompt is empty; it needs at least one token")
        if self._context is not None and len(prompt_ids) >= self._context:
            reason = f"the prompt has {len(prompt_ids)} tokens, but the server's context holds {self._context}"
            return Completion(key, [], reason)
        body = self._body(prompt_ids, sampling)
        try:
            choices = await self._choices(body, sampling.n)
        except RequestRefused as error:
            return Completion(key, [], str(error))
        samples, broken_off = [], []
        for url, choice in choices:
            try:
                samples.append(self._reader.read(url, choice, sampling))
            except BrokenOff as error:
                broken_off.append(str(error))
        return Completion(key, samples, broken_off[0] if broken_off else None)

    async def _choices(self, body: dict[str, Any], n: int) -> list[tuple[str, dict[str, Any]]]:
        """Return `n` choices with the URLs that they came from: from one request, or from `n` requests if the server
        does not accept `n`, or only a smaller one (llama.cpp: at most its number of slots)."""
        if n == 1 or self.capabilities.n:
            try:
                url, reply = await self._pool.complete(body | {"n": n})
                return [(url, choice) for choice in choices_of(url, reply, n)]
            except RequestFailed:
                raise
            except RequestRefused:
                if n == 1:
                    raise
        replies = await _gathered([self._pool.complete(body | {"n": 1, "seed": body["seed"] + i}) for i in range(n)])
        return [(url, choices_of(url, reply, 1)[0]) for url, reply in replies]

    def _body(self, prompt_ids: list[int], sampling: Sampling) -> dict[str, Any]:
        """Return all fields of a request except `n`.

        Raises:
            EngineError: if the server lacks a required capability.
        """
        can = self.capabilities
        tokens = sampling.max_new_tokens
        if self._context is not None:
            tokens = min(tokens, self._context - len(prompt_ids))
        body: dict[str, Any] = {
            "prompt": prompt_ids,
            "max_tokens": tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": _seed(sampling.seed, prompt_ids),
        }
        if can.plain_sampling:
            body |= PLAIN_SAMPLING
        if sampling.logprobs:
            self._need(can.logprobs, "log-probabilities of generated tokens")
        if sampling.logprobs or can.generated_ids in ("logprobs content", "token_id strings"):
            body |= SAMPLED_LOGPROBS
        if can.generated_ids == "token_ids":
            body["return_token_ids"] = True
        elif can.generated_ids == "token_id strings":
            body["return_tokens_as_token_ids"] = True
        if sampling.temperature > 0:
            if sampling.top_k:
                self._need(can.top_k, "samples by top_k")
                body["top_k"] = sampling.top_k
            if not can.seed:
                self._note("the server ignores seeds: another run draws other samples")
        # If the server can't stop there, the answer is cut afterwards.
        if sampling.stop and can.stop:
            body["stop"] = list(sampling.stop)
        if can.stop_token_ids:
            body["stop_token_ids"] = self._reader.ends(sampling)
        return body

    async def _score(self, ids: list[int]) -> list[float]:
        if len(ids) < 2:
            return []
        by_field = self.capabilities.prompt_logprobs == "prompt_logprobs"
        extra = {"prompt_logprobs": 1} if by_field else {"echo": True, **SAMPLED_LOGPROBS}
        url, choice = await self._one({"prompt": ids, "max_tokens": 1, "temperature": 0, **extra})
        return prompt_logprobs(url, choice, ids)

    async def _next_logprobs(self, prefix: list[int], tokens: list[int]) -> list[float]:
        if not tokens:
            return []
        if not self.capabilities.chosen_logprobs:
            scores = await _gathered([self._score([*prefix, token]) for token in tokens])
            return [score[-1] for score in scores]
        body = {"prompt": prefix, "max_tokens": 1, "temperature": 0, **chosen_logprobs_fields(tokens)}
        url, choice = await self._one(body)
        return named_logprobs(url, choice, tokens)

    async def _one(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        try:
            url, reply = await self._pool.complete(body)
        except RequestRefused as error:
            raise EngineError(str(error)) from error
        return url, choices_of(url, reply, 1)[0]

    def _need_prompt_logprobs(self) -> None:
        if self.capabilities.prompt_logprobs == "not asked":
            how = self._loop.run(probe_prompt_logprobs(self._pool.complete, self.tokenizer))
            self.capabilities = replace(self.capabilities, prompt_logprobs=how)
        self._need(self.capabilities.prompt_logprobs != "no", "log-probabilities of the prompt's tokens")

    def _need(self, able: bool, ability: str) -> None:
        if not able:
            raise EngineError(
                f"{self._pool.alive[0].url} can't return {ability}, which are needed here; use a vLLM server"
            )

    def _note(self, text: str) -> None:
        self._said.setdefault(text)


async def _gathered(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    return list(await asyncio.gather(*work))


def _seed(seed: int, prompt_ids: Sequence[int]) -> int:
    """Return the seed to send. Servers draw sample i from seed + i, so adjacent seeds would share samples, and all
    prompts their random numbers; hence a hash, with room for i below 2^31."""
    return zlib.crc32(np.asarray([seed % 2**63, *prompt_ids], dtype=np.int64).tobytes()) >> 2
