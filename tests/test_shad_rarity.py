"""The measures of experiments/shad_rarity.py against slow references, and the script on a labelled set."""

import json
import math
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import shad_rarity
from labelled_sets import make_labelled
from workbench import Workbench

from rolewise.core.role import Role
from rolewise.generator import generate

FIRST = shad_rarity.Conversation(
    ids_T=np.array([1, 2, 1, 3]),
    difference_T=np.array([0.3, 0.1, -0.2, 0.0]),
    rarity_T=np.array([1.0, 2.0, 1.0, 3.0]),
    reasoning_T=np.array([True, False, False, True]),
)
SECOND = shad_rarity.Conversation(
    ids_T=np.array([1, 2, 2]),
    difference_T=np.array([-0.2, 0.1, 0.4]),
    rarity_T=np.array([0.5, 2.0, 2.0]),
    reasoning_T=np.array([False, True, True]),
)


def test_rarity_is_the_share_among_the_tokens_elsewhere() -> None:
    found = shad_rarity.rarities(np.array([5, 6, 7]), Counter({5: 3, 6: 1}), 4)
    assert found == pytest.approx([-math.log(3.5 / 6), -math.log(1.5 / 6), -math.log(0.5 / 6)])


def test_within_a_token_only_its_own_occurrences_are_compared() -> None:
    tokens = [
        (i, d, r)
        for one in (FIRST, SECOND)
        for i, d, r in zip(one.ids_T, one.difference_T, one.reasoning_T, strict=True)
    ]

    def of(pairs: list[tuple]) -> float:
        return float(np.mean([1.0 if a[1] > b[1] else 0.5 if a[1] == b[1] else 0.0 for a, b in pairs]))

    pairs = [(a, b) for a, b in product(tokens, tokens) if a[0] == b[0] and a[2] and not b[2]]
    by_token = [[pair for pair in pairs if pair[0][0] == token] for token in (1, 2)]
    assert [len(of_token) for of_token in by_token] == [2, 2]
    assert [count for _, count in shad_rarity.areas_within([FIRST, SECOND])] == [2, 2]
    assert shad_rarity.area_within([FIRST, SECOND], by_pair=True) == pytest.approx(of(pairs))
    three = [FIRST, SECOND, SECOND]
    assert shad_rarity.area_within(three, by_pair=False) == pytest.approx(np.mean([of(each) for each in by_token]))
    assert shad_rarity.area_within(three, by_pair=True) != shad_rarity.area_within(three, by_pair=False)
    one_token = shad_rarity.Conversation(*[v if v is None else v[:1] for v in vars(FIRST).values()])
    assert math.isnan(shad_rarity.area_within([one_token], by_pair=True))


def test_the_discriminant_finds_the_direction_that_tells_two_groups_apart() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 2)) * [1.0, 3.0]
    positive = np.arange(4000) % 2 == 0
    weights = shad_rarity.discriminant(noise + positive[:, None] * [1.0, 3.0], positive)
    assert weights[0] / weights[1] == pytest.approx(3.0, rel=0.1)  # shift over variance: 1 / 1 against 3 / 9


def test_what_is_read_are_the_losses_and_the_counts_of_the_other_conversations(
    bench: Workbench, tmp_path: Path
) -> None:
    labelled = make_labelled(tmp_path / "random", bench.tokenizer(), generate(4, seed=5))
    found = shad_rarity.read(tmp_path / "random")
    samples, rows = list(labelled.samples()), [list(ids) for ids in labelled.rows["input_ids"]]
    kinds = {i for ids, s in zip(rows, samples, strict=True) for i, m in zip(ids, s.mask_T, strict=True) if m}
    for place, (one, sample, ids) in enumerate(zip(found, samples, rows, strict=True)):
        kept = [t for t in range(len(ids)) if sample.mask_T[t] and sample.true_roles_T[t] != Role.PLAIN]
        kept = [t for t in kept if not np.isnan(sample.base_loss_T[t])]
        assert one.ids_T.tolist() == [ids[t] for t in kept]
        assert one.difference_T == pytest.approx([sample.tuned_loss_T[t] - sample.base_loss_T[t] for t in kept])
        assert one.reasoning_T.tolist() == [sample.true_roles_T[t] == Role.REASONING for t in kept]
        others = [
            i for n, row in enumerate(rows) if n != place for i, m in zip(row, samples[n].mask_T, strict=True) if m
        ]
        total = len(others) + len(kinds) / 2
        assert one.rarity_T == pytest.approx([-math.log((others.count(ids[t]) + 0.5) / total) for t in kept])


def test_the_script_on_labels_drawn_at_random(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_labelled(tmp_path / "random", bench.tokenizer(), generate(12, seed=5))
    output = tmp_path / "rarity.json"
    argv = ["shad_rarity.py", "--data", tmp_path / "random", "--resamples", 50, "--output", output]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    shad_rarity.main()
    [found] = json.loads(output.read_text(encoding="utf-8"))["data"].values()
    assert found["conversations"] == 12
    measures = found["measures"]
    assert measures["LD"]["low"] < 0.5 < measures["LD"]["high"]  # drawn at random
    assert abs(measures["both less rarity"]["estimate"]) < 0.02
    assert abs(measures["rank correlation of LD and rarity"]["estimate"]) < 0.1
    assert measures["rarity"]["low"] > 0.5  # values are rarer than format
    assert "random" in capsys.readouterr().out
