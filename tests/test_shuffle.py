"""Shuffled pairs: no output meets its own conversation, none is lost, and outputs stay whole."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.data.render import RenderedSample, Turn
from rolewise.data.shuffle import OutputRef, ShuffledPair, pair_ids, shuffle_pairs


def outputs_of(turns_per_conversation: list[int]) -> tuple[list[OutputRef], list[str]]:
    """Every turn of conversations with so many turns, and the conversation of each."""
    refs = [OutputRef(i, t) for i, turns in enumerate(turns_per_conversation) for t in range(turns)]
    return refs, [f"conversation {ref.sample}" for ref in refs]


def sample(length: int, turns: list[tuple[int, int]], first_id: int = 0) -> RenderedSample:
    """A sample of `length` tokens with distinct ids."""
    mask = np.zeros(length, dtype=bool)
    for start, end in turns:
        mask[start:end] = True
    ids = np.arange(first_id, first_id + length, dtype=np.int32)
    places = np.arange(length, dtype=np.int32)
    return RenderedSample(
        ids, mask, places, places + 1, "x" * length, tuple(Turn(*turn) for turn in turns), f"sample {first_id}"
    )


@settings(max_examples=200, deadline=None)
@given(turns=st.lists(st.integers(1, 5), min_size=2, max_size=12), seed=st.integers(0, 2**31))
def test_every_output_is_used_once_and_never_by_its_own_conversation(turns, seed):
    refs, groups = outputs_of(turns)
    if max(turns) > sum(turns) / 2:
        with pytest.raises(InputError, match="give more conversations"):
            shuffle_pairs(refs, groups, seed)
        return
    pairs = shuffle_pairs(refs, groups, seed)
    assert Counter(pair.output for pair in pairs) == Counter(refs)
    assert Counter(pair.context for pair in pairs) == Counter(refs)
    assert all(pair.context.sample != pair.output.sample for pair in pairs)


def test_turns_rendered_as_samples_of_their_own_still_belong_to_one_conversation():
    # Templates that strip earlier thinking give one sample per turn; the group, not the sample, must differ.
    refs = [OutputRef(i, 0) for i in range(6)]
    groups = ["a", "a", "b", "b", "c", "c"]
    for seed in range(20):
        pairs = shuffle_pairs(refs, groups, seed)
        assert all(groups[pair.context.sample] != groups[pair.output.sample] for pair in pairs)


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others():
    refs, groups = outputs_of([1] * 40)
    assert shuffle_pairs(refs, groups, 3) == shuffle_pairs(refs, groups, 3)
    assert set(shuffle_pairs(refs, groups, 3)) != set(shuffle_pairs(refs, groups, 4))


def test_every_foreign_output_is_as_likely():
    refs, groups = outputs_of([1] * 5)
    draws = 2000
    counts = Counter(
        pair.output.sample
        for seed in range(draws)
        for pair in shuffle_pairs(refs, groups, seed)
        if pair.context == refs[0]
    )
    assert set(counts) == {1, 2, 3, 4}
    # Four standard deviations of a binomial around a quarter each.
    assert all(abs(count - draws / 4) < 4 * (draws * 0.25 * 0.75) ** 0.5 for count in counts.values())


@pytest.mark.parametrize("turns", [[3, 1, 1], [5], [1]])
def test_a_conversation_with_more_than_half_of_the_turns_is_refused(turns):
    refs, groups = outputs_of(turns)
    with pytest.raises(InputError, match="give more conversations"):
        shuffle_pairs(refs, groups, 0)


def test_exactly_half_of_the_turns_can_be_shuffled():
    refs, groups = outputs_of([3, 1, 1, 1])
    pairs = shuffle_pairs(refs, groups, 0)
    assert all(pair.context.sample != pair.output.sample for pair in pairs)


class TestPairIds:
    samples = (sample(10, [(4, 7), (8, 10)]), sample(20, [(5, 12), (15, 20)], first_id=100))

    def test_history_then_output(self):
        ids, start = pair_ids(ShuffledPair(OutputRef(0, 0), OutputRef(1, 0)), self.samples, None)
        assert (ids, start) == ([0, 1, 2, 3, *range(105, 112)], 4)

    def test_the_history_of_a_later_turn_holds_the_earlier_ones(self):
        ids, start = pair_ids(ShuffledPair(OutputRef(0, 1), OutputRef(1, 1)), self.samples, None)
        assert (ids, start) == ([*range(8), *range(115, 120)], 8)

    @pytest.mark.parametrize("max_length", range(1, 15))
    def test_outputs_stay_whole_whatever_the_limit(self, max_length):
        ids, start = pair_ids(ShuffledPair(OutputRef(0, 1), OutputRef(1, 0)), self.samples, max_length)
        assert ids[start:] == list(range(105, 112))
        # The history's end stays, at least one token: something has to predict the output's first.
        kept = max(1, min(8, max_length - 7))
        assert ids[:start] == list(range(8))[-kept:]
