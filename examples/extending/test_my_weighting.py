"""The weights by hand, and the rule that every scheme must keep: packing changes nothing."""

import pytest
import torch
from my_weighting import TurnDecay

# Two turns of 2 and 1 tokens; one turn of 3.
MASK_BT = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 0]]).bool()


def weights(mask_BT: torch.Tensor, segments_BT: torch.Tensor | None = None) -> torch.Tensor:
    return TurnDecay().weights(torch.rand(mask_BT.shape), mask_BT.long(), mask_BT, segments_BT=segments_BT)


def test_a_turn_decays_and_every_sample_counts_the_same() -> None:
    second, third = 1 / (1 + 1 / 50), 1 / (1 + 2 / 50)
    first = torch.tensor([0, 1, second, 0, 1, 0]) / (2 + second) / 2
    other = torch.tensor([0, 0, 1, second, third, 0]) / (1 + second + third) / 2
    assert weights(MASK_BT).tolist() == [pytest.approx(first.tolist()), pytest.approx(other.tolist())]


def test_packed_into_one_row_the_weights_are_the_same() -> None:
    segments_BT = torch.arange(2).repeat_interleave(6)[None]
    assert torch.allclose(weights(MASK_BT.view(1, -1), segments_BT).view(2, -1), weights(MASK_BT))


def test_a_batch_without_loss_has_no_weights() -> None:
    assert weights(torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[0.0] * 3] * 2
