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

from rolewise.data.generator import generate

FIRST = shad_rarity.Conversation(
    ids_T=np.array([1, 2, 1, 3]),
    difference_T=np.array([0.3, 0.1, -0.2, 0.0]),
    rarity_T=np.array([1.0, 2.0, 1.0, 3.0]),
    both_T=np.array([2.0, 2.0, 1.0, 2.0]),
    reasoning_T=np.array([True, False, False, True]),
)
SECOND = shad_rarity.Conversation(
    ids_T=np.array([1, 2, 2]),
    difference_T=np.array([-0.2, 0.1, 0.4]),
    rarity_T=np.array([0.5, 2.0, 2.0]),
    both_T=np.array([1.0, 2.0, 3.0]),
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
    pairs = [(a, b) for a, b in product(tokens, tokens) if a[0] == b[0] and a[2] and not b[2]]
    expected = np.mean([1.0 if a[1] > b[1] else 0.5 if a[1] == b[1] else 0.0 for a, b in pairs])
    assert len(pairs) == 4
    assert shad_rarity.area_within([FIRST, SECOND]) == pytest.approx(expected)
    assert math.isnan(shad_rarity.area_within([FIRST.__class__(*[v[:1] for v in vars(FIRST).values()])]))


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
    assert measures["LD within a token"]["low"] < 0.5 < measures["LD within a token"]["high"]
    assert abs(measures["rank correlation of LD and rarity"]["estimate"]) < 0.1
    assert measures["rarity"]["low"] > 0.5  # values are rarer than format
    assert measures["both less rarity"]["estimate"] == pytest.approx(
        measures["both"]["estimate"] - measures["rarity"]["estimate"]
    )
    assert "random" in capsys.readouterr().out
