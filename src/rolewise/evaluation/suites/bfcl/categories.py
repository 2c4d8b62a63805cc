"""The categories of BFCL v4 that can be played without the web, and the names that select them."""

from rolewise.core.errors import InputError

SIMPLE = ("simple_python", "simple_java", "simple_javascript")
NON_LIVE_CALLS = (*SIMPLE, "multiple", "parallel", "parallel_multiple")
LIVE_CALLS = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
IRRELEVANCE = ("irrelevance", "live_irrelevance")
MULTI_TURN = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")

_NON_LIVE = (*NON_LIVE_CALLS, "irrelevance")
_LIVE = (*LIVE_CALLS, "live_irrelevance", "live_relevance")

CATEGORIES = (*_NON_LIVE, *_LIVE, *MULTI_TURN)
"""All categories, in the order of the leaderboard."""

OTHER_LANGUAGES = ("simple_java", "simple_javascript")
"""Categories whose answers need parsers that the checker does not include."""

COLLECTIONS = {
    "non_live": _NON_LIVE,
    "live": _LIVE,
    "single_turn": (*_NON_LIVE, *_LIVE),
    "multi_turn": MULTI_TURN,
    "python": tuple(name for name in (*_NON_LIVE, *_LIVE) if name not in OTHER_LANGUAGES),
}
"""Names for several categories, the same as in the official tool."""


def chosen_categories(suite: str) -> tuple[str, ...]:
    """Return the categories that a suite's name selects, in the leaderboard's order.

    Args:
        suite: `bfcl` for all, or parts after a colon, as in `bfcl:live+multi_turn_base`.

    Raises:
        InputError: for a part that is neither a category nor a collection.
    """
    _, colon, parts = suite.partition(":")
    if not colon:
        return CATEGORIES
    chosen: set[str] = set()
    for part in parts.split("+"):
        if part not in COLLECTIONS and part not in CATEGORIES:
            known = ", ".join([*COLLECTIONS, *CATEGORIES])
            raise InputError(f"suite {suite!r}: BFCL has no part {part!r} here; choose from {known}, joined by +")
        chosen.update(COLLECTIONS.get(part, (part,)))
    return tuple(name for name in CATEGORIES if name in chosen)


def official_folder(category: str) -> str:
    """Return the folder in which the official tool keeps a category's results."""
    if category in MULTI_TURN:
        return "multi_turn"
    return "live" if category in _LIVE else "non_live"
