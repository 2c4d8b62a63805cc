"""The benchmark suites by name, loaded on demand."""

from collections.abc import Callable
from importlib import import_module

from rolewise.core.errors import InputError
from rolewise.evaluation.suite import Suite, SuiteSettings, failing_in_one_line

SuiteFactory = Callable[[SuiteSettings], Suite]

_HOMES = {
    **{name: name for name in ("bfcl", "api_bank")},
    **dict.fromkeys(("gsm8k", "math500", "aime", "amc", "olympiad", "minerva"), "mathematics"),
    **{name: name for name in ("stable_toolbench", "t_eval", "nexus", "calls")},
}
"""Suite → module here with `make(name, settings)`, which returns the suite of that name."""

SUITES = tuple(_HOMES)
_OF_CONVERSATIONS = "calls"

_registered: dict[str, SuiteFactory] = {}


def register_suite(name: str, make: SuiteFactory) -> None:
    """Register a custom suite under a name, which `rolewise eval --suite` then accepts.

    Raises:
        ValueError: for a name of `SUITES`.
    """
    if name in _HOMES:
        raise ValueError(f"the name {name!r} is taken by a built-in suite; choose another")
    _registered[name] = make


def conversations_of(name: str) -> str | None:
    """Return the path of the user's conversations that a suite plays, as in `calls:FILE`; None for other suites."""
    base, _, source = name.partition(":")
    return source if base == _OF_CONVERSATIONS and source else None


def make_suite(name: str, settings: SuiteSettings) -> Suite:
    """Create the suite called `name`; further arguments follow a colon, as in `bfcl:simple_python`.

    Raises:
        InputError: for an unknown name, or parts of a suite that has none.
        RolewiseError: if the creation of a registered suite fails.
    """
    base, colon, _ = name.partition(":")
    if base in _registered:
        if colon:
            raise InputError(f"suite {name!r}: {base} takes nothing after its name")
        with failing_in_one_line(f"suite {name}"):
            made = _registered[base](settings)
            if not isinstance(made, Suite):
                raise InputError(f"suite {name}: the function registered for it returns {made!r:.80}, not a Suite")
        return made
    if base not in _HOMES:
        known = ", ".join([*SUITES, *_registered])
        raise InputError(f"suite {name!r} is not known; choose from {known}, or name the --plugin that adds it")
    suite: Suite = import_module(f"{__name__}.{_HOMES[base]}").make(name, settings)
    return suite
