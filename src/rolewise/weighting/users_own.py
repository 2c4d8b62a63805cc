"""Errors in a weighting of the user's own, reported in one line that names the weighting."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rolewise.core.errors import InputError, failing_in_one_line


def asking(weighting: object) -> AbstractContextManager[None]:
    """Return the context for calls of a weighting: an exception from one of the user's own becomes one line.

    Raises:
        RolewiseError: naming the weighting and the error.
    """
    if type(weighting).__module__.startswith("rolewise."):
        return nullcontext()  # ours: show our own mistakes with the full traceback
    return failing_in_one_line(_named(weighting), "fix it")


def refuse_endless_weights(weighting: object, when: str) -> None:
    """Refuse to train with a weighting's weights, whose sum is not finite.

    Raises:
        InputError: always.
    """
    raise InputError(f"{_named(weighting)}: a weight is nan or infinite in {when}; fix it, it would ruin the model")


def _named(weighting: object) -> str:
    """Return the weighting's name for messages, such as `weighting TurnDecay (my_weighting.py)`."""
    made_of = weighting if inspect.isroutine(weighting) else type(weighting)
    try:
        file = f" ({Path(inspect.getfile(made_of)).name})"
    except (TypeError, OSError):  # made in an interactive session
        file = ""
    return f"weighting {made_of.__qualname__}{file}"
