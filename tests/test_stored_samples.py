"""Samples in a file come back as they went in, and memory holds few of them."""

import gc
import tracemalloc

import numpy as np
import pytest

from rolewise.core.errors import InputError
from rolewise.data import stored_samples
from rolewise.data.render import RenderedSample, Turn
from rolewise.data.stored_samples import StoredSamples


def sample(number: int, length: int = 7) -> RenderedSample:
    ids = np.arange(length, dtype=np.int32) + number
    return RenderedSample(ids, ids > number + 1, ids, ids + 1, f"text {number}", (Turn(2, length),), f"file:{number}")


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_what_is_stored_comes_back(in_memory, monkeypatch):
    monkeypatch.setattr(stored_samples, "BYTES_IN_MEMORY", in_memory)
    store = StoredSamples()
    for number in range(20):
        store.append(sample(number))
        assert store[number].source == f"file:{number}"  # reading between writing
    assert [s.source for s in store] == [f"file:{number}" for number in range(20)]
    assert store[-1].text == "text 19"
    assert [s.text for s in store[3:6]] == ["text 3", "text 4", "text 5"]
    assert np.array_equal(store[4].input_ids, sample(4).input_ids)
    assert store[4].turns == (Turn(2, 7),)
    first, rest = store.part(0, 15), store.part(15, 20)
    assert (len(first), len(rest), rest[0].text, first[14].text) == (15, 5, "text 15", "text 14")
    for wrong in (20, -21):
        with pytest.raises(IndexError):
            store[wrong]


def test_memory_stays_while_samples_come(monkeypatch):
    monkeypatch.setattr(stored_samples, "BYTES_IN_MEMORY", 1000)
    store = StoredSamples()
    gc.collect()
    tracemalloc.start()
    for number in range(200):
        store.append(sample(number, length=10_000))  # 130 kB each
    for held in store:
        assert len(held.input_ids) == 10_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_full_disk_is_one_line(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_samples.pickle, "dump", full)
    with pytest.raises(InputError, match=r"cannot hold the rendered samples: No space left on device; .* TMPDIR"):
        StoredSamples().append(sample(0))
