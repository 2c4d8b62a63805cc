"""Samples that are generated together, one token each per step.

The forward passes, positions and caches are those of Transformers' `generate`, which supports every family of models.
The choice of tokens and the end of samples are decided here, because `generate` draws for the whole batch from one
stream of random numbers, and continues with finished rows until the last one ends.

Shapes: B rows of the batch, each a sample, R samples, T tokens, V vocabulary, K of its tokens.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rolewise.core.transformers_insides import cache_of
from rolewise.engines.base import Sample, Sampling
from rolewise.engines.key_values import Rows, generate, padded
from rolewise.engines.prompt_reader import PromptReader
from rolewise.engines.stopping import StopTexts


class GrowingSample:
    """A sample that is being generated.

    Args:
        prompt_ids: tokens of the prompt.
        sampling: sampling settings.
        index: number of this sample among those of the prompt.
        ends: tokens that end it.
        stops: texts that end it.
        budget: maximum number of tokens.
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
        # The prompt is part of the seed; otherwise all prompts would share their random numbers.
        prompt_hash = zlib.crc32(np.asarray(prompt_ids, dtype=np.int64).tobytes())
        self._generator = np.random.default_rng([sampling.seed % 2**64, prompt_hash, index])

    @property
    def remaining(self) -> int:
        """Number of tokens that may still be added."""
        return self._budget - len(self.ids)

    def uniform(self) -> float:
        """Return the random number in [0, 1) that decides the next token."""
        return float(self._generator.random())

    def add(self, token: int, logprob: float | None) -> None:
        """Append a token; do nothing if the sample has ended."""
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
        """Return the result; the sample must have ended."""
        assert self.finish_reason is not None
        return Sample(self.ids, self.logprobs if self.sampling.logprobs else None, self.finish_reason)


def choose(logits_RV: torch.Tensor, samples: Sequence[GrowingSample]) -> torch.Tensor:
    """Choose the next token of each sample.

    Greedy samples take the likeliest token. The others turn one random number of their own into a token by the inverse
    of the cumulative distribution, after Transformers' temperature, top-k and top-p, in this order.

    Args:
        logits_RV: logits of the next token, float32.
        samples: R samples.

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
        scores_RK, ids_RK = _candidates(logits_RV[rows], top_k)
        scores_RK = _warpers(temperature, top_k, top_p)(tokens_R[rows, None], scores_RK)
        cumulative_RK = scores_RK.softmax(dim=-1).cumsum(dim=-1)
        uniform_R1 = logits_RV.new_tensor([[samples[row].uniform()] for row in rows])
        total_R1 = cumulative_RK[:, -1:]
        # Strictly below the total, so that rounding can't choose a token beyond the last possible one.
        point_R1 = torch.minimum(uniform_R1 * total_R1, total_R1.nextafter(torch.zeros_like(total_R1)))
        place_R1 = torch.searchsorted(cumulative_RK, point_R1, right=True)
        tokens_R[rows] = ids_RK.gather(1, place_R1)[:, 0]
    return tokens_R


def _candidates(logits_RV: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits that top-k keeps and their token ids, both (R, K), in the order of the vocabulary.

    This shortens the sort in top-p; the whole vocabulary is a thousand times as long. The whole vocabulary (K = V) is
    returned if `top_k` is 0 or several tokens tie for the last place: Transformers' top-k keeps them all.
    """
    rows, vocabulary = logits_RV.shape
    if 0 < top_k < vocabulary:
        ids_RK = logits_RV.topk(top_k).indices.sort(dim=-1).values
        kept_RK = logits_RV.gather(1, ids_RK)
        if int((logits_RV >= kept_RK.amin(dim=-1, keepdim=True)).sum()) == rows * top_k:
            return kept_RK, ids_RK
    return logits_RV, torch.arange(vocabulary, device=logits_RV.device).expand(rows, -1)


class Batch:
    """A batch of samples, with the keys and values of all but their last tokens if the model's cache allows it.

    Args:
        reader: reader that processes the prompts and caches them and the samples.
        prompts: B prompts.
        samples: samples of each prompt, none of them started; all get their first token here, from one pass over the
            prompt if the cache allows it.
    """

    def __init__(
        self, reader: PromptReader, prompts: Sequence[list[int]], samples: Sequence[Sequence[GrowingSample]]
    ) -> None:
        self.samples = [sample for group in samples for sample in group]
        self._reader = reader
        self._outdated: set[GrowingSample] = set()
        origins = [row for row, group in enumerate(samples) for _ in group]
        if self._reader.traits.selects:
            self._rows, logits_BV = reader.read(prompts)
            if origins != list(range(len(prompts))):
                self._rows.select(origins)
            self._rows.append(add_next(logits_BV[origins], self.samples))
        else:
            # The cache can't continue from there, so `generate` reads the prompt, once for every sample.
            prompts_of_samples = [prompts[row] for row in origins]
            reader.usage.prompt_tokens += sum(map(len, prompts))
            reader.usage.computed_tokens += sum(map(len, prompts_of_samples))
            self._rows = padded(prompts_of_samples, reader.pad_id, reader.model.device)
            self.advance()

    def advance(self) -> None:
        """Generate until enough samples have ended to make replacing them worthwhile."""
        output = generate(
            self._reader.model,
            self._rows,
            self._reader.pad_id,
            max(sample.remaining for sample in self.samples),
            processors=[_Chooser(self.samples)],
            criteria=[_Pause(self.samples, wait_for_all=not self._reader.traits.selects)],
        )
        grown = output.sequences.shape[1] - self.width
        mask_BT = nn.functional.pad(self._rows.mask_BT, (0, grown), value=1)
        self._rows = Rows(output.sequences, mask_BT, cache_of(output) if self._reader.traits.selects else None)

    @property
    def width(self) -> int:
        """Number of positions in each row, padding included."""
        return self._rows.width

    def outdate(self) -> None:
        """Exclude the current samples from caching, because the model has changed."""
        self._outdated = set(self.samples)

    def drop_finished(self) -> None:
        """Remove the samples that have ended, and cache them."""
        keep = [row for row, sample in enumerate(self.samples) if sample.finish_reason is None]
        if len(keep) == len(self.samples):
            return
        ended = {row: sample for row, sample in enumerate(self.samples) if sample.finish_reason is not None}
        self._reader.remember(
            self._rows,
            {row: [*s.prompt_ids, *s.ids] for row, s in ended.items() if s not in self._outdated},
        )
        self.samples = [self.samples[row] for row in keep]
        if keep and self._reader.traits.selects:
            self._rows.select(keep)
        if keep and self._reader.traits.joins:
            self._rows.trim()

    def join(self, other: "Batch") -> None:
        """Add the samples of another batch of the same model; its cache must allow it."""
        self._rows.join(other._rows, self._reader.pad_id)
        self.samples += other.samples


def add_next(logits_RV: torch.Tensor, samples: Sequence[GrowingSample]) -> torch.Tensor:
    """Choose the next token of each sample and add it.

    Returns:
        Token ids (R,).
    """
    tokens_R = choose(logits_RV, samples)
    logprobs: Sequence[float | None] = [None] * len(samples)
    if any(sample.sampling.logprobs for sample in samples):
        logprobs = (logits_RV.gather(1, tokens_R[:, None])[:, 0] - logits_RV.logsumexp(dim=-1)).tolist()
    for sample, token, logprob in zip(samples, tokens_R.tolist(), logprobs, strict=True):
        sample.add(token, logprob)
    return tokens_R


class _Chooser(LogitsProcessor):  # type: ignore[misc]
    """Processor that chooses every row's token and masks all others for `generate`."""

    def __init__(self, samples: Sequence[GrowingSample]) -> None:
        self._samples = samples

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens_B = add_next(scores, self._samples)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens_B[:, None], 0.0)


class _Pause(StoppingCriteria):  # type: ignore[misc]
    """Criterion that ends `generate` when an eighth of the samples have ended: fewer don't merit a restart."""

    def __init__(self, samples: Sequence[GrowingSample], *, wait_for_all: bool) -> None:
        self._samples = samples
        self._enough = len(samples) if wait_for_all else max(1, len(samples) // 8)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        ended = sum(sample.finish_reason is not None for sample in self._samples)
        return torch.full((len(input_ids),), ended >= self._enough, device=input_ids.device)


def _warpers(temperature: float, top_k: int, top_p: float) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if temperature != 1:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k > 0:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(float(top_p)))
    return warpers
