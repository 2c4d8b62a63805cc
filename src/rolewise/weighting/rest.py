"""ResT's weights (arXiv 2509.21826): each token by the region it stands in, structure first, reasoning later.

The weights are those of one rollout step; a trainer that keeps a rollout for several updates keeps its weights.

Shapes: B responses, T tokens, K codes (of `Region`, or of another enumeration of what tokens are).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

import torch

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.weighting.base import TokenBatch, Weighting
from rolewise.weighting.ramp import Ramp

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.001, 8.0
"""Positive weights are clamped to these before they are normalised, as the official code has it."""

SumOverProcesses = Callable[[torch.Tensor], torch.Tensor]
"""Takes this process's tensor, returns the sum over all."""

FLOOR = 0.2
"""What tokens outside regions count in `ResT`. The official code gives them nothing, and so no gradient at all to a
response without tags, or to the token that ends the turn."""

_ARGUMENTS = (Region.ARGUMENTS, Region.ARGUMENT_NAME, Region.ARGUMENT_VALUE)


class RegionWeighting(Weighting):
    """Weights by what a token is, on a schedule; within a response they average 1 over the tokens with weight.

    `response_weights` is for policy gradients. As a `Weighting` for supervised fine-tuning the same weights make
    each sample's loss a weighted mean, Σ w · loss / Σ w, and the loss their mean over samples.
    """

    unit = "sample"

    def __init__(self, ramps: Mapping[Any, Ramp | float], *, total_steps: int | None = None) -> None:
        """Take the weights.

        Args:
            ramps: of each code, a ramp or a fixed weight; codes that are left out count 0. The codes are `Region`s,
                or `Role`s or any others that the columns hold.
            total_steps: length of the run, for use as a `Weighting`; `response_weights` is told it.

        Raises:
            InputError: for a weight that is negative or not finite.
        """
        self.ramps: dict[IntEnum, Ramp] = {
            code: ramp if isinstance(ramp, Ramp) else Ramp(ramp, ramp, steps=1) for code, ramp in ramps.items()
        }
        self.total_steps = total_steps

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        """The weight of each code at a rollout step, before clamping and normalising.

        Args:
            step: rollouts done.
            total_steps: rollouts of the whole run; needed by ramps that are a share of it.
            entropies: mean entropy in nats of each code's tokens; read by `EntropyResT` alone.

        Raises:
            InputError: if `total_steps` is needed and None.
        """
        return {code: ramp.at(step, total_steps) for code, ramp in self.ramps.items()}

    def response_weights(
        self,
        regions_BT: torch.Tensor,
        mask_BT: torch.Tensor,
        *,
        step: int,
        total_steps: int | None = None,
        entropies: Mapping[Any, float] | None = None,
    ) -> torch.Tensor:
        """Weights of sampled responses at a rollout step.

        Args:
            regions_BT: integer codes, e.g. from `label_regions`.
            mask_BT: bool, true where a token carries loss.
            step, total_steps, entropies: as for `code_weights`.

        Returns:
            float32 of shape (B, T), zero outside the mask and where the code counts 0; the positive ones of a response
            are clamped, then divided by their own mean. A response without any is all zero.
        """
        weights_BT = self._clamped(regions_BT, mask_BT, self.code_weights(step, total_steps, entropies))
        counts_B1 = (weights_BT > 0).sum(dim=1, keepdim=True).clamp(min=1)
        means_B1 = weights_BT.sum(dim=1, keepdim=True) / counts_B1
        return weights_BT / torch.where(means_B1 > 0, means_B1, 1.0)

    def weigh(self, batch: TokenBatch) -> torch.Tensor:
        weights_BT = self._clamped(batch.roles_BT, batch.mask_BT, self.code_weights(batch.step, self.total_steps))
        flat_sample = batch.sample_BT.reshape(-1)
        totals_S = weights_BT.new_zeros(batch.sample_bound).index_add_(0, flat_sample, weights_BT.reshape(-1))
        has_loss_S = torch.zeros_like(totals_S).index_add_(0, flat_sample, batch.mask_BT.reshape(-1).float()) > 0
        per_sample_BT = torch.where(totals_S > 0, totals_S, 1.0)[batch.sample_BT]
        return weights_BT / per_sample_BT / has_loss_S.sum().clamp(min=1)

    @staticmethod
    def _clamped(codes_BT: torch.Tensor, mask_BT: torch.Tensor, weight_of: Mapping[IntEnum, float]) -> torch.Tensor:
        table_K = torch.zeros(256)  # codes are uint8
        for code, weight in weight_of.items():
            table_K[int(code)] = min(max(weight, SMALLEST_WEIGHT), LARGEST_WEIGHT) if weight > 0 else 0.0
        return table_K.to(codes_BT.device)[codes_BT.long()] * mask_BT


class ResTOfficial(RegionWeighting):
    """The weights of ResT's official code: tags 1, names 1.2, arguments and thought from 0.6 by 0.002 a step.

    Arguments go to 1.2 and thought to 1.0; a run of some 105 steps, the published length, ends near 0.81. Tokens
    outside these regions, the answer's among them, count 0. So does, as in that code, what no pair of tags holds: a
    `<think>`, `<tool_call>` or `<response>` that nothing closes with all that it opened, and the text before a lone
    `</think>` with this tag, also where the prompt opened the thought. It is the regions that say so: the trainer
    labels with `closed`, and whoever calls `label_regions` for this weighting passes `closed=True`.

    What remains different from the official code:
    - It tokenizes the decoded response again and lays spans over those tokens; here they lie over the sampled ids.
    - It loses the last token of each span of several, and one that straddles a span's start; here a token counts if it
      lies wholly inside a region.
    - It weights the first name and the first arguments in a block; here those of every call.
    - It finds these by searching for `"name"` and `"arguments"` or `"parameters"` and counting braces, in whatever
      the block holds; here the block's calls are parsed, and it is brackets of all kinds that must close.
    - It also takes calls between `<toolcall>` tags, whose tags count 0; here they are text.
    - It gives both tags of an empty `<tool_call>` block weight 1; here its opening tag counts 0.
    - It takes a tag that a thought mentions for a tag, weight 1; here it is thought, or 0 before a lone `</think>`.
      Where a block begins and ends is judged as there, mentions included.
    - It knows these tags alone; here `<thinking>`, other formats' labels and their calls have the same weights.
    - Its first rollout has step 1; here it has step 0.
    - Its loss is Σ w · loss / Σ w over each micro-batch, and their mean is taken over the mini-batch; here one such
      mean goes over the whole rollout (`rescaled_to_mean_one`), whatever the micro-batches.
    """

    closed_tags_only = True
    """Its regions are to be found with `closed` (see `label_regions`)."""

    def __init__(self, *, total_steps: int | None = None) -> None:
        argument = Ramp(0.6, 1.2, steps=300)
        ramps: dict[IntEnum, Ramp | float] = {Region.TAG: 1.0, Region.TOOL_NAME: 1.2}
        ramps |= dict.fromkeys(_ARGUMENTS, argument)
        ramps[Region.THINK] = Ramp(0.6, 1.0, steps=200)
        super().__init__(ramps, total_steps=total_steps)


class ResT(RegionWeighting):
    """ResT as we use it: the official end points, reached with the run; nothing counts 0.

    Tokens outside regions count `FLOOR`, what is said to the user counts as thought, and every region's end points can
    be set, names and values of arguments apart.
    """

    def __init__(
        self,
        *,
        end_points: Mapping[Region, tuple[float, float]] | None = None,
        ramp: Ramp | None = None,
        total_steps: int | None = None,
    ) -> None:
        """Take what differs from the defaults.

        Args:
            end_points: (start, end) of regions; ARGUMENTS stands for its names and values too, unless they are named.
            ramp: gives all ramps their shape and length; its own end points are not read. None: linear, the whole run.
            total_steps: as for `RegionWeighting`.
        """
        points: dict[IntEnum, tuple[float, float]] = {
            Region.OTHER: (FLOOR, FLOOR),
            Region.TAG: (1.0, 1.0),
            Region.TOOL_NAME: (1.2, 1.2),
            Region.THINK: (0.6, 1.0),
            Region.RESPONSE: (0.6, 1.0),
        }
        given: dict[IntEnum, tuple[float, float]] = dict((end_points or {}).items())
        points |= dict.fromkeys(_ARGUMENTS, given.get(Region.ARGUMENTS, (0.6, 1.2)))
        points |= given
        course = ramp or Ramp(0.0, 1.0)
        ramps = {code: replace(course, start=start, end=end) for code, (start, end) in points.items()}
        super().__init__(ramps, total_steps=total_steps)
        self.course = course


class StaticResT(RegionWeighting):
    """Another weighting held at one step: the ablation of the curriculum."""

    def __init__(self, weighting: RegionWeighting, *, at_step: int = 0) -> None:
        """Fix the weights of `weighting` at those of `at_step`."""
        super().__init__(weighting.ramps, total_steps=weighting.total_steps)
        self.weighting, self.at_step = weighting, at_step

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        return self.weighting.code_weights(self.at_step, total_steps, entropies)


class EntropyResT(ResT):
    """ResT with its weights measured: the lower the mean entropy of a region's tokens, the higher it starts.

    The regions' weights are spread over [`LOW`, `HIGH`], the official start points: `HIGH` for the least entropy,
    `LOW` for the greatest, in between by entropy. Along the ramp they all move to the thought's end point. Regions that
    were not measured, and tokens outside regions, follow `ResT`.
    """

    LOW, HIGH = 0.6, 1.2

    def code_weights(
        self, step: int, total_steps: int | None = None, entropies: Mapping[Any, float] | None = None
    ) -> dict[IntEnum, float]:
        weights = super().code_weights(step, total_steps)
        measured = {
            code: float(entropy)
            for code, entropy in (entropies or {}).items()
            if code in weights and code != Region.OTHER and math.isfinite(entropy)
        }
        if not measured:
            return weights
        least, greatest = min(measured.values()), max(measured.values())
        progress = self.course.progress(step, total_steps)
        for code, entropy in measured.items():
            place = (entropy - least) / (greatest - least) if greatest > least else 0.0
            start = self.HIGH - (self.HIGH - self.LOW) * place
            weights[code] = (1 - progress) * start + progress * self.ramps[Region.THINK].end
        return weights


def role_curriculum(
    *,
    end_points: Mapping[Role, tuple[float, float]] | None = None,
    ramp: Ramp | None = None,
    total_steps: int | None = None,
) -> RegionWeighting:
    """ResT's curriculum over reasoning and boilerplate: structure first, reasoning later.

    Args:
        end_points: (start, end) of roles, where they differ from 0.6 to 1 for reasoning and 1 for all others;
            BOILERPLATE stands for its two kinds too, unless they are named.
        ramp, total_steps: as for `ResT`.
    """
    given = dict((end_points or {}).items())
    points = dict.fromkeys(Role, (1.0, 1.0)) | {Role.REASONING: (0.6, 1.0)}
    points |= dict.fromkeys(BOILERPLATE_ROLES, given.get(Role.BOILERPLATE, (1.0, 1.0))) | given
    course = ramp or Ramp(0.0, 1.0)
    ramps = {role: replace(course, start=start, end=end) for role, (start, end) in points.items()}
    return RegionWeighting(ramps, total_steps=total_steps)


def weighs_closed(weighting: Any) -> bool:
    """Whether a weighting's regions are to be found with `closed`: ResT's official one, or that one held."""
    return bool(getattr(getattr(weighting, "weighting", weighting), "closed_tags_only", False))


REGION_WEIGHTINGS = ("rest", "rest-official", "rest-static", "rest-entropy")
"""The names that `make_region_weighting` knows."""


def make_region_weighting(
    name: str,
    *,
    end_points: Mapping[Region, tuple[float, float]] | None = None,
    ramp: Ramp | None = None,
    static_step: int = 0,
    total_steps: int | None = None,
) -> RegionWeighting:
    """The weighting called `name`.

    Args:
        name: one of `REGION_WEIGHTINGS`. "rest-static" is `ResT` held at `static_step`.
        end_points, ramp: as for `ResT`; "rest-official" has its own.
        static_step: read by "rest-static".
        total_steps: as for `RegionWeighting`.

    Raises:
        InputError: for another name, options that "rest-official" does not take, or a value out of range.
    """
    if name == "rest-official":
        if end_points or ramp:
            raise InputError("rest-official has its own ramps and end points; choose rest to set them")
        return ResTOfficial(total_steps=total_steps)
    if name == "rest-entropy":
        return EntropyResT(end_points=end_points, ramp=ramp, total_steps=total_steps)
    rest = ResT(end_points=end_points, ramp=ramp, total_steps=total_steps)
    if name == "rest":
        return rest
    if name == "rest-static":
        return StaticResT(rest, at_step=static_step)
    raise InputError(f"region weighting {name!r} is not known; choose one of {', '.join(REGION_WEIGHTINGS)}")


def rescaled_to_mean_one(
    weights_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> torch.Tensor:
    """Weights times one factor, so that they average 1 over all loss tokens of the batch, those of weight 0 included.

    A loss that is divided by its number of loss tokens, as TRL's token-mean losses are, then becomes
    Σ w · mask · l / Σ w · mask, the paper's aggregation. ("Their own mean" of `response_weights` is over positive
    weights alone.)

    Args:
        weights_BT: float, zero outside the mask.
        mask_BT: bool.
        sum_over_processes: sums a tensor of two numbers over the processes that share the batch; None for one process.

    Returns:
        float32 of shape (B, T). A batch without any weight stays all zero.
    """
    totals = torch.stack([weights_BT.float().sum(), mask_BT.float().sum()])
    if sum_over_processes is not None:
        totals = sum_over_processes(totals)
    factor = torch.where(totals[0] > 0, totals[1] / totals[0].clamp(min=torch.finfo(torch.float32).tiny), 0.0)
    return weights_BT.float() * factor


def mean_entropies(
    entropy_BT: torch.Tensor,
    regions_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[Region, float]:
    """The mean entropy of each region's tokens, for logs and for `EntropyResT`.

    Args:
        entropy_BT: float, nats per token; ignored where masked.
        regions_BT: integer `Region` values.
        mask_BT: bool, true where a token carries loss.
        sum_over_processes: sums a tensor over the processes that share the batch; None for one process.

    Returns:
        By region; those without a token are left out.
    """
    codes = regions_BT[mask_BT].long()
    sums = torch.zeros(2, len(Region), dtype=torch.float64, device=codes.device)
    sums[0].index_add_(0, codes, entropy_BT[mask_BT].detach().double())
    sums[1].index_add_(0, codes, torch.ones_like(codes, dtype=torch.float64))
    if sum_over_processes is not None:
        sums = sum_over_processes(sums)
    totals, counts = sums.tolist()
    return {region: totals[region] / counts[region] for region in Region if counts[region]}
