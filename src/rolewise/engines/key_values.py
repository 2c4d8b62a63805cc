"""Rows of tokens with the keys and values that a model computed for them, and the traits of a model's cache.

Shapes: B rows, T tokens, F numbers per token: its keys and values in all layers, concatenated.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from rolewise.core.transformers_insides import (
    cache_argument,
    cache_from,
    cache_joins,
    cache_of,
    cache_selects,
    cache_tensors,
    set_cache_tensors,
)


class _Part(NamedTuple):
    """A layer's keys or values of a token."""

    shape: tuple[int, int]
    device: torch.device
    dtype: torch.dtype


class CacheTraits:
    """Operations that a model's cache of keys and values supports between forward passes.

    Attributes:
        selects: True if rows can be removed and repeated, which the states of linear attention do not allow.
        joins: True if every position has its keys and values, so that batches can be joined and padding cut off, which
            a sliding window does not allow.
    """

    def __init__(self, cache: object) -> None:
        self.joins = cache_joins(cache)
        self.selects = cache_selects(cache)
        tensors = list(cache_tensors(cache)) if self.joins else []
        self._parts = [_Part((t.shape[1], t.shape[3]), t.device, t.dtype) for t in tensors]
        self._widths = [heads * size for (heads, size), _, _ in self._parts]

    def empty(self, rows: int, tokens: int) -> torch.Tensor:
        """Return zeros (B, T, F), to be filled with numbers of tokens; needs a cache that joins."""
        first = self._parts[0]
        return torch.zeros(rows, tokens, sum(self._widths), device=first.device, dtype=first.dtype)

    def cache(self, numbers_BTF: torch.Tensor) -> DynamicCache:
        """Return a cache that holds these numbers; needs a cache that joins."""
        tensors = [
            numbers_BTK.unflatten(2, part.shape).transpose(1, 2).to(part.device, part.dtype)
            for numbers_BTK, part in zip(numbers_BTF.split(self._widths, dim=2), self._parts, strict=True)
        ]
        return cache_from(tensors)


def numbers_of(cache: DynamicCache, row: int, start: int, stop: int) -> torch.Tensor:
    """Return a copy of the keys and values (T, F) of a row's positions from `start` to `stop`."""
    tensors = list(cache_tensors(cache))
    device = tensors[0].device
    return torch.cat([t[row, :, start:stop].transpose(0, 1).flatten(1).to(device) for t in tensors], dim=1)


def cache_traits(model: Any, pad_id: int) -> CacheTraits:
    """Determine the traits of a model's cache by generating a token."""
    rows = padded([[pad_id]], pad_id, model.device)
    return CacheTraits(cache_of(generate(model, rows, pad_id, 1)))


@dataclass
class Rows:
    """Rows of tokens, padded on the left, with the keys and values of their first positions.

    Attributes:
        ids_BT: token ids.
        mask_BT: 1 for tokens and 0 for padding.
        cache: keys and values of the first positions; None if there are none, or they can't be kept.
    """

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    cache: Any = None

    @property
    def width(self) -> int:
        """Number of positions in each row, padding included."""
        return int(self.ids_BT.shape[1])

    def append(self, tokens_B: torch.Tensor) -> None:
        """Add a token to each row."""
        self.ids_BT = torch.cat([self.ids_BT, tokens_B[:, None]], dim=1)
        self.mask_BT = nn.functional.pad(self.mask_BT, (0, 1), value=1)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows; a row may be repeated."""
        rows_B = torch.tensor(rows, device=self.ids_BT.device)
        self.ids_BT, self.mask_BT = self.ids_BT[rows_B], self.mask_BT[rows_B]
        self.cache.batch_select_indices(rows_B)

    def trim(self) -> None:
        """Cut off the columns that are padding in every row."""
        first = int(self.mask_BT.any(dim=0).int().argmax())
        if first == 0:
            return
        self.ids_BT, self.mask_BT = self.ids_BT[:, first:], self.mask_BT[:, first:]
        set_cache_tensors(self.cache, (tensor[..., first:, :] for tensor in cache_tensors(self.cache)))

    def join(self, other: "Rows", pad_id: int) -> None:
        """Add the rows of another batch; both must have the keys and values of all but their last tokens."""
        width = max(self.width, other.width)
        self.ids_BT = torch.cat([_pad_left(rows.ids_BT, width, pad_id) for rows in (self, other)])
        self.mask_BT = torch.cat([_pad_left(rows.mask_BT, width, 0) for rows in (self, other)])
        pairs = zip(cache_tensors(self.cache), cache_tensors(other.cache), strict=True)
        # Padding goes before the positions (the second-to-last dimension).
        joined = (torch.cat([_pad_positions(tensor, width - 1) for tensor in pair]) for pair in pairs)
        set_cache_tensors(self.cache, joined)


def padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Rows:
    """Return prompts as padded rows, without keys and values."""
    longest = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), longest), pad_id)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask_BT[row, longest - len(prompt) :] = 1
    return Rows(ids_BT.to(device), mask_BT.to(device))


def generate(
    model: Any,
    rows: Rows,
    pad_id: int,
    new_tokens: int,
    *,
    processors: Sequence[LogitsProcessor] = (),
    criteria: Sequence[StoppingCriteria] = (),
    logits: bool = False,
) -> Any:
    """Run Transformers' `generate` on these rows, continuing from their keys and values if they have some.

    Args:
        model: any model with `generate`.
        rows: rows to continue; their cache grows.
        pad_id: id of any token.
        new_tokens: maximum number of new tokens.
        processors: processors of the logits of each next token.
        criteria: criteria that end generation early.
        logits: True to return the logits of each new token, float32.
    """
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        output_logits=logits,
    )
    with _no_settings_of_its_own(model):
        return model.generate(
            rows.ids_BT,
            attention_mask=rows.mask_BT,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(criteria),
            **cache_argument(rows.cache),
        )


@contextmanager
def _no_settings_of_its_own(model: Any) -> Iterator[None]:
    """Hide a model's own generation settings (such as a repetition penalty), which would fill any unset value."""
    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


def _pad_left(tensor_BT: torch.Tensor, width: int, value: int) -> torch.Tensor:
    return nn.functional.pad(tensor_BT, (width - tensor_BT.shape[1], 0), value=value)


def _pad_positions(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Pad (B, heads, T, size) to (B, heads, length, size), zeros first."""
    return nn.functional.pad(tensor, (0, 0, length - tensor.shape[-2], 0))
