"""Judges of paths by name: what `--value` takes."""

from rolewise.core.errors import InputError
from rolewise.rewards.process_reward import ProcessRewardModel
from rolewise.search.judges import FunctionValues, MathValues, ValueFunction
from rolewise.search.values import Values

MATH = "math"

_registered: dict[str, ValueFunction] = {}


def register_value(name: str, function: ValueFunction) -> None:
    """Make a value function of your own known by a name.

    A file that does so is named by `--plugin my_value.py`, and the function by `--value short`:

        from rolewise import register_value

        def short(question, steps):
            return 1 / len(steps), steps[-1].text

        register_value("short", short)

    Args:
        name: a second registration replaces the first; `math` is taken.
        function: from a `Question` and its `Step`s to the path's value, or to the value and the answer, for votes.

    Raises:
        ValueError: for the name that is taken.
    """
    if name == MATH:
        raise ValueError(f"the name {name!r} is taken by Rolewise's own; choose another")
    _registered[name] = function


def value_names() -> list[str]:
    """The names that `make_values` knows."""
    return [MATH, *_registered]


def make_values(
    name: str = MATH,
    *,
    process_reward: ProcessRewardModel | None = None,
    wrong_with_answer: float = 0.0,
    numeric: bool = False,
    blind: bool = False,
) -> Values:
    """The judge called `name`; the other arguments are `MathValues`'s, and for it alone.

    Raises:
        InputError: for an unknown name, or a process-reward model for a function that would not ask it.
    """
    if name == MATH:
        return MathValues(process_reward, wrong_with_answer, numeric=numeric, blind=blind)
    if name not in _registered:
        known = ", ".join(value_names())
        raise InputError(f"value {name!r} is not known; choose from {known}, or name the --plugin that adds it")
    if process_reward is not None:
        raise InputError(f"value {name!r} is a function and asks no process-reward model; leave that out")
    return FunctionValues(_registered[name], name)
