"""Rule-based labellers, which have no settings."""

from typing import Any

from rolewise.labelling.registry import LABELLERS


@LABELLERS.own("regex")
def regex() -> Any:
    """Return the labeller that separates format tokens, found by rules, from the rest."""
    from rolewise.labelling.labellers import by_regex

    return by_regex


@LABELLERS.own("functional")
def functional() -> Any:
    """Return the labeller that assigns roles by functional tokens."""
    from rolewise.labelling.labellers import by_functional_tokens

    return by_functional_tokens
