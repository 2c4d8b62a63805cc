"""Weighting schemes by name: Rolewise's own, and what plugins register."""

from collections.abc import Callable

from rolewise.core.errors import InputError
from rolewise.weighting.base import Weighting
from rolewise.weighting.schemes import RFT, AlphaFT, RewardSoftmax, SampleMean
from rolewise.weighting.token_means import ConstantWeights, DynamicFineTuning, KeptTokens, TokenMean

WEIGHTINGS = ("none", "sample-mean", "alpha", "rft", "regex", "rho", "reward", "dft")
"""The schemes that come with Rolewise; `register_weighting` adds others."""

_registered: dict[str, Callable[[], Weighting]] = {}


def register_weighting(name: str, make: Callable[[], Weighting]) -> None:
    """Make a scheme of your own known by a name, which `--weighting` and `WeightedSFTConfig` then take.

    Args:
        name: a second registration replaces the first; the names of `WEIGHTINGS` are taken.
        make: called without arguments, e.g. the class itself.

    Raises:
        ValueError: for a name of `WEIGHTINGS`.
    """
    if name in WEIGHTINGS:
        raise ValueError(f"the name {name!r} is taken by a weighting of Rolewise's own; choose another")
    _registered[name] = make


def make_weighting(name: str, *, inv_tau: float = 0.3, alpha: float = 0.3, format_weight: float = 0.5) -> Weighting:
    """The scheme called `name`, one of `WEIGHTINGS` or a registered one.

    Args:
        name: of the scheme.
        inv_tau: read by rft.
        alpha: read by alpha.
        format_weight: read by regex.

    Raises:
        InputError: for another name, a value out of range, or a registered one that fails to be made.
    """
    own: dict[str, Callable[[], Weighting]] = {
        "none": TokenMean,
        "sample-mean": SampleMean,
        "alpha": lambda: AlphaFT(alpha),
        "rft": lambda: RFT(inv_tau),
        "regex": lambda: ConstantWeights(format_weight),
        "rho": KeptTokens,
        "reward": RewardSoftmax,
        "dft": DynamicFineTuning,
    }
    if name in own:
        return own[name]()
    if name not in _registered:
        known = ", ".join([*WEIGHTINGS, *_registered])
        raise InputError(f"weighting {name!r} is not known; choose one of {known}, or name the --plugin that adds it")
    try:
        return _registered[name]()
    except Exception as error:  # it is a user's program and can fail in any way
        reason = " ".join(str(error).split())
        raise InputError(
            f"weighting {name} can't be made ({type(error).__name__}: {reason}); mend its plugin"
        ) from error
