"""Who judges the paths of a search or of reinforcement, by a command's options."""

from typing import Protocol

from rolewise.core.errors import InputError
from rolewise.rewards.process_reward_models import open_process_reward
from rolewise.search.value_registry import MATH, make_values
from rolewise.search.values import Values


class ValueOptions(Protocol):
    """What the options of a command that judges paths have in common; `SearchOptions` says what they mean."""

    value: str
    wrong_with_answer: float
    numeric: bool
    process_reward: str | None
    process_reward_format: str | None
    dtype: str
    trust_remote_code: bool


def open_values(options: ValueOptions, *, blind: bool = False) -> Values:
    """Who judges; whoever opens it closes it.

    Args:
        options: of the command.
        blind: references are not to be looked at, see `MathValues`.

    Raises:
        InputError: for an unknown value, or a process-reward model that can't be had.
    """
    process_reward = None
    if options.process_reward is not None:
        process_reward = open_process_reward(
            options.process_reward,
            options.process_reward_format,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
        )
    return make_values(
        options.value,
        process_reward=process_reward,
        wrong_with_answer=options.wrong_with_answer,
        numeric=options.numeric,
        blind=blind,
    )


def check_values(options: ValueOptions) -> None:
    """Refuse what `open_values` would, but for a process-reward model, which takes time to load.

    Raises:
        InputError: for an unknown value, or one that asks no process-reward model where one is given.
    """
    if options.process_reward is not None and options.value != MATH:
        raise InputError(f"value {options.value!r} is a function and asks no process_reward; leave that out")
    make_values(options.value, wrong_with_answer=options.wrong_with_answer, numeric=options.numeric).close()
