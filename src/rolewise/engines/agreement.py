"""Compare the greedy answers of two engines.

Greedy decoding of one model on two engines may diverge where two tokens are equally likely up to rounding, and nowhere
else; from there on the two texts are unrelated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rolewise.engines.base import Engine, Sampling


@dataclass(frozen=True)
class Agreement:
    """Agreement of two engines on a prompt.

    Attributes:
        equal: number of tokens before the first difference.
        length: number of tokens in the first engine's answer.
        gap: the first engine's preference (nats) for its own token over the other's at the first difference; None if
            there is no difference, or only one of the answers continues.
        explained: True if they agree throughout, or the gap is within the bound.
    """

    equal: int
    length: int
    gap: float | None
    explained: bool


def greedy_agreement(
    first: Engine, second: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, *, gap: float = 1e-3
) -> list[Agreement]:
    """Compare the greedy answers of two engines.

    Args:
        first: reference engine; it must return log-probabilities of next tokens.
        second: other engine.
        prompts: prompts as token ids.
        sampling: its temperature must be 0.
        gap: largest difference of log-probabilities (nats) at which two tokens count as interchangeable.

    Returns:
        One entry for each prompt.

    Raises:
        EngineError: if an engine can't answer.
        ValueError: for a temperature above 0.
    """
    if sampling.temperature > 0:
        raise ValueError(f"agreement compares greedy answers, so temperature must be 0, not {sampling.temperature}")
    firsts, seconds = first.generate(prompts, sampling), second.generate(prompts, sampling)
    return [
        agreement(first, prompt, one[0].ids, other[0].ids, gap=gap)
        for prompt, one, other in zip(prompts, firsts, seconds, strict=True)
    ]


def agreement(
    engine: Engine, prompt: Sequence[int], one: Sequence[int], other: Sequence[int], *, gap: float = 1e-3
) -> Agreement:
    """Compare two greedy answers to a prompt.

    Args:
        engine: reference engine, which gave the first answer; it must return log-probabilities.
        prompt: token ids of the prompt.
        one, other: token ids of the answers.
        gap: see `greedy_agreement`.

    Raises:
        EngineError: if the engine can't return log-probabilities.
    """
    equal = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if equal is None:
        return Agreement(min(len(one), len(other)), len(one), None, len(one) == len(other))
    [logprobs] = engine.next_token_logprobs([[*prompt, *one[:equal]]], [[one[equal], other[equal]]])
    difference = logprobs[0] - logprobs[1]
    return Agreement(equal, len(one), difference, abs(difference) <= gap)
