"""The radix tree of what was read, against a dictionary of every prefix; prefixes that are worth reading once."""

import random
from collections.abc import Callable

import pytest
import torch

from rolewise.engines.prefix_cache import PrefixCache, shared_prefixes

TOKEN_BYTES = 12
"""Of three float32 numbers."""


def numbers_of(ids: list[int]) -> torch.Tensor:
    """Three numbers for each token (T, 3) that depend on all before it, as keys and values do."""
    rows = []
    for end in range(1, len(ids) + 1):
        value = float(hash(tuple(ids[:end])) % 9973)
        rows.append([value, value + 0.5, float(end)])
    return torch.tensor(rows).reshape(-1, 3)


def add(cache: PrefixCache, ids: list[int], asked: list[tuple[int, int]] | None = None) -> None:
    def numbers(start: int, stop: int) -> torch.Tensor:
        if asked is not None:
            asked.append((start, stop))
        return numbers_of(ids)[start:stop].clone()

    cache.add(ids, numbers)


def held_by(cache: PrefixCache, ids: list[int]) -> torch.Tensor:
    """What the cache gives for the known part of these tokens."""
    known = cache.known(ids)
    into = torch.full((known, 3), -1.0)
    cache.copy(ids[:known], into)
    return into


def test_whatever_was_added_is_known_with_its_numbers():
    """Random walks over few tokens, so that they branch everywhere, with the set of all prefixes as a reference."""
    rng = random.Random(0)
    cache = PrefixCache(10**6)
    prefixes: set[tuple[int, ...]] = set()
    for _ in range(300):
        ids = rng.choices(range(3), k=rng.randint(1, 12))
        expected = max((n for n in range(len(ids) + 1) if tuple(ids[:n]) in prefixes), default=0)
        assert cache.known(ids) == expected
        assert torch.equal(held_by(cache, ids), numbers_of(ids[:expected]))
        add(cache, ids)
        prefixes |= {tuple(ids[: n + 1]) for n in range(len(ids))}
        assert cache.known([*ids, 7]) == len(ids)
        assert torch.equal(held_by(cache, ids), numbers_of(ids))
    assert cache.bytes == len(prefixes) * TOKEN_BYTES, "each prefix is held once"


def test_only_what_is_new_is_asked_for():
    cache, asked = PrefixCache(10**6), []
    add(cache, [1, 2, 3, 4], asked)
    add(cache, [1, 2, 3], asked)
    add(cache, [1, 2, 5], asked)
    add(cache, [1, 2, 3, 4, 6], asked)
    assert asked == [(0, 4), (2, 3), (4, 5)]


def test_what_was_used_longest_ago_goes_first():
    cache = PrefixCache(8 * TOKEN_BYTES)
    add(cache, [1, 2, 3, 4])
    add(cache, [5, 6, 7])
    cache.known([1, 2])  # now the other is the older one
    add(cache, [8, 9])
    assert [cache.known(ids) for ids in ([1, 2, 3, 4], [5, 6, 7], [8, 9])] == [4, 0, 2]


def test_a_stem_stays_while_one_of_its_branches_is_used():
    cache = PrefixCache(8 * TOKEN_BYTES)
    add(cache, [1, 2, 3, 4])
    add(cache, [1, 2, 5, 6])
    for first in range(10, 40, 2):
        add(cache, [first, first + 1])
        assert cache.known([1, 2, 5, 6]) == 4
        assert cache.known([first, first + 1]) == 2
        assert cache.bytes <= cache.max_bytes
    assert cache.known([1, 2, 3, 4]) == 2


def test_the_limit_holds_whatever_comes():
    rng = random.Random(1)
    cache = PrefixCache(30 * TOKEN_BYTES)
    for _ in range(400):
        ids = rng.choices(range(3), k=rng.randint(1, 40))
        add(cache, ids)
        assert cache.bytes <= cache.max_bytes
        assert cache.known(ids) == min(len(ids), 30), "the newest stays, its beginning if it is too long"
        assert torch.equal(held_by(cache, ids), numbers_of(ids[:30]))


def test_without_room_nothing_is_held():
    cache = PrefixCache(TOKEN_BYTES - 1)
    add(cache, [1, 2])
    assert (cache.known([1, 2]), cache.bytes) == (0, 0)


def test_what_is_not_held_can_not_be_copied():
    cache = PrefixCache(10**6)
    add(cache, [1, 2])
    with pytest.raises(LookupError, match="only 2 of 3 tokens are cached"):
        cache.copy([1, 2, 3], torch.zeros(3, 3))


def nothing(ids: list[int]) -> int:
    return 0


def knows(prefix: list[int]) -> Callable[[list[int]], int]:
    def known(ids: list[int]) -> int:
        return next(
            (n for n, (a, b) in enumerate(zip(ids, prefix, strict=False)) if a != b), min(len(ids), len(prefix))
        )

    return known


def test_prefixes_are_shared_level_by_level():
    stem = list(range(100, 120))
    left, right = [*stem, 1, 1, 1, 1, 1, 1], [*stem, 2, 2, 2, 2, 2, 2]
    prompts = [[*left, 3, 9], [*left, 4, 9], [*right, 5, 9], [*right, 6, 9], [7, 8, 9]]
    assert list(shared_prefixes(prompts, nothing, 6)) == [(0, stem), (1, left), (1, right)]
    assert list(shared_prefixes(prompts, nothing, 7)) == [(0, stem)], "a branch saves six tokens"
    assert list(shared_prefixes(prompts, knows(stem), 6)) == [(0, left), (0, right)]
    assert list(shared_prefixes(prompts, knows(left), 6)) == [(0, right)]


def test_a_short_stem_does_not_hide_long_branches():
    left, right = [1, 2, *[3] * 30], [1, 4, *[5] * 30]
    prompts = [[*left, 6], [*left, 7], [*right, 8], [*right, 9]]
    # The token that all share saves 3, each branch 31 or 32.
    assert list(shared_prefixes(prompts, nothing, 32)) == [(0, left), (0, right)]
    assert list(shared_prefixes(prompts, nothing, 33)) == []


def test_the_last_token_of_a_prompt_is_not_shared():
    assert list(shared_prefixes([[1, 2, 3, 4]] * 3, nothing, 6)) == [(0, [1, 2, 3])]
    assert list(shared_prefixes([[1, 2, 3, 4]] * 3, nothing, 7)) == []
    assert list(shared_prefixes([[1], [1]], nothing, 1)) == []
