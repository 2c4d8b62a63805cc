"""The interface of every engine: generate from token ids, score them, and return the likelihood of given next tokens.

Work is submitted piece by piece (`submit`) and returned as it completes, in any order (`collect`). A caller that drives
many conversations or trees at once can submit the next step of one while the others are still running, so the engine
is never idle; `generate` is the simple form.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from rolewise.core.errors import InputError, RolewiseError


class EngineError(RolewiseError):
    """The engine as a whole can't continue, such as when its server is gone. The message is one line for the user."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings for continuing a prompt.

    Attributes:
        max_new_tokens: maximum number of new tokens.
        temperature: sampling temperature; 0 always takes the likeliest token and ignores `top_p`, `top_k` and `seed`.
        top_p: keep only the likeliest tokens that make up this share of the probability; 1 keeps all.
        top_k: keep only this many of the likeliest tokens; 0 keeps all.
        n: number of samples per prompt.
        seed: where the engine supports it, sample i of a prompt depends on (seed, i) only, not on other requests.
        stop: texts that end a sample; its ids end with the token that completed one.
        stop_token_ids: tokens that end a sample, in addition to those that end the model's turns.
        logprobs: True to fill `Sample.logprobs`.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    n: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}; it must be 0 (all) or more")
        if self.n < 1:
            raise InputError(f"n is {self.n}; it must be at least 1")


@dataclass(frozen=True)
class Sample:
    """One continuation of a prompt.

    Attributes:
        ids: tokens of the sample, including the token that ended it if there is one.
        logprobs: log-probability (nats) of each token under the model itself, before temperature, top-p and top-k; None
            if not requested.
        finish_reason: `stop` for an end token or a stop text, `length` for `max_new_tokens` or a full context.
    """

    ids: list[int]
    logprobs: list[float] | None
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """Outcome of one request: its samples, and the reason if there are none (for example, a prompt longer than the
    context) or fewer than requested (a server's filter)."""

    key: Hashable
    samples: list[Sample]
    error: str | None = None


class Engine(ABC):
    """A model that answers requests. Use it as a context manager, or call `close`.

    Attributes:
        tokenizer: Transformers tokenizer of the ids that go in and come out.
        concurrency: useful number of concurrent requests; further ones wait.
    """

    tokenizer: Any
    concurrency: int

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how the answers were produced; the list may grow while the engine runs."""
        return []

    @property
    def context(self) -> int | None:
        """Maximum number of tokens in a prompt and its continuation together; None if unknown."""
        return None

    @property
    def gives_logprobs(self) -> bool:
        """True if the engine can fill `Sample.logprobs`."""
        return True

    @abstractmethod
    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        """Submit a request and return immediately.

        Args:
            key: identifier returned with the answer; no two pending requests may share one.
            prompt_ids: tokens of the prompt, at least one.
            sampling: sampling settings.
        """

    @abstractmethod
    def collect(self) -> list[Completion]:
        """Wait until at least one request is done and return all that are; empty if none is pending.

        Raises:
            EngineError: if the engine can't continue.
        """

    @abstractmethod
    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probability (nats) of every token given those before it, for S sequences of T_s tokens: S
        lists of T_s - 1 numbers, starting with the second token's.

        Raises:
            EngineError: if the engine can't continue, or can't score.
        """

    @abstractmethod
    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Return log-probabilities (nats, over the whole vocabulary) of the allowed next tokens of each prefix.

        Args:
            prefixes: P prefixes, as token ids.
            allowed: for each prefix, the tokens to look up.

        Returns:
            P lists, in the order of `allowed`.

        Raises:
            EngineError: if the engine can't continue, or can't return log-probabilities.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the description of the engine for a run's records: kind, model, precision, versions; JSON values."""

    def forget(self) -> None:  # noqa: B027, an engine may keep nothing
        """Drop cached state of earlier prompts; call it after changing the weights of the engine's model."""

    def close(self) -> None:  # noqa: B027, an engine may hold nothing
        """Release the engine's resources."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Sample]]:
        """Return the samples of each prompt, in order.

        Raises:
            EngineError: if the engine can't continue, or one of the prompts can't be answered.
        """
        for number, prompt in enumerate(prompts):
            self.submit(number, prompt, sampling)
        samples: dict[Hashable, list[Sample]] = {}
        while done := self.collect():
            for completion in done:
                if completion.error is not None:
                    raise EngineError(f"prompt {completion.key}: {completion.error}")
                samples[completion.key] = completion.samples
        return [samples[number] for number in range(len(prompts))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
