"""Judges of paths by name, for `--value`."""

from rolewise.core.errors import InputError
from rolewise.rewards.process_reward import ProcessRewardModel
from rolewise.search.judges import FunctionValues, MathValues, ValueFunction
from rolewise.search.values import Values

MATH = "math"

_registered: dict[str, ValueFunction] = {}


def register_value(name: str, function: ValueFunction) -> None:
    """Register a custom value function under a name.

    Load the file that does so with `--plugin my_value.py`, and select the function with `--value short`:

        from rolewise import register_value

        def short(question, steps):
            return 1 / len(steps), steps[-1].text

        register_value("short", short)

    Args:
        name: name of the function; a second registration replaces the first; `math` is reserved.
        function: function that takes a `Question` and its `Step`s, and returns the path's value, or the value and the
            answer, for votes.

    Raises:
        ValueError: for the reserved name.
    """
    if name == MATH:
        raise ValueError(f"the name {name!r} is taken by a built-in value; choose another")
    _registered[name] = function


def value_names() -> list[str]:
    """Return the names that `make_values` accepts."""
    return [MATH, *_registered]


def make_values(
    name: str = MATH,
    *,
    process_reward: ProcessRewardModel | None = None,
    wrong_with_answer: float = 0.0,
    numeric: bool = False,
    blind: bool = False,
) -> Values:
    """Create the judge called `name`; the other arguments are for `MathValues` only.

    Raises:
        InputError: for an unknown name, or a process-reward model for a function, which would not use it.
    """
    if name == MATH:
        return MathValues(process_reward, wrong_with_answer, numeric=numeric, blind=blind)
    if name not in _registered:
        known = ", ".join(value_names())
        raise InputError(f"value {name!r} is not known; choose from {known}, or name the --plugin that adds it")
    if process_reward is not None:
        raise InputError(f"value {name!r} is a function and uses no process-reward model; remove that option")
    return FunctionValues(_registered[name], name)
