"""The weights of ResT's official code."""

from __future__ import annotations

from enum import IntEnum

from rolewise.core.region import ARGUMENT_REGIONS, Region
from rolewise.weighting.ramp import Ramp
from rolewise.weighting.regions import RegionWeighting
from rolewise.weighting.registry import REGION_WEIGHTINGS


@REGION_WEIGHTINGS.own("rest-official")
class ResTOfficial(RegionWeighting):
    """The weights of ResT's official code: tags 1, names 1.2, arguments and thought from 0.6 by 0.002 a step.

    Arguments rise to 1.2 and thought to 1.0; a run of about 105 steps, the published length, ends near 0.81. Tokens
    outside these regions, including those of the answer, count 0. As in that code, text that no pair of tags encloses
    counts 0 too: a `<think>`, `<tool_call>` or `<response>` without a closing tag together with its content, and the
    text before a lone `</think>` with this tag, even if the prompt opened the thought. The labels implement this: the
    trainer labels with `closed`, and direct callers of `label_regions` for this weighting must pass `closed=True`.

    Remaining differences from the official code:
    - It tokenizes the decoded response again and lays spans over those tokens; here they lie over the sampled ids.
    - It loses the last token of each span of several, and any token that straddles a span's start; here a token counts
      if it lies wholly inside a region.
    - It weights the first name and the first arguments in a block; here those of every call.
    - It finds these by searching for `"name"` and `"arguments"` or `"parameters"` and counting braces, whatever the
      block holds; here the block's calls are parsed, and brackets of all kinds must close.
    - It also takes calls between `<toolcall>` tags, whose tags count 0; here they are text.
    - It gives both tags of an empty `<tool_call>` block weight 1; here its opening tag counts 0.
    - It treats a tag that a thought mentions as a tag, weight 1; here it is thought, or 0 before a lone `</think>`.
      The beginning and end of a block are determined as in that code, mentions included.
    - It knows these tags only; here `<thinking>`, other formats' labels and their calls have the same weights.
    - Its first rollout has step 1; here it has step 0.
    - Its loss is Σ w · loss / Σ w over each micro-batch, averaged over the mini-batch; here one such mean covers the
      whole rollout (`rescaled_to_mean_one`), whatever the micro-batches.
    """

    closed_tags_only = True
    """True if its regions must be labelled with `closed` (see `label_regions`)."""

    def __init__(self) -> None:
        argument = Ramp(0.6, 1.2, steps=300)
        ramps: dict[IntEnum, Ramp | float] = {Region.TAG: 1.0, Region.TOOL_NAME: 1.2}
        ramps |= dict.fromkeys(ARGUMENT_REGIONS, argument)
        ramps[Region.THINK] = Ramp(0.6, 1.0, steps=200)
        super().__init__(ramps)
