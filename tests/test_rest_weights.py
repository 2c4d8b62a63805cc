"""ResT's weights: by hand, over a run, by entropy, and rescaled for losses that count tokens."""

import math

import pytest
import torch

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.core.role import Role
from rolewise.weighting import (
    REGION_WEIGHTINGS,
    EntropyResT,
    Ramp,
    RegionWeighting,
    ResT,
    ResTOfficial,
    StaticResT,
)
from rolewise.weighting.rollouts import mean_entropies, rescaled_to_mean_one

ALL = torch.tensor([[int(region) for region in Region]])
OTHER, TAG, NAME, ARGUMENTS, KEY, VALUE, THINK, RESPONSE = Region


def random_batch(seed, rows=6, tokens=19):
    """Regions and mask. Row 0 is all OTHER, row 1 carries no loss."""
    generator = torch.Generator().manual_seed(seed)
    regions_BT = torch.randint(0, len(Region), (rows, tokens), generator=generator, dtype=torch.uint8)
    mask_BT = torch.rand(rows, tokens, generator=generator) < 0.7
    regions_BT[0] = Region.OTHER
    mask_BT[1] = False
    return regions_BT, mask_BT


@pytest.mark.parametrize(
    ("step", "argument", "think"),
    [
        (0, 0.6, 0.6),
        (50, 0.7, 0.7),
        (105, 0.81, 0.81),
        (200, 1.0, 1.0),
        (250, 1.1, 1.0),
        (300, 1.2, 1.0),
        (9_999, 1.2, 1.0),
    ],
)
def test_official_weights_by_hand(step, argument, think):
    raw = {OTHER: 0, TAG: 1, NAME: 1.2, ARGUMENTS: argument, KEY: argument, VALUE: argument, THINK: think, RESPONSE: 0}
    mean = sum(raw.values()) / 6
    weights = ResTOfficial().response_weights(ALL, torch.ones_like(ALL).bool(), step=step)
    assert weights.dtype == torch.float32
    assert weights[0].tolist() == pytest.approx([weight / mean for weight in raw.values()])


def test_ours_reaches_its_end_with_the_run_and_leaves_nothing_out():
    for total in (2, 7, 105):
        assert ResT().code_weights(0, total)[VALUE] == pytest.approx(0.6)
        assert ResT().code_weights(total - 1, total)[VALUE] == pytest.approx(1.2)
        last = ResT().code_weights(total - 1, total)
        assert last[THINK] == last[RESPONSE] == pytest.approx(1.0)
        assert last[OTHER] == 0.2
    weights = ResT().response_weights(*random_batch(0), step=3, total_steps=10)
    assert ((weights > 0) == random_batch(0)[1]).all()
    assert weights[0][random_batch(0)[1][0]].tolist() == pytest.approx([1.0] * int(random_batch(0)[1][0].sum()))


def test_end_points_of_single_regions():
    rest = ResT(end_points={ARGUMENTS: (0.5, 0.5), VALUE: (2.0, 3.0)}, ramp=Ramp(0, 1, steps=10))
    weights = rest.code_weights(5)
    assert (weights[ARGUMENTS], weights[KEY], weights[VALUE]) == (0.5, 0.5, 2.5)


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        (Ramp(1, 2, steps=4), [1, 1.25, 1.5, 1.75, 2, 2]),
        (Ramp(2, 1, steps=2), [2, 1.5, 1, 1, 1, 1]),
        (Ramp(1, 2, "step", steps=4), [1, 1, 2, 2, 2, 2]),
        (Ramp(1, 2, "cosine", steps=4), [1, 1.5 - math.sqrt(0.5) / 2, 1.5, 1.5 + math.sqrt(0.5) / 2, 2, 2]),
        (Ramp(1, 2), [1, 1.2, 1.4, 1.6, 1.8, 2]),
        (Ramp(1, 2, share=0.4), [1, 1.5, 2, 2, 2, 2]),
    ],
)
def test_ramps_by_hand(ramp, expected):
    assert [ramp.at(step, 6) for step in range(6)] == pytest.approx(expected)
    assert ramp.at(0, 1) == (expected[0] if ramp.steps else 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1, "end": 1}, "start is -1"),
        ({"start": 1, "end": math.inf}, "end is inf"),
        ({"start": 1, "end": 1, "shape": "square"}, "'square' is not known; choose one of linear, cosine, step"),
        ({"start": 1, "end": 1, "steps": 0}, "0 steps"),
        ({"start": 1, "end": 1, "share": 0}, "share of the run is 0"),
    ],
)
def test_ramps_that_are_none(options, message):
    with pytest.raises(InputError, match=message):
        Ramp(**options)


def test_a_share_of_an_unknown_run_is_refused():
    with pytest.raises(InputError, match="give the ramp's length in steps"):
        ResT().code_weights(3)


def test_positive_weights_are_clamped():
    weighting = RegionWeighting({TAG: 100.0, NAME: 1e-9, THINK: 0.0})
    weights = weighting.response_weights(ALL, torch.ones_like(ALL).bool(), step=0)[0]
    assert weights[TAG] / weights[NAME] == pytest.approx(8 / 0.001)
    assert weights[THINK] == weights[OTHER] == 0


@pytest.mark.parametrize("name", REGION_WEIGHTINGS)
def test_each_response_is_normalised_alone(name):
    weighting = REGION_WEIGHTINGS.make(name)
    regions_BT, mask_BT = random_batch(1)
    whole = weighting.response_weights(regions_BT, mask_BT, step=4, total_steps=9)
    rows = [weighting.response_weights(regions_BT[[i]], mask_BT[[i]], step=4, total_steps=9)[0] for i in range(6)]
    assert torch.equal(whole, torch.stack(rows))
    assert not whole[~mask_BT].any()
    for row in whole:
        positive = row[row > 0]
        assert len(positive) == 0 or positive.mean().item() == pytest.approx(1, abs=1e-6)
    assert not whole[1].any()


def test_held_weights_do_not_move():
    static = REGION_WEIGHTINGS.make("rest-static", {"static_step": 4, "ramp_length": 8})
    assert isinstance(static, StaticResT)
    expected = ResT(ramp=Ramp(0, 1, steps=8)).code_weights(4)
    assert static.code_weights(0) == static.code_weights(100) == expected
    held = StaticResT(ResTOfficial(), at_step=50)
    assert held.code_weights(1_000) == ResTOfficial().code_weights(50)


def test_entropy_sets_where_regions_begin():
    rest = EntropyResT()
    entropies = {TAG: 0.0, NAME: 0.5, VALUE: 1.0, THINK: 2.0, OTHER: 9.0, RESPONSE: math.nan}
    first, last = rest.code_weights(0, 11, entropies), rest.code_weights(10, 11, entropies)
    assert [first[region] for region in (TAG, NAME, VALUE, THINK)] == pytest.approx([1.2, 1.05, 0.9, 0.6])
    assert [last[region] for region in (TAG, NAME, VALUE, THINK)] == pytest.approx([1.0] * 4)
    assert rest.code_weights(5, 11, entropies)[NAME] == pytest.approx((1.05 + 1.0) / 2)
    assert first[OTHER] == 0.2
    assert first[RESPONSE] == ResT().code_weights(0, 11)[RESPONSE]
    assert rest.code_weights(3, 11) == ResT().code_weights(3, 11)
    assert rest.code_weights(0, 11, {TAG: 1.0})[TAG] == 1.2


def test_mean_entropies_are_means_by_region_over_processes():
    regions_BT, mask_BT = random_batch(2)
    entropy_BT = torch.rand(regions_BT.shape).masked_fill(~mask_BT, torch.nan)
    found = mean_entropies(entropy_BT, regions_BT, mask_BT)
    for region in Region:
        values = entropy_BT[mask_BT & (regions_BT == region)]
        assert found[region] == pytest.approx(values.mean().item())
    halves = [(entropy_BT[a:b], regions_BT[a:b], mask_BT[a:b]) for a, b in ((0, 3), (3, 6))]
    seen = []
    for half in halves:
        mean_entropies(*half, sum_over_processes=lambda sums: seen.append(sums) or sums)
    assert mean_entropies(*halves[0], sum_over_processes=lambda sums: sum(seen)) == pytest.approx(found)
    assert mean_entropies(entropy_BT, regions_BT, torch.zeros_like(mask_BT)) == {}


def test_rescaled_weights_make_a_token_mean_the_papers_loss():
    regions_BT, mask_BT = random_batch(3)
    weights = ResTOfficial().response_weights(regions_BT, mask_BT, step=10)
    loss_BT = torch.rand(regions_BT.shape)
    rescaled = rescaled_to_mean_one(weights, mask_BT)
    token_mean = (rescaled * loss_BT * mask_BT).sum() / mask_BT.sum()
    assert token_mean.item() == pytest.approx(((weights * loss_BT).sum() / weights.sum()).item(), rel=1e-6)
    assert rescaled[mask_BT].mean().item() == pytest.approx(1, abs=1e-6)
    totals = torch.stack([weights.sum(), mask_BT.float().sum()])
    halves = [
        rescaled_to_mean_one(weights[rows], mask_BT[rows], sum_over_processes=lambda _: totals)
        for rows in (slice(0, 2), slice(2, 6))
    ]
    assert torch.allclose(torch.cat(halves), rescaled)
    nothing = rescaled_to_mean_one(torch.zeros_like(weights), mask_BT)
    assert not nothing.any()
    assert rescaled_to_mean_one(weights, torch.zeros_like(mask_BT)).isfinite().all()


@pytest.mark.parametrize("codes", [Region, Role])
def test_as_a_weighting_each_sample_is_a_weighted_mean(codes):
    """For supervised fine-tuning, with regions or the house's roles, packed or not."""
    weighting = RegionWeighting({list(codes)[1]: 1.0, list(codes)[2]: Ramp(0.5, 1.5, steps=10), list(codes)[4]: 2.0})
    generator = torch.Generator().manual_seed(5)
    codes_BT = torch.randint(0, len(codes), (4, 11), generator=generator)
    mask_BT = torch.rand(4, 11, generator=generator) < 0.7
    mask_BT[1] = False
    loss_BT = torch.rand(4, 11, generator=generator)
    weights = weighting.weights(loss_BT, codes_BT, mask_BT, step=5)
    raw = torch.zeros(len(codes))
    raw[[1, 2, 4]] = torch.tensor([1.0, 1.0, 2.0])
    w = raw[codes_BT] * mask_BT
    means = [(w[i] * loss_BT[i]).sum() / w[i].sum() for i in (0, 2, 3)]
    assert (weights * loss_BT).sum().item() == pytest.approx(float(sum(means)) / 3, rel=1e-5)
    packed = weighting.weights(
        loss_BT.reshape(1, -1),
        codes_BT.reshape(1, -1),
        mask_BT.reshape(1, -1),
        segments_BT=torch.arange(4).repeat_interleave(11)[None],
        step=5,
    )
    assert torch.allclose(packed.reshape(4, 11), weights)


def test_names_and_options_that_are_refused():
    with pytest.raises(InputError, match="'rset' is not known; choose one of rest, rest-entropy, rest-official"):
        REGION_WEIGHTINGS.make("rset")
    with pytest.raises(
        InputError,
        match="ramp would change nothing with weighting rest-official, only with rest, ",
    ):
        REGION_WEIGHTINGS.make("rest-official", {"ramp": "cosine"})
    kinds = [type(REGION_WEIGHTINGS.make(name)) for name in REGION_WEIGHTINGS]
    assert kinds == [ResT, EntropyResT, ResTOfficial, StaticResT]
