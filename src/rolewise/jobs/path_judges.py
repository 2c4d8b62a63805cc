"""Judges of the paths of a search or of reinforcement learning, from a command's options."""

from rolewise.core.errors import InputError
from rolewise.jobs.engines import read_key
from rolewise.options.answers import SearchOptions
from rolewise.options.training import ReinforceOptions
from rolewise.rewards.process_reward_models import open_process_reward
from rolewise.search.value_registry import MATH, make_values
from rolewise.search.values import Values
from rolewise.training.models import model_fingerprint

ValueOptions = SearchOptions | ReinforceOptions
"""Options of a command that judges paths."""


def open_values(options: ValueOptions, *, blind: bool = False) -> Values:
    """Open the judge; the caller closes it.

    Args:
        options: options of the command.
        blind: do not read references, see `MathValues`.

    Raises:
        InputError: for an unknown value, or an unavailable process-reward model.
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
    """Check the options as `open_values` would, except for the process-reward model, which takes time to load.

    Raises:
        InputError: for an unknown value, a process-reward model given with a value that uses none, or a missing key.
    """
    read_key(options.process_reward_key, "process_reward_key")
    if options.process_reward is not None and options.value != MATH:
        raise InputError(f"value {options.value!r} is a function that uses no process_reward; leave process_reward out")
    make_values(options.value, wrong_with_answer=options.wrong_with_answer, numeric=options.numeric).close()


def values_identity(options: ValueOptions) -> dict[str, str | None]:
    """Return what identifies a process-reward model, in place of the options that locate it.

    A server may move, and its model is unknown; a model's folder may move, and its content counts.

    Raises:
        InputError: if there is no such model.
    """
    where = options.process_reward
    if where is None or "://" in where:
        judge = None if where is None else "server"
    else:
        judge = model_fingerprint(where, trust_remote_code=options.trust_remote_code)
    return {"process_reward": judge, "process_reward_key": None}
