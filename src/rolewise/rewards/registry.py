"""Reward functions by name: what `rolewise grpo --reward` takes."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.rewards.tool_calls import REWARD_PRESETS, ToolCallRules, tool_call_rewards

RewardFunction = Callable[..., Sequence[float | None]]
"""What TRL calls: `f(prompts=…, completions=…, completion_ids=…, **columns)`, a number for each completion.

None, or NaN, is for completions that the reward has nothing to say about.
"""

_registered: dict[str, RewardFunction] = {}


def register_reward(name: str, function: RewardFunction) -> None:
    """Make a reward function of your own known by a name.

    A file that does so is named by `--plugin my_reward.py`, and the reward by `--reward rest,short`:

        from rolewise import register_reward

        def short(completions, **columns):
            return [-len(text) / 1000 for text in completions]

        register_reward("short", short)

    Args:
        name: a second registration replaces the first; the names of `REWARD_PRESETS` are taken.
        function: as TRL takes it; a column of the data is an argument of its name.

    Raises:
        ValueError: for a name that is taken, and what can't be called.
    """
    if not callable(function):
        raise ValueError(f"the reward {name!r} is {type(function).__name__}, not a function")
    if name in REWARD_PRESETS:
        raise ValueError(f"the name {name!r} is taken by a reward of Rolewise's own; choose another")
    _registered[name] = function


def reward_names() -> list[str]:
    """The names that `make_rewards` knows."""
    return [*REWARD_PRESETS, *_registered]


def make_rewards(names: Sequence[str], rules: Callable[[ToolCallRules], ToolCallRules]) -> list[RewardFunction]:
    """The reward functions called `names`, to be summed; a preset brings one for each of its parts.

    Args:
        names: of presets and registered functions.
        rules: changes what differs from a preset.

    Raises:
        InputError: for an unknown name, a name given twice, or none.
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
    """A user's reward function, logged by the name that it was registered by; what it does wrong is one line."""

    async def asked_async(*, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        try:
            values = await function(completions=completions, **columns)  # type: ignore[misc]
        except Exception as error:  # it is a user's program and can fail in any way
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
    reward.reads_sampled_text = True  # as the presets do; see `GRPOSeams`
    return reward  # type: ignore[no-any-return]


def _failed(name: str, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = " ".join(str(error).split())
    return InputError(f"the reward {name!r} failed ({type(error).__name__}: {reason}); mend its plugin")


def _as_rewards(name: str, values: Any, count: int) -> list[float | None]:
    try:
        given = list(values)
    except TypeError:
        raise InputError(f"the reward {name!r} gave {values!r:.60}; it returns a list, a number a completion") from None
    try:
        rewards = [None if value is None else float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise InputError(f"the reward {name!r} gave something else than numbers: {error}") from error
    if len(rewards) != count:
        raise InputError(f"the reward {name!r} gave {len(rewards)} numbers for {count} completions; give one for each")
    if any(reward is not None and math.isinf(reward) for reward in rewards):
        raise InputError(f"the reward {name!r} gave an infinite number; give a finite one, or None where it has none")
    return rewards
