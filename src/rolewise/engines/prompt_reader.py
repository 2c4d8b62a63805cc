"""Prompts go into the model from where what is known of them ends.

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
"""So many positions of padding are read rather than given a pass of their own."""
SHARED_TOKENS = 64
"""What several prompts begin with gets a pass of its own if that saves so many tokens."""


@dataclass
class Usage:
    """Tokens that went through an engine so far; scoring is not counted.

    Attributes:
        prompt_tokens: of the prompts that were asked about, once for all samples of one.
        computed_tokens: those of them that went through the model; the others were known. A model that reads a prompt
            anew for every sample has more of them.
        generated_tokens: of all samples.
    """

    prompt_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0


class PromptReader:
    """Reads prompts and remembers them, as long as the model stays what it is.

    Args:
        model: a Transformers model with `generate`, in evaluation mode.
        pad_id: any token.
        max_bytes: of keys and values that are remembered, 0 for none; a model whose cache does not join remembers none.
        max_rows: prompts of one pass at most.
        max_positions: positions of one pass at most, padding and known ones included; a longer prompt gets its own.
        usage: is counted on.

    Attributes:
        traits: what the model's cache allows.
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
        """Forget everything that was read."""
        self._prefixes = PrefixCache(self._max_bytes)

    def forget_if_changed(self) -> bool:
        """Forget everything if weights or adapters are others than the last time that this was asked.

        Weights that are written through `Parameter.data` stay unseen.

        Returns:
            Whether they are.
        """
        before, self._state = self._state, _state_of(self.model)
        if self._state == before:
            return False
        # It may have gone to another device or precision.
        self.traits = cache_traits(self.model, self.pad_id)
        self.forget()
        return True

    def unread(self, prompt: list[int]) -> int:
        """Tokens of a prompt that must go through the model: at least the last one."""
        return max(len(prompt) - self._prefixes.known(prompt), 1)

    def read(self, prompts: Sequence[list[int]]) -> tuple[Rows, torch.Tensor]:
        """Read prompts in one pass.

        Returns:
            The prompts, with all their keys and values where the cache selects, and logits (B, V) of what follows,
            float32.
        """
        self.usage.prompt_tokens += sum(map(len, prompts))
        return self._pass(prompts)

    def read_shared(self, prompts: Sequence[list[int]]) -> None:
        """Read what several of these prompts begin with, where nobody has read it and it is worth a pass."""
        if not self._max_bytes:
            return
        levels: dict[int, list[list[int]]] = defaultdict(list)
        for level, prefix in shared_prefixes(prompts, self._prefixes.known, SHARED_TOKENS):
            levels[level].append(prefix)
        for level in sorted(levels):
            for places in self.passes(levels[level]):
                self._pass([levels[level][place] for place in places])

    def passes(self, prompts: Sequence[list[int]]) -> Iterator[list[int]]:
        """Places of prompts that are best read in one pass, those with most to read first."""
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
        """Keep keys and values of the tokens that some rows begin with, after their padding, as far as there are any.

        Args:
            rows: with a cache that joins.
            ids: of each of these rows.
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
        # Every row reads as many positions as the one that must read most, so that padding stays on the left.
        known = rows.width - max(map(self.unread, prompts))
        self.usage.computed_tokens += int(rows.mask_BT[:, known:].sum())
        if known:
            rows.cache = self._recall(prompts, rows.width, known)
        output = generate(self.model, rows, self.pad_id, 1, logits=True)
        rows.cache = cache_of(output) if self.traits.selects else None
        self.remember(rows, dict(enumerate(prompts)))
        return rows, output.logits[0]

    def _recall(self, prompts: Sequence[list[int]], width: int, known: int) -> DynamicCache:
        """A cache of the first `known` of `width` positions of prompts that are padded on the left."""
        numbers_BTF = self.traits.empty(len(prompts), known)
        for row, prompt in enumerate(prompts):
            first = width - len(prompt)
            if first < known:
                self._prefixes.copy(prompt[: known - first], numbers_BTF[row, first:])
        return self.traits.cache(numbers_BTF)


def alike(unread: int, most: int) -> bool:
    """Whether a prompt may be read beside one that has `most` tokens to read."""
    return most - unread <= max((1 - ALIKE) * most, ALIKE_TOKENS)


def _numbers_after(cache: DynamicCache, row: int, column: int, start: int, stop: int) -> torch.Tensor:
    return numbers_of(cache, row, column + start, column + stop)


def _state_of(model: Any) -> Hashable:
    """Changes whenever weights are written in place or replaced, and whenever adapters are switched or merged."""
    weights = tuple((p.data_ptr(), write_count(p)) for p in model.parameters())
    return weights, adapter_state(model)


def _keys_depend_on_length(config: Any) -> bool:
    """Whether a token's key is another one in a longer text, as with some ways to stretch rotary positions."""
    rope = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)
