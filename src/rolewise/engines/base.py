"""What every engine does: generate from token ids, score them, and say how likely each of a few next tokens is.

Work is handed in piece by piece (`submit`) and comes back as it is done, in any order (`collect`). So whoever drives
many conversations or trees at once hands in the next step of one while the others are still at theirs, and the engine
is never idle; `generate` is the plain form of it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from rolewise.core.errors import InputError, RolewiseError


class EngineError(RolewiseError):
    """The engine as a whole can't go on, say because its server is gone. The message is one line for the user."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to continue a prompt.

    Attributes:
        max_new_tokens: at most so many tokens.
        temperature: 0 takes the likeliest token every time; then `top_p`, `top_k` and `seed` change nothing.
        top_p: only the likeliest tokens that make up this share of the probability; 1 takes all.
        top_k: only so many of the likeliest tokens; 0 takes all.
        n: samples per prompt.
        seed: samples number i of a prompt come from (seed, i), whatever else is under way, where the engine can.
        stop: texts that end a sample; its ids go up to the token that completed one.
        stop_token_ids: tokens that end it, beside those that end the model's turns.
        logprobs: whether `Sample.logprobs` is wanted.
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
        ids: its tokens, with the token that ended it where one did.
        logprobs: log-probability (nats) of each under the model itself, before temperature, top-p and top-k; None
            where they were not asked for.
        finish_reason: `stop` for an end token or a stop text, `length` for `max_new_tokens` or a full context.
    """

    ids: list[int]
    logprobs: list[float] | None
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """What came of one request: its samples, or why there are none (a prompt longer than the context, say), or fewer
    than were asked for (a server's filter)."""

    key: Hashable
    samples: list[Sample]
    error: str | None = None


class Engine(ABC):
    """A model that can be asked. Use it as a context manager, or call `close`.

    Attributes:
        tokenizer: the Transformers tokenizer whose ids go in and come out.
        concurrency: requests that it is worth to have under way at once; more wait.
    """

    tokenizer: Any
    concurrency: int

    @property
    def notes(self) -> list[str]:
        """What the user should know of how the answers came about; it may grow while the engine runs."""
        return []

    @property
    def context(self) -> int | None:
        """Tokens of a prompt and its continuation together at most; None where that is not known."""
        return None

    @property
    def gives_logprobs(self) -> bool:
        """Whether `Sample.logprobs` can be had."""
        return True

    @abstractmethod
    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        """Hand in a request; returns at once.

        Args:
            key: comes back with the answer; no two requests under way may share one.
            prompt_ids: the prompt's tokens, at least one.
            sampling: how to go on from there.
        """

    @abstractmethod
    def collect(self) -> list[Completion]:
        """Wait until at least one request is done, and return those that are; empty if none is under way.

        Raises:
            EngineError: if the engine can't go on.
        """

    @abstractmethod
    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability (nats) of every token given those before it, for S sequences of T_s tokens: S lists of
        T_s - 1 numbers, the first of them the second token's.

        Raises:
            EngineError: if the engine can't go on, or can't score.
        """

    @abstractmethod
    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probabilities (nats, of the whole vocabulary's distribution) of the allowed next tokens of each prefix.

        Args:
            prefixes: P prefixes, as token ids.
            allowed: of each prefix, the tokens in question.

        Returns:
            P lists, in the order of `allowed`.

        Raises:
            EngineError: if the engine can't go on, or can't tell.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a record of a run should say of the engine: kind, model, precision, versions; JSON values."""

    def forget(self) -> None:  # noqa: B027, an engine may keep nothing
        """Drop what is kept of earlier prompts; for whoever changes the model's weights while the engine holds it."""

    def close(self) -> None:  # noqa: B027, an engine may hold nothing
        """Give back what the engine holds."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Sample]]:
        """Samples of each prompt, in order.

        Raises:
            EngineError: if the engine can't go on, or one of the prompts can't be answered.
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
