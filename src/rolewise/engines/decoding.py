"""Samples that grow together, a token each at every step.

The forward passes, positions and caches are those of Transformers' `generate`, which knows every family of models. What
is chosen and when to stop is decided here, because `generate` draws for the whole batch from one stream of random
numbers, and goes on with finished rows until the last one ends.

Shapes: B rows of the batch, R samples, T tokens, V vocabulary.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from rolewise.engines.base import Sample, Sampling
from rolewise.engines.stopping import StopTexts


class GrowingSample:
    """A sample under way.

    Args:
        prompt_ids: the prompt's tokens.
        sampling: how to go on from there.
        index: which of the prompt's samples this is.
        ends: tokens that end it.
        stops: texts that end it.
        budget: at most so many tokens.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        index: int,
        ends: frozenset[int],
        stops: StopTexts,
        budget: int,
    ) -> None:
        self.prompt_ids = prompt_ids
        self.sampling = sampling
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish_reason: Literal["stop", "length"] | None = None
        self._ends, self._stops, self._budget = ends, stops, budget
        # The prompt is part of the key, or all prompts would share their luck.
        prompt_hash = zlib.crc32(np.asarray(prompt_ids, dtype=np.int64).tobytes())
        self._generator = np.random.default_rng([sampling.seed % 2**64, prompt_hash, index])

    @property
    def remaining(self) -> int:
        """Tokens that it may still take."""
        return self._budget - len(self.ids)

    def uniform(self) -> float:
        """The random number in [0, 1) that decides over the next token."""
        return float(self._generator.random())

    def add(self, token: int, logprob: float | None) -> None:
        """Append a token; a finished sample takes no more."""
        if self.finish_reason is not None:
            return
        self.ids.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        if token in self._ends or self._stops.completed_by_last(self.ids):
            self.finish_reason = "stop"
        elif self.remaining == 0:
            self.finish_reason = "length"

    def finished(self) -> Sample:
        """The sample as it is handed out; it must have ended."""
        assert self.finish_reason is not None
        return Sample(self.ids, self.logprobs if self.sampling.logprobs else None, self.finish_reason)


def choose(logits_RV: torch.Tensor, samples: Sequence[GrowingSample]) -> torch.Tensor:
    """The next token of each sample.

    Greedy samples take the likeliest token. The others turn one random number of their own into a token by the inverse
    of the cumulative distribution, after Transformers' temperature, top-k and top-p, in this order.

    Args:
        logits_RV: of the next token, float32.
        samples: R of them.

    Returns:
        Token ids (R,).
    """
    tokens_R = logits_RV.argmax(dim=-1)
    alike: dict[tuple[float, int, float], list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        settings = sample.sampling
        if settings.temperature > 0:
            alike[settings.temperature, settings.top_k, settings.top_p].append(row)
    for (temperature, top_k, top_p), rows in alike.items():
        scores_RV = _warpers(temperature, top_k, top_p)(tokens_R[rows, None], logits_RV[rows])
        cumulative_RV = scores_RV.softmax(dim=-1).cumsum(dim=-1)
        uniform_R1 = logits_RV.new_tensor([[samples[row].uniform()] for row in rows])
        total_R1 = cumulative_RV[:, -1:]
        # Strictly below the total, so that rounding can't choose a token beyond the last possible one.
        place_R1 = torch.minimum(uniform_R1 * total_R1, total_R1.nextafter(torch.zeros_like(total_R1)))
        tokens_R[rows] = torch.searchsorted(cumulative_RV, place_R1, right=True)[:, 0]
    return tokens_R


class Batch:
    """Samples side by side, padded on the left, with the keys and values of all but their last tokens.

    Args:
        model: a Transformers model with `generate`, in evaluation mode.
        pad_id: any token.
        traits: what its cache allows, see `cache_traits`.
        prompts: B prompts.
        samples: those of each prompt, none of them begun; all get their first token here, from one pass over the prompt
            where the cache allows it.
    """

    def __init__(
        self,
        model: Any,
        pad_id: int,
        traits: "CacheTraits",
        prompts: Sequence[Sequence[int]],
        samples: Sequence[Sequence[GrowingSample]],
    ) -> None:
        self.samples = [sample for group in samples for sample in group]
        self._model, self._pad_id, self._traits = model, pad_id, traits
        origins = [row for row, group in enumerate(samples) for _ in group]
        if not traits.selects:
            prompts, origins = [prompts[row] for row in origins], list(range(len(origins)))
            samples = [[sample] for sample in self.samples]
        longest = max(len(prompt) for prompt in prompts)
        self._ids_BT = torch.full((len(prompts), longest), pad_id)
        self._mask_BT = torch.zeros_like(self._ids_BT)
        for row, prompt in enumerate(prompts):
            self._ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt))
            self._mask_BT[row, longest - len(prompt) :] = 1
        self._ids_BT, self._mask_BT = self._ids_BT.to(model.device), self._mask_BT.to(model.device)
        self._cache: Any = None
        self._generate(samples, 1 if traits.selects else None)
        if traits.selects:
            self._expand(origins)

    def advance(self) -> None:
        """Go on until so many samples have ended that it pays to leave them out and let others in."""
        self._generate([[sample] for sample in self.samples], None)

    @property
    def width(self) -> int:
        """Positions of each row, padding included."""
        return int(self._ids_BT.shape[1])

    def drop_finished(self) -> None:
        """Leave out the samples that have ended."""
        keep = [row for row, sample in enumerate(self.samples) if sample.finish_reason is None]
        if len(keep) == len(self.samples):
            return
        self.samples = [self.samples[row] for row in keep]
        if keep and self._traits.selects:
            self._select(keep)
            self._trim()

    def join(self, other: "Batch") -> None:
        """Take in the samples of another batch of the same model; its cache must allow it."""
        width = max(self.width, other.width)
        self._ids_BT = torch.cat([_pad_left(batch._ids_BT, width, self._pad_id) for batch in (self, other)])
        self._mask_BT = torch.cat([_pad_left(batch._mask_BT, width, 0) for batch in (self, other)])
        for layer, more in zip(self._cache.layers, other._cache.layers, strict=True):
            for name in ("keys", "values"):
                both = (getattr(layer, name), getattr(more, name))
                # Padding goes before the positions (the last dimension but one).
                setattr(layer, name, torch.cat([_pad_positions(tensor, width - 1) for tensor in both]))
        self.samples += other.samples

    def _generate(self, samples: Sequence[Sequence[GrowingSample]], new_tokens: int | None) -> None:
        """Let `generate` go on from here, by `new_tokens`, or until it pays to stop."""
        longest = max(sample.remaining for group in samples for sample in group)
        config = GenerationConfig(
            max_new_tokens=new_tokens or longest,
            do_sample=False,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
        )
        cached = {} if self._cache is None else {"past_key_values": self._cache}
        with _no_settings_of_its_own(self._model):
            output = self._model.generate(
                self._ids_BT,
                attention_mask=self._mask_BT,
                generation_config=config,
                logits_processor=LogitsProcessorList([_Chooser(samples)]),
                stopping_criteria=StoppingCriteriaList([_Pause(self.samples, wait_for_all=not self._traits.selects)]),
                **cached,
            )
        grown = output.sequences.shape[1] - self.width
        self._ids_BT = output.sequences
        self._mask_BT = nn.functional.pad(self._mask_BT, (0, grown), value=1)
        self._cache = output.past_key_values if self._traits.selects else None

    def _expand(self, origins: list[int]) -> None:
        """From one row for each prompt to one for each sample, with the sample's own first token."""
        if origins != list(range(len(self._ids_BT))):
            self._select(origins)
        self._ids_BT[:, -1] = torch.tensor([sample.ids[-1] for sample in self.samples])

    def _select(self, rows: list[int]) -> None:
        rows_B = torch.tensor(rows, device=self._ids_BT.device)
        self._ids_BT, self._mask_BT = self._ids_BT[rows_B], self._mask_BT[rows_B]
        self._cache.batch_select_indices(rows_B)

    def _trim(self) -> None:
        """Cut off the columns that are padding in every row."""
        first = int(self._mask_BT.any(dim=0).int().argmax())
        if first == 0 or not self._traits.joins:
            return
        self._ids_BT, self._mask_BT = self._ids_BT[:, first:], self._mask_BT[:, first:]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[..., first:, :], layer.values[..., first:, :]


class CacheTraits:
    """What may be done with a model's cache of keys and values between forward passes.

    Attributes:
        selects: rows can be left out and repeated. Not so with the states of linear attention.
        joins: every position has its keys and values, so batches can be put side by side and padding cut off. Not so
            with a sliding window.
    """

    def __init__(self, cache: object) -> None:
        layers = cache.layers if isinstance(cache, DynamicCache) else []
        kinds = {type(layer) for layer in layers}
        self.joins = kinds == {DynamicLayer}
        self.selects = bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def cache_traits(model: Any, pad_id: int) -> CacheTraits:
    """Find out by generating a token."""
    config = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=pad_id, return_dict_in_generate=True)
    prompt_BT = torch.tensor([[pad_id]], device=model.device)
    with _no_settings_of_its_own(model):
        output = model.generate(prompt_BT, attention_mask=torch.ones_like(prompt_BT), generation_config=config)
    return CacheTraits(getattr(output, "past_key_values", None))


class _Chooser(LogitsProcessor):  # type: ignore[misc]
    """Chooses every row's token and leaves `generate` nothing else to take.

    Args:
        samples: those that go on from each row.
    """

    def __init__(self, samples: Sequence[Sequence[GrowingSample]]) -> None:
        self._samples = [sample for group in samples for sample in group]
        self._origins = [row for row, group in enumerate(samples) for _ in group]
        self._several = len(self._origins) > len(samples)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logits_RV = scores[self._origins] if self._several else scores
        tokens_R = choose(logits_RV, self._samples)
        logprobs: Sequence[float | None] = [None] * len(self._samples)
        if any(sample.sampling.logprobs for sample in self._samples):
            logprobs = (logits_RV.gather(1, tokens_R[:, None])[:, 0] - logits_RV.logsumexp(dim=-1)).tolist()
        for sample, token, logprob in zip(self._samples, tokens_R.tolist(), logprobs, strict=True):
            sample.add(token, logprob)
        tokens_B1 = torch.zeros_like(input_ids[:, :1])
        tokens_B1[self._origins, 0] = tokens_R
        return torch.full_like(scores, -torch.inf).scatter(1, tokens_B1, 0.0)


class _Pause(StoppingCriteria):  # type: ignore[misc]
    """Ends a call of `generate` when an eighth of the samples have ended: fewer are not worth a new start."""

    def __init__(self, samples: Sequence[GrowingSample], *, wait_for_all: bool) -> None:
        self._samples = samples
        self._enough = len(samples) if wait_for_all else max(1, len(samples) // 8)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        ended = sum(sample.finish_reason is not None for sample in self._samples)
        return torch.full((len(input_ids),), ended >= self._enough, device=input_ids.device)


@contextmanager
def _no_settings_of_its_own(model: Any) -> Iterator[None]:
    """A model's own generation settings (a repetition penalty, say) would fill whatever is not set."""
    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


def _warpers(temperature: float, top_k: int, top_p: float) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if temperature != 1:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k > 0:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(float(top_p)))
    return warpers


def _pad_left(tensor_BT: torch.Tensor, width: int, value: int) -> torch.Tensor:
    return nn.functional.pad(tensor_BT, (width - tensor_BT.shape[1], 0), value=value)


def _pad_positions(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """(B, heads, T, size) to (B, heads, length, size), zeros first."""
    return nn.functional.pad(tensor, (0, 0, length - tensor.shape[-2], 0))
