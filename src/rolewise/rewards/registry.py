"""Reward functions by name: what `rolewise grpo --reward` takes."""

from collections.abc import Callable, Sequence

from rolewise.core.errors import InputError
from rolewise.rewards.tool_calls import REWARD_PRESETS, ToolCallRules, tool_call_rewards

RewardFunction = Callable[..., Sequence[float | None]]
"""What TRL calls: `f(prompts=…, completions=…, completion_ids=…, **columns)`, a number for each completion."""

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
        ValueError: for a name that is taken.
    """
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
            functions.append(_registered[name])
        else:
            known = ", ".join(reward_names())
            raise InputError(f"reward {name!r} is not known; choose from {known}, or name the --plugin that adds it")
    return functions
