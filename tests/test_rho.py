"""Rho-1's labelling against slow references: what is tuned on, who judges whom, which tokens are kept."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from rich.progress import Progress
from test_shad import naive_losses
from transformers import AutoModelForCausalLM

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.render import RenderedSample, Renderer
from rolewise.generator import generate
from rolewise.labelling.classify import KeptLabels, streamed_limit
from rolewise.labelling.rho import Rho
from rolewise.labelling.settings.rho import RhoConfig

NAN = float("nan")


@pytest.fixture(scope="module")
def samples(bench) -> list[RenderedSample]:
    renderer = Renderer(bench.tokenizer(), max_length=1024)
    return [sample for c in generate(10, seed=1) for sample in renderer.render(c)]


def test_losses_are_those_of_the_other_folds_reference_and_the_largest_falls_are_kept(bench, samples, tmp_path: Path):
    rho = Rho(str(bench.model), RhoConfig(min_references=4, learning_rate=1e-2), max_length=1024)
    plan = rho.plan(samples)
    assert plan.examples == [4, 4]
    labels, excluded = rho.label(samples, tmp_path, Progress(disable=True), plan)
    assert not any(excluded)
    base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32).eval()
    falls, kept = [], []
    for i, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        fresh = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
        reference = PeftModel.from_pretrained(fresh, tmp_path / f"tuned-{plan.folds[i]}").eval()
        np.testing.assert_allclose(label.base_loss_T, naive_losses(base, sample), atol=1e-4, rtol=0)
        np.testing.assert_allclose(label.tuned_loss_T, naive_losses(reference, sample), atol=1e-4, rtol=0)
        judged = sample.loss_mask & ~np.isnan(label.base_loss_T)
        falls += (label.base_loss_T - label.tuned_loss_T)[judged].tolist()
        kept += (label.roles_T[judged] == Role.REASONING).tolist()
        assert (label.roles_T[~sample.loss_mask] == Role.CONTEXT).all()
    wanted = math.ceil(0.6 * len(falls))
    assert sum(kept) >= wanted
    limit = sorted(falls, reverse=True)[wanted - 1]
    assert kept == [fall >= limit for fall in falls]
    assert max(falls) > 0.1  # the references did learn


@pytest.mark.parametrize("cross_fit", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_judged_by_a_reference_that_saw_the_conversation(samples, seed, cross_fit):
    # Two samples to a conversation, and one conversation that occurs twice.
    doubled = [replace(sample, source=f"c{i // 2}") for i, sample in enumerate(samples)]
    doubled += [replace(sample, source="again") for sample in doubled[:2]]
    plan = Rho("unused", RhoConfig(min_references=3, cross_fit=cross_fit, seed=seed)).plan(doubled)
    scored = sorted(i for shard in plan.shards for batch in shard.batches for i in batch.samples)
    assert scored == [i for i, fold in enumerate(plan.folds) if fold >= 0]
    assert scored == list(range(len(doubled))) if cross_fit else 0 < len(scored) < len(doubled)
    for i, fold in enumerate(plan.folds):
        if fold >= 0:
            seen = {doubled[n].text for n in plan.references[fold]}
            assert doubled[i].text not in seen
            assert doubled[i].source not in {doubled[n].source for n in plan.references[fold]}


def test_the_share_of_large_data_and_the_least_of_small(samples):
    many = [replace(samples[i % 2], source=f"c{i}", text=f"{i}") for i in range(400)]
    assert Rho("unused", RhoConfig(reference_share=0.25)).plan(many).examples == [100, 100]
    assert Rho("unused", RhoConfig()).plan(many).examples == [64, 64]
    assert Rho("unused", RhoConfig()).plan(samples).examples == [5, 5]
    assert Rho("unused", RhoConfig(cross_fit=False)).plan(samples).examples == [5]


def test_samples_that_were_tuned_on_stay_plain_without_cross_fitting(bench, samples, tmp_path):
    rho = Rho(str(bench.model), RhoConfig(min_references=4, cross_fit=False), max_length=1024)
    labels, excluded = rho.label(samples, tmp_path, Progress(disable=True))
    assert sum(excluded) == 4
    for sample, label, out in zip(samples, labels, excluded, strict=True):
        roles = set(label.roles_T[sample.loss_mask].tolist())
        assert (roles == {Role.PLAIN}) == out
        assert np.isnan(label.tuned_loss_T).all() == out


def test_a_killed_labelling_reuses_what_is_there(bench, samples, tmp_path):
    rho = Rho(str(bench.model), RhoConfig(min_references=4, batch_tokens=256), max_length=1024)
    first, _ = rho.label(samples, tmp_path, Progress(disable=True))
    tuned = tmp_path / "tuned-0" / "adapter_model.safetensors"
    stamp = tuned.stat().st_mtime_ns
    shards = sorted((tmp_path / "losses").iterdir())
    shards[1].unlink()
    second, _ = rho.label(samples, tmp_path, Progress(disable=True))
    assert tuned.stat().st_mtime_ns == stamp
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.roles_T, b.roles_T)


class TestKept:
    mask = np.ones(5, dtype=bool)

    def labels(self, falls: list[float], share: float) -> str:
        fall_T = np.array(falls, dtype=np.float32)
        losses = (np.full(5, 4.0, dtype=np.float32), 4 - fall_T, self.mask)
        [label] = KeptLabels.of_share([losses], share)
        return "".join({Role.REASONING: "K", Role.BOILERPLATE: "-", Role.PLAIN: "P"}[Role(r)] for r in label.roles_T)

    @pytest.mark.parametrize(
        ("falls", "share", "expected"),
        [
            ([3, 1, 2, 0, -1], 0.6, "KKK--"),
            ([3, 1, 2, 0, -1], 0.61, "KKKK-"),
            ([3, 1, 2, 0, -1], 1.0, "KKKKK"),
            ([3, 1, 2, 0, -1], 0.01, "K----"),
            ([-3, -1, -2, -4, -5], 0.4, "-KK--"),
            ([1, 1, 1, 0, 0], 0.2, "KKK--"),  # ties with the last that is kept are kept
            ([0, 0, 0, 0, 0], 0.2, "KKKKK"),
            ([2, NAN, 1, 0, NAN], 0.6, "KPK-P"),  # of the three that were measured
            ([NAN, NAN, NAN, NAN, NAN], 0.6, "PPPPP"),
        ],
    )
    def test_the_largest_falls_are_kept_and_ties_with_them(self, falls, share, expected):
        assert self.labels(falls, share) == expected

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.999, 1.0])
    def test_a_streamed_limit_is_that_of_the_sorted_numbers(self, share):
        rng = np.random.default_rng(0)
        pieces = [
            rng.normal(0, scale, size).astype(np.float32) for scale, size in ((1, 501), (1e-4, 37), (9, 0), (50, 400))
        ]
        pieces.append(np.array([0.0, -0.0, -2.5, -2.5, 2.5], dtype=np.float32))
        everything = sorted(np.concatenate(pieces).tolist(), reverse=True)
        assert streamed_limit(lambda: pieces, share) == everything[math.ceil(share * len(everything)) - 1]
        assert streamed_limit(lambda: [], share) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_share": 0.0}, "keep_share is 0.0; it must be above 0"),
        ({"keep_share": 1.5}, "keep_share is 1.5"),
        ({"reference_share": NAN}, "reference_share is nan"),
        ({"min_references": 0}, "min_references is 0"),
        ({"rank": 0}, "rank is 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RhoConfig(**options)


@pytest.mark.parametrize(
    ("cross_fit", "count", "message"), [(True, 3, "3 conv"), (False, 1, "1 conversation is too few")]
)
def test_too_few_conversations(samples, cross_fit, count, message):
    few = [replace(sample, source=f"c{i}") for i, sample in enumerate(samples[:count])]
    with pytest.raises(InputError, match=message):
        Rho("unused", RhoConfig(cross_fit=cross_fit)).plan(few)
