"""Weights per token instead of per group: each token's from its own difference of losses, LD = tuned − base.

A plugin, for `rolewise sft --plugin experiments/difference_weights.py --weighting difference-sigmoid`, or -softmax, on
data that SHAD has labelled. `experiments/token_weights.py` compares both with SFT and RFT; what came out stands in
results/README.md.
"""

import math
from abc import abstractmethod
from functools import partial

import torch

from rolewise import Weighting, register_weighting
from rolewise.weighting import TokenBatch


class DifferenceWeights(Weighting):
    """The mean over samples of Σ w · loss / Σ w, with w from the token's LD. Roles are not read.

    Tokens without losses (NaN) count as much as their sample's average token: general chat gets the plain loss. Shapes:
    B rows, T tokens, S samples.

    Args:
        temperature: nats of LD over which a weight changes.
    """

    unit = "sample"
    needs_roles = False
    needs_scores = True

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    @abstractmethod
    def raw(self, scaled_BT: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Weights up to a factor per sample, 0 for −∞; `scaled_BT` is LD / temperature, −∞ where it is not known."""

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        assert batch.scores_BT is not None  # by `needs_scores`
        scaled_BT = -batch.scores_BT.float() / self.temperature  # scores are base − tuned loss
        known_BT = batch.mask_BT & ~scaled_BT.isnan()
        raw_BT = self.raw(torch.where(known_BT, scaled_BT, -math.inf), batch)
        known_S, total_S = sum_by_sample(batch, known_BT.float()), sum_by_sample(batch, batch.mask_BT.float())
        mean_one_BT = raw_BT * (known_S / sum_by_sample(batch, raw_BT).clamp(min=1e-30))[batch.sample_BT]
        samples = (total_S > 0).sum().clamp(min=1)
        return torch.where(known_BT, mean_one_BT, 1.0) / total_S.clamp(min=1)[batch.sample_BT] / samples


class DifferenceSigmoid(DifferenceWeights):
    """w = σ(LD / T): SHAD's threshold of 0 made soft. A token whose loss rose by far counts 1, one whose fell 0."""

    def raw(self, scaled_BT: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        return scaled_BT.sigmoid()


class DifferenceSoftmax(DifferenceWeights):
    """w = exp(LD / T), the softmax of a sample's differences."""

    def raw(self, scaled_BT: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        top_S = scaled_BT.new_full((batch.sample_bound,), -math.inf)
        top_S.scatter_reduce_(0, batch.sample_BT.flatten(), scaled_BT.flatten(), "amax")
        return torch.where(scaled_BT.isfinite(), (scaled_BT - top_S[batch.sample_BT]).exp(), 0.0)


def sum_by_sample(batch: TokenBatch, values_BT: torch.Tensor) -> torch.Tensor:
    """Sums over the tokens of each sample, shape (S,)."""
    return values_BT.new_zeros(batch.sample_bound).index_add(0, batch.sample_BT.flatten(), values_BT.flatten())


register_weighting("difference-sigmoid", partial(DifferenceSigmoid, 0.3))
register_weighting("difference-softmax", partial(DifferenceSoftmax, 2.0))
