"""Who judges the paths of a search or of reinforcement, by a command's options."""

from typing import Protocol

from rolewise.core.errors import InputError
from rolewise.jobs.engines import read_key
from rolewise.rewards.process_reward_models import open_process_reward
from rolewise.search.value_registry import MATH, make_values
from rolewise.search.values import Values
from rolewise.training.models import model_fingerprint


class ValueOptions(Protocol):
    """What the options of a command that judges paths have in common; `SearchOptions` says what they mean."""

    value: str
    wrong_with_answer: float
    numeric: bool
    process_reward: str | None
    process_reward_format: str | None
    process_reward_key: str | None
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
            api_key=read_key(options.process_reward_key, "process_reward_key"),
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
        InputError: for an unknown value, one that asks no process-reward model where one is given, or a key that is
            not there.
    """
    read_key(options.process_reward_key, "process_reward_key")
    if options.process_reward is not None and options.value != MATH:
        raise InputError(f"value {options.value!r} is a function and asks no process_reward; leave that out")
    make_values(options.value, wrong_with_answer=options.wrong_with_answer, numeric=options.numeric).close()


def values_identity(options: ValueOptions) -> dict[str, str | None]:
    """What tells one process-reward model from another, in the place of the options that say where it is.

    A server may move, and what it serves is not known; a model's folder may move, and its content counts.

    Raises:
        InputError: if there is no such model.
    """
    where = options.process_reward
    if where is None or "://" in where:
        judge = None if where is None else "server"
    else:
        judge = model_fingerprint(where, trust_remote_code=options.trust_remote_code)
    return {"process_reward": judge, "process_reward_key": None}
