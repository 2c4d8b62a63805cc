"""What can go wrong in a weighting of the user's own, told in one line that names it."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rolewise.core.errors import InputError, failing_in_one_line


def asking(weighting: object) -> AbstractContextManager[None]:
    """Where a weighting is asked for weights: what one of the user's own raises becomes one line.

    Raises:
        RolewiseError: naming the weighting and the error.
    """
    if type(weighting).__module__.startswith("rolewise."):
        return nullcontext()  # ours: a mistake of ours, of which we want to see all
    return failing_in_one_line(_named(weighting), "mend it")


def refuse_endless_weights(weighting: object, when: str) -> None:
    """Say that a weighting's weights, whose sum is not finite, can't be trained with.

    Raises:
        InputError: always.
    """
    raise InputError(f"{_named(weighting)}: a weight is nan or infinite in {when}; mend it, the model would be lost")


def _named(weighting: object) -> str:
    """`weighting TurnDecay (my_weighting.py)`."""
    made_of = weighting if inspect.isroutine(weighting) else type(weighting)
    try:
        file = f" ({Path(inspect.getfile(made_of)).name})"
    except (TypeError, OSError):  # made in an interactive session
        file = ""
    return f"weighting {made_of.__qualname__}{file}"
