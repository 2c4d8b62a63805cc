"""Weights against a reference written from the equations, and their invariance to how a batch is cut."""

import itertools
import math

import numpy as np
import pytest
import torch
from tiny import REFERENCES, reference_weights

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.weighting import RFT, WEIGHTINGS, AlphaFT, make_weighting, register_weighting

LOSS_ROLES = [Role.PLAIN, Role.REASONING, Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE]


def random_batch(
    seed: int, rows: int = 7, tokens: int = 23, *, extreme: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, roles, mask. Rows 0 to 4: all PLAIN, no loss token, no reasoning, no boilerplate, a single token."""
    rng = np.random.default_rng(seed)
    loss_BT = rng.gamma(1.0, 2.0, (rows, tokens)).astype(np.float32)
    if extreme:
        loss_BT = rng.choice([0.0, 1e-8, 1.0, 1e4], (rows, tokens)).astype(np.float32)
    roles_BT = rng.choice(LOSS_ROLES, (rows, tokens)).astype(np.uint8)
    mask_BT = rng.random((rows, tokens)) < 0.6
    roles_BT[0] = Role.PLAIN
    mask_BT[1] = False
    roles_BT[2] = rng.choice([Role.FORMAT, Role.TEMPLATE, Role.PLAIN], tokens)
    roles_BT[3] = Role.REASONING
    mask_BT[4] = np.arange(tokens) == 5
    return loss_BT, roles_BT, mask_BT


def scores_of(loss_BT: np.ndarray, roles_BT: np.ndarray) -> np.ndarray:
    """Rewards between −10 and 82 nats that follow from a token alone; PLAIN tokens have none."""
    return np.where(roles_BT == Role.PLAIN, np.nan, 10 * np.log1p(loss_BT) - 10).astype(np.float32)


def ours(scheme: str, loss_BT: np.ndarray, roles_BT: np.ndarray, mask_BT: np.ndarray, **options: object) -> np.ndarray:
    segments = options.pop("segments_BT", None)
    weights_BT = make_weighting(scheme, options).weights(
        torch.from_numpy(loss_BT),
        torch.from_numpy(roles_BT),
        torch.from_numpy(mask_BT),
        segments_BT=None if segments is None else torch.from_numpy(segments),
        scores_BT=torch.from_numpy(scores_of(loss_BT, roles_BT)),
    )
    return weights_BT.numpy()


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("none", {}),
        ("sample-mean", {}),
        ("alpha", {}),
        ("alpha", {"alpha": 0.0}),
        ("alpha", {"alpha": 0.5}),
        ("rft", {}),
        ("rft", {"inv_tau": 0.0}),
        ("rft", {"inv_tau": 2.0}),
        ("rft", {"inv_tau": 1e3}),
        ("regex", {}),
        ("regex", {"format_weight": 0.0}),
        ("regex", {"format_weight": 3.0}),
        ("rho", {}),
        ("reward", {}),
        ("dft", {}),
    ],
)
def test_weights_equal_the_equations(scheme: str, options: dict[str, float], seed: int, extreme: bool) -> None:
    batch = random_batch(seed, extreme=extreme)
    expected = reference_weights(scheme, *batch, scores_BT=scores_of(*batch[:2]), **options)
    np.testing.assert_allclose(ours(scheme, *batch, **options), expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("scheme", WEIGHTINGS)
def test_weights_are_detached_float32_nonnegative_zero_outside_the_mask_and_sum_to_one(scheme: str) -> None:
    loss_BT, roles_BT, mask_BT = (torch.from_numpy(array) for array in random_batch(1))
    loss_BT = torch.where(mask_BT, loss_BT, torch.nan).to(torch.bfloat16).requires_grad_()
    scores_BT = torch.from_numpy(scores_of(*random_batch(1)[:2]))
    weights_BT = make_weighting(scheme).weights(loss_BT, roles_BT, mask_BT, scores_BT=scores_BT)
    assert weights_BT.dtype == torch.float32
    assert not weights_BT.requires_grad
    assert (weights_BT[~mask_BT] == 0).all()
    assert (weights_BT >= 0).all()
    if scheme in REFERENCES and scheme != "dft":  # whose weights are probabilities
        assert weights_BT.sum().item() == pytest.approx(1, abs=1e-6)
    else:
        assert 0 < weights_BT.sum().item() < math.inf


@pytest.mark.parametrize("scheme", WEIGHTINGS)
def test_a_batch_without_loss_tokens_weighs_nothing(scheme: str) -> None:
    loss_BT, roles_BT, mask_BT = random_batch(2)
    weights_BT = ours(scheme, loss_BT, roles_BT, np.zeros_like(mask_BT))
    assert (weights_BT == 0).all()


@pytest.mark.parametrize("scheme", ["alpha", "rft", "reward"])
def test_each_sample_gets_one_share_of_the_weight(scheme: str) -> None:
    loss_BT, roles_BT, mask_BT = random_batch(3)
    rows = ours(scheme, loss_BT, roles_BT, mask_BT).sum(axis=1)
    np.testing.assert_allclose(rows, mask_BT.any(axis=1) / mask_BT.any(axis=1).sum(), atol=1e-6)


def test_group_totals_by_hand() -> None:
    """One sample of mean losses 3 (reasoning) and 1 (boilerplate), one PLAIN token in four."""
    loss_BT = np.array([[2.0, 4.0, 1.0, 9.0]], dtype=np.float32)
    roles_BT = np.array([[Role.REASONING, Role.REASONING, Role.FORMAT, Role.PLAIN]], dtype=np.uint8)
    mask_BT = np.ones_like(roles_BT, dtype=bool)
    omega_r = np.exp(1.5) / (np.exp(1.5) + np.exp(0.5))
    expected = [0.375 * omega_r, 0.375 * omega_r, 0.75 * (1 - omega_r), 0.25]
    np.testing.assert_allclose(ours("rft", loss_BT, roles_BT, mask_BT, inv_tau=0.5)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(
        ours("rft", loss_BT, roles_BT, mask_BT, inv_tau=0.0)[0], [0.1875, 0.1875, 0.375, 0.25], rtol=1e-6
    )
    np.testing.assert_allclose(
        ours("alpha", loss_BT, roles_BT, mask_BT, alpha=0.2)[0], [0.3, 0.3, 0.15, 0.25], rtol=1e-6
    )


def _splits(rows: int) -> list[list[slice]]:
    """Every way to cut rows into consecutive micro-batches."""
    cuts = []
    for ends in itertools.product([False, True], repeat=rows - 1):
        borders = [0, *(i + 1 for i, end in enumerate(ends) if end), rows]
        cuts.append([slice(a, b) for a, b in itertools.pairwise(borders)])
    return cuts


@pytest.mark.parametrize("scheme", WEIGHTINGS)
def test_micro_batches_scaled_by_their_share_of_units_add_up(scheme: str) -> None:
    loss_BT, roles_BT, mask_BT = random_batch(4)
    whole = ours(scheme, loss_BT, roles_BT, mask_BT)

    def units(rows: slice) -> float:
        weighting = make_weighting(scheme)
        if weighting.unit == "sample":
            return float(mask_BT[rows].any(axis=1).sum())
        return float(weighting.counts(torch.from_numpy(roles_BT[rows]), torch.from_numpy(mask_BT[rows])).sum())

    splits = _splits(len(mask_BT))
    assert len(splits) == 64
    for split in splits:
        parts = [
            ours(scheme, loss_BT[rows], roles_BT[rows], mask_BT[rows]) * units(rows) / units(slice(None))
            for rows in split
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-8, err_msg=str(split))


@pytest.mark.parametrize("scheme", WEIGHTINGS)
def test_packed_rows_equal_the_same_samples_unpacked(scheme: str) -> None:
    batch = random_batch(5, rows=8)
    unpacked = ours(scheme, *batch)
    # Rows 0+1+2, 3+4 and 5+6+7 become one row each; the second is padded at its end.
    groups = [[0, 1, 2], [3, 4], [5, 6, 7]]
    tokens = batch[0].shape[1]

    def pack(array: np.ndarray) -> np.ndarray:
        packed = np.zeros((3, 3 * tokens), dtype=array.dtype)
        for row, members in enumerate(groups):
            packed[row, : len(members) * tokens] = np.concatenate([array[i] for i in members])
        return packed

    segments_BT = np.repeat(np.arange(3), tokens)[None].repeat(3, axis=0)
    packed = [pack(array) for array in batch]
    weights = ours(scheme, *packed, segments_BT=segments_BT)
    np.testing.assert_allclose(weights, pack(unpacked), rtol=1e-5, atol=1e-8)
    if scheme not in REFERENCES:
        return
    expected = reference_weights(scheme, *packed, segments_BT=segments_BT, scores_BT=scores_of(*packed[:2]))
    np.testing.assert_allclose(weights, expected, rtol=2e-4, atol=1e-7)


def test_higher_inverse_temperature_follows_the_higher_loss() -> None:
    loss_BT, roles_BT, mask_BT = random_batch(6)
    loss_BT[roles_BT == Role.REASONING] += 5
    shares = []
    for inv_tau in (0.0, 0.3, 1.0, 50.0):
        weights_BT = ours("rft", loss_BT[5:], roles_BT[5:], mask_BT[5:], inv_tau=inv_tau)
        shares.append(float(weights_BT[roles_BT[5:] == Role.REASONING].sum()))
    assert shares == sorted(shares)
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"alpha is .*between 0 and 1"):
        AlphaFT(value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_inverse_temperature_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="inv_tau is"):
        RFT(value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_format_weight_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="format_weight is"):
        make_weighting("regex", {"format_weight": value})


def test_rewards_that_are_not_there_are_refused() -> None:
    loss_BT, roles_BT, mask_BT = map(torch.from_numpy, random_batch(7))
    with pytest.raises(InputError, match="a score for every token"):
        make_weighting("reward").weights(loss_BT, roles_BT, mask_BT)


def test_an_unknown_scheme_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=r"'rtf' is not known; choose one of alpha, dft, "):
        make_weighting("rtf")


def test_a_plugins_weighting_that_cant_be_made_is_one_line(registries) -> None:
    def broken():
        raise RuntimeError("no such\ntable")

    register_weighting("broken", broken)
    with pytest.raises(InputError, match=r"^weighting broken can't be made \(RuntimeError: no such table\)"):
        make_weighting("broken")


def test_a_value_that_a_plugins_weighting_refuses_is_named(registries) -> None:
    def boost(factor: float):
        raise ValueError("factor must be positive")

    register_weighting("boost", boost)
    message = r"^weighting boost can't be made with factor=-2.0 \(ValueError: factor must be .*; give another value, or"
    with pytest.raises(InputError, match=message):
        make_weighting("boost", {"factor": -2})
