"""Capabilities of a completions server, probed by requests: many servers ignore unknown fields and still answer 200."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rolewise.core.limits import one_line
from rolewise.engines.base import EngineError
from rolewise.engines.completion_replies import (
    IdSource,
    ReplyError,
    choices_of,
    finish_reason,
    generated_ids,
    generated_logprobs,
    named_logprobs,
    prompt_logprobs,
)
from rolewise.engines.endpoints import RequestRefused

PROBE_TOKENS = 8
PROBE_TEXT = "One, two, three, four,"
PLAIN_SAMPLING: dict[str, Any] = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}
"""Sent with every request if the server accepts it. Servers have defaults of their own (llama.cpp cuts off below
min_p 0.05) or take them from the model's files (vLLM)."""
SAMPLED_LOGPROBS: dict[str, Any] = {"logprobs": 1}

PromptLogprobs = Literal["prompt_logprobs", "echo", "no", "not asked"]
Ask = Callable[[Mapping[str, Any]], Awaitable[tuple[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a server.

    Attributes:
        generated_ids: form in which the ids of generated tokens are returned.
        logprobs: True if the server returns log-probabilities of generated tokens.
        prompt_logprobs: source of log-probabilities of the prompt's tokens: the field `prompt_logprobs`, `echo`, or
            none; probed only when needed, because the request crashes vLLM 0.32 on a CPU with LoRA.
        chosen_logprobs: True if the server returns log-probabilities of given next tokens (`logprob_token_ids`).
        n: True if a request can ask for several samples.
        seed: True if the same seed gives the same samples.
        stop: True if the server supports stop texts.
        stop_token_ids: True if the server supports stop tokens.
        top_k: True if the server can restrict sampling to the k likeliest tokens.
        plain_sampling: True if the server accepts the settings that switch off its own defaults.
    """

    generated_ids: IdSource
    logprobs: bool
    prompt_logprobs: PromptLogprobs
    chosen_logprobs: bool
    n: bool
    seed: bool
    stop: bool
    stop_token_ids: bool
    top_k: bool
    plain_sampling: bool


async def probe(ask: Ask, tokenizer: Any) -> Capabilities:
    """Probe a server's capabilities, except `prompt_logprobs`, with a few short requests.

    Args:
        ask: function that sends a completion request, like `EndpointPool.complete`.
        tokenizer: tokenizer of the model.

    Raises:
        EngineError: if the server can't be reached, or is unusable because it does not accept token ids as a prompt.
    """
    prober = _Prober(ask, tokenizer)
    greedy = await prober.greedy()
    source, ids = await prober.id_source(greedy)
    logprobs, of_chosen, n = await asyncio.gather(prober.logprobs(), prober.chosen_logprobs(), prober.several())
    seed, stop, stop_token_ids, top_k, plain_sampling = await asyncio.gather(
        prober.seed(),
        prober.stop(greedy),
        prober.stop_token_ids(greedy, ids),
        prober.top_k(greedy),
        prober.takes(PLAIN_SAMPLING),
    )
    return Capabilities(
        generated_ids=source,
        logprobs=logprobs,
        prompt_logprobs="not asked",
        chosen_logprobs=of_chosen,
        n=n,
        seed=seed,
        stop=stop,
        stop_token_ids=stop_token_ids,
        top_k=top_k,
        plain_sampling=plain_sampling,
    )


async def probe_prompt_logprobs(ask: Ask, tokenizer: Any) -> PromptLogprobs:
    """Find out how a server returns the log-probabilities of a prompt's tokens; arguments as for `probe`.

    Raises:
        EngineError: if the server can't be reached.
    """
    return await _Prober(ask, tokenizer).prompt_logprobs()


class _Prober:
    def __init__(self, ask: Ask, tokenizer: Any) -> None:
        self._ask, self._tokenizer = ask, tokenizer
        self._prompt_ids: list[int] = list(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])

    async def greedy(self) -> dict[str, Any]:
        """Return the likeliest continuation, which the other probes build on.

        Raises:
            EngineError: if the server does not accept token ids as a prompt.
        """
        body = {"prompt": self._prompt_ids, "max_tokens": PROBE_TOKENS, "temperature": 0}
        try:
            url, reply = await self._ask(body)
        except RequestRefused as error:
            raise EngineError(f"{error} when sent token ids as the prompt; the server must accept them") from error
        [choice] = choices_of(url, reply, 1)
        if finish_reason(choice) is None:  # later this would concern one sample, here it is the server's behavior
            said = one_line(repr(choice.get("finish_reason")))
            raise EngineError(f"{url}/completions: the reply has 'choices[].finish_reason' {said}, not stop or length")
        usage = reply.get("usage")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if counted is not None and counted != len(self._prompt_ids):
            raise EngineError(
                f"{url} reads a prompt of {len(self._prompt_ids)} token ids as {counted} tokens; "
                "it must accept token ids unchanged and serve the model of this tokenizer"
            )
        return choice

    async def id_source(self, greedy: dict[str, Any]) -> tuple[IdSource, list[int]]:
        """Return the form in which ids are returned, and the ids of the likeliest continuation.

        Raises:
            EngineError: if the returned ids decode to another text here than on the server; prompts would differ too.
        """
        extras: list[dict[str, Any]] = [
            {"return_token_ids": True},
            {"return_tokens_as_token_ids": True, **SAMPLED_LOGPROBS},
            SAMPLED_LOGPROBS,
        ]
        sources: Sequence[IdSource] = get_args(IdSource)
        differing = ""
        for source, extra in zip(sources[:-1], extras, strict=True):
            choice = await self._choice(extra)
            ids = choice and generated_ids(choice, source)
            if not choice or not ids:
                continue
            if self._says(ids, choice["text"]):
                return source, ids
            differing = f"{ids} are {choice['text']!r} there and {self._text(ids)!r} here"
        if differing:
            raise EngineError(f"the server's tokens are not this tokenizer's: {differing}; name the model it serves")
        return "text", list(self._tokenizer(greedy["text"], add_special_tokens=False)["input_ids"])

    async def logprobs(self) -> bool:
        choice = await self._choice(SAMPLED_LOGPROBS)
        return bool(choice and generated_logprobs(choice))

    async def prompt_logprobs(self) -> PromptLogprobs:
        if await self._tells_of_prompt({"prompt_logprobs": 1}):
            return "prompt_logprobs"
        return "echo" if await self._tells_of_prompt({"echo": True, **SAMPLED_LOGPROBS}) else "no"

    async def _tells_of_prompt(self, extra: Mapping[str, Any]) -> bool:
        choice = await self._choice({**extra, "max_tokens": 1})
        try:
            return choice is not None and len(prompt_logprobs("", choice, self._prompt_ids)) > 0
        except ReplyError:
            return False

    async def chosen_logprobs(self) -> bool:
        tokens = self._prompt_ids[:2]
        choice = await self._choice({"max_tokens": 1, **chosen_logprobs_fields(tokens)})
        try:
            return choice is not None and len(named_logprobs("", choice, tokens)) > 0
        except ReplyError:
            return False

    async def several(self) -> bool:
        body = {"max_tokens": 1, "n": 2, "temperature": 1.0}
        return await self._choice(body, count=2) is not None

    async def seed(self) -> bool:
        """Return True if two draws with one seed agree and a draw with another seed differs; the temperature is high
        enough to rule out chance."""
        draws = [await self._choice({"temperature": 1.5, "seed": seed}) for seed in (1, 1, 2)]
        texts = [choice["text"] for choice in draws if choice]
        return len(texts) == 3 and texts[0] == texts[1] != texts[2]

    async def stop(self, greedy: dict[str, Any]) -> bool:
        text = str(greedy["text"])
        stop = text.strip()[1:3] or text
        choice = await self._choice({"stop": [stop]}) if stop else None
        return bool(choice and choice.get("finish_reason") == "stop" and stop not in choice["text"])

    async def stop_token_ids(self, greedy: dict[str, Any], ids: Sequence[int]) -> bool:
        choice = await self._choice({"stop_token_ids": [ids[0]]}) if ids else None
        return bool(choice and choice.get("finish_reason") == "stop" and choice["text"] != greedy["text"])

    async def top_k(self, greedy: dict[str, Any]) -> bool:
        """Return True if sampling at a high temperature from a single token gives the greedy answer."""
        choice = await self._choice({"temperature": 2.0, "top_k": 1})
        return choice is not None and choice["text"] == greedy["text"]

    async def takes(self, extra: Mapping[str, Any]) -> bool:
        return await self._choice({**extra, "max_tokens": 1}) is not None

    async def _choice(self, extra: Mapping[str, Any], count: int = 1) -> dict[str, Any] | None:
        """Return the first choice for a request with extra fields; None after a refusal or a bad reply."""
        body = {"prompt": self._prompt_ids, "max_tokens": PROBE_TOKENS, "temperature": 0, **extra}
        try:
            url, reply = await self._ask(body)
            return choices_of(url, reply, count)[0]
        except (RequestRefused, ReplyError):
            return None

    def _says(self, ids: Sequence[int], text: str) -> bool:
        """Return True if ids decode to a text, up to special tokens and, at its ends, spaces and partial characters."""
        around = " \t\r\n\N{REPLACEMENT CHARACTER}"
        return self._text(ids).strip(around) == text.strip(around)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def chosen_logprobs_fields(tokens: Sequence[int]) -> dict[str, Any]:
    """Return the request fields that ask for the log-probabilities of given next tokens (vLLM)."""
    return {"logprobs": 0, "logprob_token_ids": list(tokens), "return_tokens_as_token_ids": True}
