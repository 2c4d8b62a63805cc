"""Roles of the tokens that a policy has sampled, labelled by their own ids. Works with any trainer: no TRL here.

Shapes: B responses, T tokens of the longest one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.data.token_text import token_table
from rolewise.data.tool_calls import opened_thought
from rolewise.roles.regions import label_regions

Labeller = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Sequence[NDArray[np.uint8]]]
"""(ids before each response, ids of each response) → the role of each token of the response, a number."""

LONGEST_OPENING = 12
"""Maximum number of tokens in a thought's opening tag, with the line breaks after it."""
_CALL_REGIONS = (Region.TOOL_NAME, Region.ARGUMENTS, Region.ARGUMENT_NAME, Region.ARGUMENT_VALUE)

ROLLOUTS_LOOKED_AT = 5
"""Number of rollouts without a single call after which the user is warned that the format is never used."""


@dataclass(frozen=True)
class RolloutRoles:
    """A source of the roles of sampled tokens.

    Attributes:
        label: the labeller.
        names: label of each role by its number; the labeller must return no other numbers.
        of_calls: the roles that occur only in a tool call; empty if calls play no part.
        outside: the role of tokens that the policy did not sample.
    """

    label: Labeller
    names: Mapping[int, str]
    of_calls: frozenset[int] = frozenset()
    outside: int = 0


def call_regions(tokenizer: Any, call_format: str | None, *, closed: bool = False) -> RolloutRoles:
    """Return a source of the regions of tool calls, found in the sampled ids themselves.

    Args:
        tokenizer: the policy's tokenizer.
        call_format: a key of `CALL_FORMATS`; None detects the format automatically.
        closed: as for `region_spans`, by the response's own tags: a thought that the prompt opened does not count.
    """

    def label(before: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[NDArray[np.uint8]]:
        # A thought that the prompt opened counts from its first token on, even if the response never closes it.
        openings = [[] if closed else _opening(ids, tokenizer) for ids in before]
        whole = [[*opening, *ids] for opening, ids in zip(openings, responses, strict=True)]
        labelled = label_regions(whole, tokenizer, call_format, closed=closed)
        return [regions_T[len(opening) :] for regions_T, opening in zip(labelled, openings, strict=True)]

    return RolloutRoles(
        label=label,
        names={int(region): region.label for region in Region},
        of_calls=frozenset(map(int, _CALL_REGIONS)),
    )


def _opening(before: Sequence[int], tokenizer: Any) -> list[int]:
    """Return the last tokens of a prompt, as far as they open a thought."""
    tail = list(before[-LONGEST_OPENING:])
    text, start_T, _ = token_table(tokenizer).text(tail)
    tag = opened_thought(text)
    return [i for i, start in zip(tail, start_T, strict=True) if start >= len(text) - len(tag)] if tag else []


def label_rollout(rollout: dict[str, Any], mask_BT: torch.Tensor, roles: RolloutRoles) -> torch.Tensor:
    """Return the roles of a rollout's completions, uint8 (B, T); each stretch of the policy's own tokens is a separate
    response.

    Args:
        rollout: TRL's scored generation batch, with `completion_ids` of that shape, `prompt_ids` and `prompt_mask`.
        mask_BT: bool, true for the policy's own tokens.
        roles: source of the roles.

    Raises:
        InputError: if the labeller does not return a known role for every token.
    """
    mask, ids = mask_BT.cpu().numpy(), rollout["completion_ids"].cpu().numpy()
    prompts = rollout["prompt_ids"].cpu().numpy()
    prompt_mask = rollout["prompt_mask"].cpu().numpy().astype(bool)
    stretches = [(row, start, end) for row in range(len(mask)) for start, end in _stretches(mask[row])]
    before = [[*prompts[row][prompt_mask[row]].tolist(), *ids[row, :start].tolist()] for row, start, _ in stretches]
    found = roles.label(before, [ids[row, start:end].tolist() for row, start, end in stretches])
    labelled = np.full(mask.shape, roles.outside, dtype=np.uint8)
    for (row, start, end), of_response in zip(stretches, found, strict=True):
        if len(of_response) != end - start:
            raise InputError(f"the labeller returned {len(of_response)} roles for a response of {end - start} tokens")
        labelled[row, start:end] = of_response
    unknown = set(np.unique(labelled).tolist()) - roles.names.keys()
    if unknown:
        raise InputError(f"the labeller returned the role {min(unknown)}, which has no name in `RolloutRoles.names`")
    return torch.from_numpy(labelled).to(mask_BT.device)


def _stretches(mask_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, end) of the runs of true."""
    edges = np.flatnonzero(np.diff(mask_T.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


class FormatCheck:
    """Detects that the first rollouts contain no calls at all, so that the weights do not have their intended effect.

    Args:
        roles: source of the roles.
        format: description, for the user, of the expected call format.
    """

    def __init__(self, roles: RolloutRoles, format: str) -> None:
        self._roles = roles
        self._format = format
        self._rollouts = 0
        self._counts: torch.Tensor | None = None  # (2,): tokens, those outside every region

    def message(self, roles_BT: torch.Tensor, mask_BT: torch.Tensor, accelerator: Any) -> str | None:
        """Return a message for the user after this rollout, at most once in a run; every process must call this."""
        if not self._roles.of_calls or self._rollouts >= ROLLOUTS_LOOKED_AT:
            return None
        own = roles_BT[mask_BT].long()
        calls = torch.isin(own, torch.tensor(sorted(self._roles.of_calls), device=own.device))
        counts = torch.stack([torch.tensor(own.numel(), device=own.device), calls.sum()])
        counts = accelerator.reduce(counts, reduction="sum")
        self._counts = counts if self._counts is None else self._counts + counts
        self._rollouts += 1
        tokens, in_calls = self._counts.tolist()
        if in_calls:
            self._rollouts = ROLLOUTS_LOOKED_AT  # found calls: nothing more to look for
        if in_calls or self._rollouts < ROLLOUTS_LOOKED_AT:
            return None
        return (
            f"no tool call in {self._format} was found in the first {self._rollouts} rollouts: 0 % of their {tokens:,} "
            "tokens are in a call, so the weighting can only tell thoughts from plain text; check the format "
            "(--call-format) and the instructions in the prompts"
        )
