"""Reader of prompts that feeds the model only the tokens not cached yet.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from rolewise.core.peft_insides import adapter_state
from rolewise.core.torch_insides import write_count
from rolewise.core.transformers_insides import cache_of
from rolewise.engines.key_values import CacheTraits, Rows, cache_traits, generate, numbers_of, padded
from rolewise.engines.prefix_cache import PrefixCache, shared_prefixes

ALIKE = 0.8
"""Prompts are read together down to this share of the longest: reading padding costs as much as reading tokens."""
ALIKE_TOKENS = 8
"""Maximum padding, in positions, that is read rather than avoided by a separate pass."""
SHARED_TOKENS = 64
"""Minimum number of tokens that a shared prefix must save to get a separate pass."""


@dataclass
class Usage:
    """Tokens processed by an engine so far; scoring is not counted.

    Attributes:
        prompt_tokens: tokens of the requested prompts, counted once for all samples of a prompt.
        computed_tokens: prompt tokens that went through the model; the others were cached. The number is larger than
            `prompt_tokens` for a model that reads a prompt again for every sample.
        generated_tokens: tokens of all samples.
    """

    prompt_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0


class PromptReader:
    """Reader that processes prompts and caches them as long as the model does not change.

    Args:
        model: a Transformers model with `generate`, in evaluation mode.
        pad_id: id of any token.
        max_bytes: maximum size of cached keys and values, 0 for none; always none if the model's cache does not join.
        max_rows: maximum number of prompts in one pass.
        max_positions: maximum number of positions in one pass, padding and cached ones included; a longer prompt gets
            its own pass.
        usage: counters to update.

    Attributes:
        traits: operations that the model's cache supports.
    """

    def __init__(
        self, model: Any, pad_id: int, *, max_bytes: int, max_rows: int, max_positions: int, usage: Usage
    ) -> None:
        self.model, self.pad_id, self.usage = model, pad_id, usage
        self.traits: CacheTraits = cache_traits(model, pad_id)
        can_remember = self.traits.joins and not _keys_depend_on_length(model.config)
        self._max_bytes = max_bytes if can_remember else 0
        self._max_rows, self._max_positions = max_rows, max_positions
        self._state = _state_of(model)
        self._prefixes = PrefixCache(self._max_bytes)

    def forget(self) -> None:
        """Clear the cache."""
        self._prefixes = PrefixCache(self._max_bytes)

    def forget_if_changed(self) -> bool:
        """Clear the cache if weights or adapters have changed since the last call.

        Weights that are written through `Parameter.data` are not noticed.

        Returns:
            True if they have changed.
        """
        before, self._state = self._state, _state_of(self.model)
        if self._state == before:
            return False
        # The model may have moved to another device or precision.
        self.traits = cache_traits(self.model, self.pad_id)
        self.forget()
        return True

    def unread(self, prompt: list[int]) -> int:
        """Return the number of tokens of a prompt that must go through the model: at least the last one."""
        return max(len(prompt) - self._prefixes.known(prompt), 1)

    def read(self, prompts: Sequence[list[int]]) -> tuple[Rows, torch.Tensor]:
        """Read prompts in one pass.

        Returns:
            The prompts, with all their keys and values if the cache selects, and float32 logits (B, V) of the next
            token.
        """
        self.usage.prompt_tokens += sum(map(len, prompts))
        return self._pass(prompts)

    def read_shared(self, prompts: Sequence[list[int]]) -> None:
        """Read prefixes that several of these prompts share, if they are not cached and justify a pass."""
        if not self._max_bytes:
            return
        levels: dict[int, list[list[int]]] = defaultdict(list)
        for level, prefix in shared_prefixes(prompts, self._prefixes.known, SHARED_TOKENS):
            levels[level].append(prefix)
        for level in sorted(levels):
            for places in self.passes(levels[level]):
                self._pass([levels[level][place] for place in places])

    def passes(self, prompts: Sequence[list[int]]) -> Iterator[list[int]]:
        """Yield the indices of prompts that are best read in one pass, those with most to read first."""
        unread = list(map(self.unread, prompts))
        places = sorted(range(len(prompts)), key=lambda place: -unread[place])
        while places:
            count, width = 0, 0
            for place in places:
                width = max(width, len(prompts[place]))
                too_many = count == self._max_rows or (count + 1) * width > self._max_positions
                if count and (too_many or not alike(unread[place], unread[places[0]])):
                    break
                count += 1
            yield places[:count]
            places = places[count:]

    def remember(self, rows: Rows, ids: Mapping[int, list[int]]) -> None:
        """Cache the keys and values of the tokens that rows begin with, after their padding, as far as they exist.

        Args:
            rows: rows with a cache that joins.
            ids: row → its token ids.
        """
        if not self._max_bytes:
            return
        columns = rows.mask_BT.argmax(dim=1).tolist()
        computed = rows.cache.get_seq_length()
        for row, tokens in ids.items():
            numbers = partial(_numbers_after, rows.cache, row, columns[row])
            self._prefixes.add(tokens[: computed - columns[row]], numbers)

    def _pass(self, prompts: Sequence[list[int]]) -> tuple[Rows, torch.Tensor]:
        rows = padded(prompts, self.pad_id, self.model.device)
        # Every row reads as many positions as the row that must read most, so that padding stays on the left.
        known = rows.width - max(map(self.unread, prompts))
        self.usage.computed_tokens += int(rows.mask_BT[:, known:].sum())
        if known:
            rows.cache = self._recall(prompts, rows.width, known)
        output = generate(self.model, rows, self.pad_id, 1, logits=True)
        rows.cache = cache_of(output) if self.traits.selects else None
        self.remember(rows, dict(enumerate(prompts)))
        return rows, output.logits[0]

    def _recall(self, prompts: Sequence[list[int]], width: int, known: int) -> DynamicCache:
        """Return a cache of the first `known` of `width` positions of prompts that are padded on the left."""
        numbers_BTF = self.traits.empty(len(prompts), known)
        for row, prompt in enumerate(prompts):
            first = width - len(prompt)
            if first < known:
                self._prefixes.copy(prompt[: known - first], numbers_BTF[row, first:])
        return self.traits.cache(numbers_BTF)


def alike(unread: int, most: int) -> bool:
    """Return True if a prompt may be read together with one that has `most` tokens to read."""
    return most - unread <= max((1 - ALIKE) * most, ALIKE_TOKENS)


def _numbers_after(cache: DynamicCache, row: int, column: int, start: int, stop: int) -> torch.Tensor:
    return numbers_of(cache, row, column + start, column + stop)


def _state_of(model: Any) -> Hashable:
    """Return a value that changes when weights are written in place or replaced, or adapters are switched or merged."""
    weights = tuple((p.data_ptr(), write_count(p)) for p in model.parameters())
    return weights, adapter_state(model)


def _keys_depend_on_length(config: Any) -> bool:
    """Return True if a token's key depends on the length of the text, as with some scalings of rotary positions."""
    rope = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)
