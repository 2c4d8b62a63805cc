"""Losses per token of a whole data set: length-sorted batches within a token budget, in resumable shards.

Shapes: B rows, T tokens, N labelled tokens.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_arrays
from rolewise.core.lazy_sequence import LazySequence
from rolewise.data.render import RenderedSample
from rolewise.labelling.classify import SampleLosses
from rolewise.training.token_losses import selected_logits


@dataclass(frozen=True)
class ScoringBatch:
    """Samples that go through the model together, by their index in the data; model `fold` labels all of them."""

    fold: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """Consecutive batches whose losses are written as one file."""

    number: int
    batches: tuple[ScoringBatch, ...]

    def path(self, directory: Path) -> Path:
        # The name includes the content: batches depend on the device, and a run may be resumed on another one.
        content = digest([[batch.fold, batch.samples] for batch in self.batches])
        return directory / f"{self.number:05d}-{content}.npz"


def scored_length(sample: RenderedSample) -> int:
    """Return the number of tokens that must go through the model: tokens after the last loss token affect no loss."""
    return int(np.flatnonzero(sample.loss_mask)[-1]) + 1


def plan_shards(
    samples: Sequence[RenderedSample], folds: Sequence[int], batch_tokens: int, shard_tokens: int
) -> list[Shard]:
    """Split the data into batches of at most `batch_tokens` padded tokens (at least one sample each), longest first.

    `folds` gives the model that judges each sample; samples of a negative fold are not scored.

    Longest first, so that a batch that does not fit in memory fails at once and the estimate of the time left is
    conservative. The result depends only on the arguments, so that a resumed run repeats itself exactly.
    """
    batches: list[ScoringBatch] = []
    lengths = [scored_length(sample) for sample in samples]
    for fold in sorted({fold for fold in folds if fold >= 0}):
        members = [i for i in range(len(samples)) if folds[i] == fold]
        members.sort(key=lambda i: (-lengths[i], i))
        start = 0
        while start < len(members):
            rows = max(1, batch_tokens // lengths[members[start]])
            batches.append(ScoringBatch(fold, tuple(members[start : start + rows])))
            start += rows

    shards: list[Shard] = []
    pending: list[ScoringBatch] = []
    tokens = 0
    for batch in batches:
        if pending and (tokens >= shard_tokens or pending[0].fold != batch.fold):
            shards.append(Shard(len(shards), tuple(pending)))
            pending, tokens = [], 0
        pending.append(batch)
        tokens += sum(lengths[i] for i in batch.samples)
    if pending:
        shards.append(Shard(len(shards), tuple(pending)))
    return shards


def batch_losses(model: nn.Module, head: nn.Module, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Return the losses (float32 nats, shape (N,), row-major) of the labelled tokens of a right-padded batch.

    The attention mask is left out on purpose: under causal attention no token with loss can see the padding to its
    right, and without a mask the attention kernels take their fast path.
    """
    with torch.inference_mode():
        output = selected_logits(model, head, {"input_ids": ids_BT, "use_cache": False}, labels_BT)
        targets_N = labels_BT[:, 1:][labels_BT[:, 1:] != -100]
        return F.cross_entropy(output.logits.float(), targets_N, reduction="none")


def collate(samples: Sequence[RenderedSample], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return right-padded ids and labels (int64, shape (B, T)) up to each sample's last loss token."""
    lengths = [scored_length(sample) for sample in samples]
    ids_BT = np.zeros((len(samples), max(lengths)), dtype=np.int64)
    labels_BT = np.full_like(ids_BT, -100)
    for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
        ids_BT[row, :length] = sample.input_ids[:length]
        mask_T = sample.loss_mask[:length]
        labels_BT[row, :length][mask_T] = sample.input_ids[:length][mask_T]
    labels_BT[:, 0] = -100  # nothing predicts the first token
    return torch.from_numpy(ids_BT).to(device), torch.from_numpy(labels_BT).to(device)


LossFunction = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(fold, ids, labels) → base and tuned losses, each of shape (N,)."""


def score(
    shards: Iterable[Shard],
    samples: Sequence[RenderedSample],
    losses: LossFunction,
    directory: Path,
    device: torch.device | str,
) -> Iterator[int]:
    """Score the shards that `directory` lacks, one file each; yield the number of tokens after every batch.

    Raises:
        InputError: for losses that are not finite; NaN would pass for an unmeasured token.
    """
    for shard in shards:
        if shard.path(directory).exists():
            yield sum(scored_length(samples[i]) for batch in shard.batches for i in batch.samples)
            continue
        base: list[np.ndarray] = []
        tuned: list[np.ndarray] = []
        for batch in shard.batches:
            rows = [samples[i] for i in batch.samples]
            ids_BT, labels_BT = collate(rows, device)
            base_N, tuned_N = (losses_N.cpu().numpy() for losses_N in losses(batch.fold, ids_BT, labels_BT))
            if not (np.isfinite(base_N).all() and np.isfinite(tuned_N).all()):
                raise InputError(
                    f"{rows[0].source}: losses of this sample or its batch are not finite; use --dtype float32, or a "
                    "lower learning rate for the tuning"
                )
            base.append(base_N)
            tuned.append(tuned_N)
            yield sum(scored_length(row) for row in rows)
        write_arrays(shard.path(directory), base=np.concatenate(base), tuned=np.concatenate(tuned))


class MeasuredLosses(LazySequence[SampleLosses]):
    """Base losses, tuned losses and mask of every sample, from the shards' files; read on demand.

    Losses are NaN outside the mask, and for samples in no shard. They are stored in an unnamed temporary file,
    sorted once into the samples' order, since a shard holds samples of similar length from all over the data.
    """

    def __init__(self, shards: Iterable[Shard], samples: Sequence[RenderedSample], directory: Path) -> None:
        self._samples = samples
        counts = (int(np.count_nonzero(sample.loss_mask[1:])) for sample in samples)  # nothing predicts the first token
        self._starts = np.concatenate([[0], np.cumsum(np.fromiter(counts, dtype=np.int64, count=len(samples)))])
        shape = (2, max(1, int(self._starts[-1])))
        with tempfile.TemporaryFile() as file:  # the map keeps it open
            reserve(file, 4 * math.prod(shape))
            self._losses_2N = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        self._losses_2N[:] = np.nan
        for shard in shards:
            with np.load(shard.path(directory)) as arrays:
                losses_2N = np.stack([arrays["base"], arrays["tuned"]])
            start = 0
            for batch in shard.batches:
                for i in batch.samples:
                    place = slice(self._starts[i], self._starts[i + 1])
                    end = start + (place.stop - place.start)
                    self._losses_2N[:, place] = losses_2N[:, start:end]
                    start = end

    def forget(self, sample: int, start: int, end: int) -> None:
        """Erase the losses of the sample's tokens from `start` to `end` (half-open)."""
        before = int(np.count_nonzero(self._samples[sample].loss_mask[1:start]))
        within = int(np.count_nonzero(self._samples[sample].loss_mask[max(1, start) : end]))
        first = self._starts[sample] + before
        self._losses_2N[:, first : first + within] = np.nan

    def __len__(self) -> int:
        return len(self._samples)

    def item(self, place: int) -> SampleLosses:
        """Return the losses of the sample at a place, from 0."""
        mask_T = self._samples[place].loss_mask
        positions = np.flatnonzero(mask_T)
        positions = positions[positions > 0]
        losses_2T = np.full((2, len(mask_T)), np.nan, dtype=np.float32)
        losses_2T[:, positions] = self._losses_2N[:, self._starts[place] : self._starts[place + 1]]
        return losses_2T[0], losses_2T[1], mask_T


def reserve(file: IO[bytes], size: int) -> None:
    """Allocate the whole file now: writing through a map to a full disk would kill the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: cannot hold the losses: {error.strerror or error}; free space or set TMPDIR to "
            "a larger place"
        ) from error
