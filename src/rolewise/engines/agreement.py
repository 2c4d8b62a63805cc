"""Whether two engines say the same.

Greedy decoding of one model on two engines may part where two tokens are equally likely up to rounding, and nowhere
else; from there on the two texts have nothing to do with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rolewise.engines.base import Engine, Sampling


@dataclass(frozen=True)
class Agreement:
    """How far two engines agree on a prompt.

    Attributes:
        equal: tokens before the first difference.
        length: tokens of the first engine's answer.
        gap: by how much (nats) the first engine prefers its own token to the other's at the first difference; None if
            there is none, or only one of the answers goes on.
        explained: whether they agree throughout, or the gap is within the bound.
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
        first: the one to go by; it must be able to tell the log-probabilities of next tokens.
        second: the other.
        prompts: as token ids.
        sampling: its temperature must be 0.
        gap: tokens whose log-probabilities (nats) lie this near each other may be taken for one another.

    Returns:
        One entry for each prompt.

    Raises:
        EngineError: if an engine can't answer.
        ValueError: for a temperature above 0.
    """
    if sampling.temperature > 0:
        raise ValueError(f"agreement is of greedy answers, and the temperature is {sampling.temperature}")
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
        engine: the one to go by, which gave the first answer; it must be able to tell log-probabilities.
        prompt: its token ids.
        one, other: the answers' token ids.
        gap: see `greedy_agreement`.

    Raises:
        EngineError: if the engine can't tell.
    """
    equal = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if equal is None:
        return Agreement(min(len(one), len(other)), len(one), None, len(one) == len(other))
    [logprobs] = engine.next_token_logprobs([[*prompt, *one[:equal]]], [[one[equal], other[equal]]])
    difference = logprobs[0] - logprobs[1]
    return Agreement(equal, len(one), difference, abs(difference) <= gap)
