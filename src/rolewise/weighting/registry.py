"""Weightings by name: Rolewise's own, and those that plugins register."""

from collections.abc import Callable

from rolewise.core.components import Arguments, Components
from rolewise.weighting.base import Weighting

WEIGHTINGS: Components[Weighting] = Components("weighting", "rolewise.weighting.schemes")
"""The weightings of roles; modules in `weighting/schemes` that register one are found automatically."""
REGION_WEIGHTINGS: Components[Weighting] = Components("weighting", "rolewise.weighting.region_schemes")
"""The weightings of regions, which `rolewise grpo` takes."""


def register_weighting(name: str, make: Callable[..., Weighting]) -> None:
    """Register a scheme of your own under a name that `--weighting` and `WeightedSFTConfig` then accept.

    Args:
        name: a second registration replaces the first; the names of Rolewise's own schemes are reserved.
        make: the class itself, or a function that makes one. Its parameters are options: `--weighting-arg NAME=VALUE`
            and `weighting_args`.

    Raises:
        ValueError: for the name of one of Rolewise's own schemes.
    """
    WEIGHTINGS.register(name, make)


def make_weighting(name: str, arguments: Arguments = None) -> Weighting:
    """Return the scheme called `name`, made with these arguments by name.

    Raises:
        InputError: for an unknown name or argument, a value out of range, or a registered scheme that can't be made.
    """
    return WEIGHTINGS.make(name, arguments)
