"""Reward functions by name, for `rolewise grpo --reward`."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.rewards.presets import REWARD_PRESETS
from rolewise.rewards.tool_calls import ToolCallRules, tool_call_rewards

RewardFunction = Callable[..., Sequence[float | None]]
"""Signature that TRL calls: `f(prompts=…, completions=…, completion_ids=…, **columns)` returns a number for each
completion.

None or NaN marks completions that the reward does not apply to.
"""

_registered: dict[str, RewardFunction] = {}


def register_reward(name: str, function: RewardFunction) -> None:
    """Register a custom reward function under a name.

    Load the file that does so with `--plugin my_reward.py`, and select the reward with `--reward rest,short`:

        from rolewise import register_reward

        def short(completions, **columns):
            return [-len(text) / 1000 for text in completions]

        register_reward("short", short)

    Args:
        name: name of the reward; a second registration replaces the first; the names of `REWARD_PRESETS` are reserved.
        function: reward function as for TRL; each column of the data is passed as an argument of its name.

    Raises:
        ValueError: for a reserved name, or a function that is not callable.
    """
    if not callable(function):
        raise ValueError(f"the reward {name!r} is {type(function).__name__}, not a function")
    if name in REWARD_PRESETS:
        raise ValueError(f"the name {name!r} is taken by a built-in reward; choose another")
    _registered[name] = function


def reward_names() -> list[str]:
    """Return the names that `make_rewards` accepts."""
    return [*REWARD_PRESETS, *_registered]


def make_rewards(names: Sequence[str], rules: Callable[[ToolCallRules], ToolCallRules]) -> list[RewardFunction]:
    """Return the reward functions called `names`, to be summed; a preset gives one for each of its parts.

    Args:
        names: names of presets and registered functions.
        rules: function that applies the user's changes to a preset.

    Raises:
        InputError: for an unknown name, a name given twice, or no name.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"reward {', '.join(names)!r}: name one or more rewards, each once")
    functions: list[RewardFunction] = []
    for name in names:
        if name in REWARD_PRESETS:
            functions += tool_call_rewards(rules(REWARD_PRESETS[name]))
        elif name in _registered:
            functions.append(_checked(name, _registered[name]))
        else:
            known = ", ".join(reward_names())
            raise InputError(f"reward {name!r} is not known; choose from {known}, or name the --plugin that adds it")
    return functions


def _checked(name: str, function: RewardFunction) -> RewardFunction:
    """Wrap a user's reward function, so that it is logged under its registered name and its errors are one line."""

    async def asked_async(*, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        try:
            values = await function(completions=completions, **columns)  # type: ignore[misc]
        except Exception as error:  # a user's program can fail in any way
            raise _failed(name, error) from error
        return _as_rewards(name, values, len(completions))

    def asked(*, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        try:
            values = function(completions=completions, **columns)
        except Exception as error:  # as above
            raise _failed(name, error) from error
        return _as_rewards(name, values, len(completions))

    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    reward: Any = asked_async if is_async else asked
    reward.__name__ = name
    reward.reads_sampled_text = True  # like the presets; see `GRPOSeams`
    return reward  # type: ignore[no-any-return]


def _failed(name: str, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = " ".join(str(error).split())
    return InputError(f"the reward {name!r} failed ({type(error).__name__}: {reason}); fix its plugin")


def _as_rewards(name: str, values: Any, count: int) -> list[float | None]:
    try:
        given = list(values)
    except TypeError:
        raise InputError(f"the reward {name!r} gave {values!r:.60}; return a list, one number per completion") from None
    try:
        rewards = [None if value is None else float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise InputError(f"the reward {name!r} returned values that are not numbers: {error}") from error
    if len(rewards) != count:
        raise InputError(
            f"the reward {name!r} gave {len(rewards)} numbers for {count} completions; return one for each"
        )
    if any(reward is not None and math.isinf(reward) for reward in rewards):
        raise InputError(f"the reward {name!r} gave an infinite number; return a finite one, or None if it has none")
    return rewards
