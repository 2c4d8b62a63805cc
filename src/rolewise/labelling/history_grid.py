"""Losses of outputs under their own and under other histories, each history read once.

The model reads every sample once; that gives the losses of its outputs under their own history. The keys and values of
the part before a turn then serve, as the history of that turn, a whole group of outputs of other conversations. So
K other histories cost about K passes over the outputs alone, however long the histories are.

Shapes: B rows, T tokens, N loss tokens, K histories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_arrays
from rolewise.core.transformers_insides import (
    cache_argument,
    cache_from,
    cache_joins,
    cache_of,
    cache_tensors,
    joining_cache,
)
from rolewise.data.render import RenderedSample
from rolewise.data.shuffle import OutputRef
from rolewise.labelling.histories import Group
from rolewise.labelling.scoring import scored_length
from rolewise.training.token_losses import selected_logits

CACHE_ERROR = 1e-2
"""Largest difference (nats) between losses from stored keys and values and from a plain pass, with float32 weights."""


@dataclass(frozen=True)
class Served:
    """The use of a sample's history before one of its turns.

    Attributes:
        turn: the turn.
        slot: number of this history among those of the outputs, from 0.
        outputs: the outputs to score under it.
    """

    turn: int
    slot: int
    outputs: tuple[OutputRef, ...]


@dataclass(frozen=True)
class GridShard:
    """Samples whose losses are written as one file, with what each of their histories serves.

    Attributes:
        tokens: number of tokens to process.
    """

    number: int
    tokens: int
    samples: tuple[int, ...]
    serves: tuple[tuple[Served, ...], ...]

    def path(self, directory: Path) -> Path:
        content = digest([[i, [[s.turn, s.slot, s.outputs] for s in serves]] for i, serves in self.work])
        return directory / f"{self.number:05d}-{content}.npz"

    @property
    def work(self) -> Iterator[tuple[int, tuple[Served, ...]]]:
        """The samples, each with the uses of its histories."""
        return zip(self.samples, self.serves, strict=True)


def plan_grid(samples: Sequence[RenderedSample], groups: Iterable[Group], shard_tokens: int) -> list[GridShard]:
    """Return shards of about `shard_tokens` tokens to process, longest samples first; they depend on nothing else."""
    serves: dict[int, list[Served]] = {}
    lengths: dict[OutputRef, int] = {}
    sample_lengths = []
    for i, sample in enumerate(samples):
        sample_lengths.append(scored_length(sample))
        lengths |= {OutputRef(i, t): turn.end - turn.start for t, turn in enumerate(sample.turns)}
    for group in groups:
        for slot, history in enumerate(group.histories):
            serves.setdefault(history.sample, []).append(Served(history.turn, slot, group.outputs))
    shards: list[GridShard] = []
    pending: list[int] = []
    tokens = 0
    for i in sorted(range(len(sample_lengths)), key=lambda i: (-sample_lengths[i], i)):
        pending.append(i)
        tokens += sample_lengths[i] + sum(lengths[ref] for use in serves.get(i, []) for ref in use.outputs)
        if tokens >= shard_tokens:
            shards.append(_shard(len(shards), tokens, pending, serves))
            pending, tokens = [], 0
    return [*shards, *([_shard(len(shards), tokens, pending, serves)] if pending else [])]


def _shard(number: int, tokens: int, members: Sequence[int], serves: dict[int, list[Served]]) -> GridShard:
    return GridShard(
        number,
        tokens,
        tuple(members),
        tuple(tuple(sorted(serves.get(i, []), key=lambda use: (use.turn, use.slot))) for i in members),
    )


class HistoryScorer:
    """Scorer of outputs under histories with one model.

    Args:
        model: a causal language model in evaluation mode.
        batch_tokens: maximum number of padded tokens of outputs per forward pass (a longer output goes alone).
        limit: maximum number of tokens of a history and an output together; a longer history loses its beginning.
    """

    def __init__(self, model: Any, *, batch_tokens: int, limit: int | None) -> None:
        self._model, self._head = model, model.get_output_embeddings()
        self._batch_tokens, self._limit = batch_tokens, limit
        self.reuses: bool | None = None

    def try_cache(self, ids_T: np.ndarray, mask_T: np.ndarray) -> None:
        """Find out with a sample, as for `losses`, if the model's keys and values can be reused."""
        self.reuses = None
        self.losses(ids_T, mask_T, [(1, [])])

    def losses(
        self, ids_T: np.ndarray, mask_T: np.ndarray, serves: Sequence[tuple[int, Sequence[np.ndarray]]]
    ) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """Return losses (float32 nats): the tokens' own, shape (N,), and each output's under each history, shape (T,).

        Args:
            ids_T: token ids.
            mask_T: bool, true for the tokens to score; the first token is not, since nothing predicts it.
            serves: per use, the length of the history in tokens, at least 1, and ids of outputs, each of shape (T,).
        """
        ids = torch.from_numpy(ids_T.astype(np.int64)).to(self._model.device)
        labels = ids.masked_fill(~torch.from_numpy(mask_T).to(ids.device), -100)
        labels[0] = -100
        cache = joining_cache(self._model) if serves and self.reuses is not False else None
        own_N, filled = self._forward(ids[None], labels[None], cache)
        if serves and self.reuses is None:
            self.reuses = self._agrees(filled, ids, labels, own_N)
        served = [self.under(ids[:history], filled if self.reuses else None, outputs) for history, outputs in serves]
        return own_N.cpu().numpy(), served

    def read(self, history: Sequence[int]) -> tuple[torch.Tensor, Any]:
        """Return a history's ids (int64, shape (T,)) on the device, and its keys and values if they can be reused."""
        ids = torch.tensor(list(history), dtype=torch.long, device=self._model.device)
        labels = ids.clone()
        labels[: (len(ids) + 1) // 2] = -100  # any tokens would do to see if the cache can be reused
        losses_N, filled = self._forward(ids[None], labels[None], joining_cache(self._model))
        if self.reuses is None:
            self.reuses = self._agrees(filled, ids, labels, losses_N)
        return ids, filled if self.reuses else None

    def under(self, history_T: torch.Tensor, cache: Any, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the losses (float32 nats, shape (T,)) of each output after a history.

        Args:
            history_T: ids of the history, at least one, on the device.
            cache: keys and values of the history, or of more; None to read it with the outputs.
            outputs: ids of each output, of shape (T,).
        """
        longest = max(map(len, outputs), default=0)
        fits = self._limit is None or len(history_T) + longest <= self._limit
        if not fits:
            history_T = history_T[-max(1, (self._limit or 0) - longest) :]
        reuse = cache is not None and fits and len(history_T) > 1
        # The history's last token goes with the output, whose first token it predicts.
        before_T = history_T[-1:] if reuse else history_T
        rows = max(1, self._batch_tokens // (longest if reuse else longest + len(history_T)))
        found: list[np.ndarray] = []
        for start in range(0, len(outputs), rows):
            part = outputs[start : start + rows]
            ids_BT = torch.zeros(len(part), len(before_T) + max(map(len, part)), dtype=torch.long)
            labels_BT = torch.full_like(ids_BT, -100)
            ids_BT[:, : len(before_T)] = before_T
            for row, output in enumerate(part):
                place = slice(len(before_T), len(before_T) + len(output))
                ids_BT[row, place] = labels_BT[row, place] = torch.from_numpy(output.astype(np.int64))
            prefix = None
            if reuse:
                known = len(history_T) - 1
                prefix = cache_from([t[:, :, :known].expand(len(part), -1, -1, -1) for t in cache_tensors(cache)])
            device = history_T.device
            losses_N, _ = self._forward(ids_BT.to(device), labels_BT.to(device), prefix)
            found += np.split(losses_N.cpu().numpy(), np.cumsum([len(output) for output in part])[:-1])
        return found

    def _forward(self, ids_BT: torch.Tensor, labels_BT: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Return the losses (float32, shape (N,)) of the labelled tokens, and the keys and values of all, if stored.

        No attention mask: under causal attention no token with loss can see the padding to its right.
        """
        inputs = {"input_ids": ids_BT, "use_cache": cache is not None, **cache_argument(cache)}
        with torch.inference_mode():
            output = selected_logits(self._model, self._head, inputs, labels_BT)
            targets_N = labels_BT[:, 1:][labels_BT[:, 1:] != -100]
            losses_N = F.cross_entropy(output.logits.float(), targets_N, reduction="none")
        filled = cache_of(output)
        return losses_N, filled if cache_joins(filled) else None

    def _agrees(self, cache: Any, ids_T: torch.Tensor, labels_T: torch.Tensor, own_N: torch.Tensor) -> bool:
        """Return True if the model continues from stored keys and values as from the tokens themselves.

        Not every architecture does: some have no keys and values for every position.
        """
        scored = torch.nonzero(labels_T != -100).flatten()
        if cache is None or not len(scored) or int(scored[0]) < 2:
            return cache is not None
        first = int(scored[0])
        prefix = cache_from([tensor[:, :, : first - 1] for tensor in cache_tensors(cache)])
        again_N, _ = self._forward(ids_T[None, first - 1 :], labels_T[None, first - 1 :], prefix)
        return bool((again_N - own_N).abs().max() <= CACHE_ERROR)


def score_grid(
    shards: Iterable[GridShard], samples: Sequence[RenderedSample], scorer: HistoryScorer, directory: Path
) -> Iterator[int]:
    """Score the shards that `directory` lacks, one file each; yield the number of tokens after every sample.

    Raises:
        InputError: for losses that are not finite.
    """
    for shard in shards:
        own: list[np.ndarray] = []
        other: list[np.ndarray] = []
        for i, serves in shard.work:
            sample = samples[i]
            outputs = [[_output_ids(samples, ref) for ref in use.outputs] for use in serves]
            uses = [(sample.turns[use.turn].start, ids) for use, ids in zip(serves, outputs, strict=True)]
            length = scored_length(sample)
            own_N, under = scorer.losses(sample.input_ids[:length], sample.loss_mask[:length], uses)
            own.append(own_N)
            measured = [losses_T for of_use in under for losses_T in of_use]
            if not all(np.isfinite(losses).all() for losses in (own_N, *measured)):
                raise InputError(
                    f"{sample.source}: losses of this sample, or under its history, are not finite; use --dtype float32"
                )
            other += measured
            yield length + sum(len(ids) for of_use in outputs for ids in of_use)
        empty = np.empty(0, np.float32)
        write_arrays(shard.path(directory), own=np.concatenate(own), other=np.concatenate([*other, empty]))


def _output_ids(samples: Sequence[RenderedSample], ref: OutputRef) -> np.ndarray:
    turn = samples[ref.sample].turns[ref.turn]
    return samples[ref.sample].input_ids[turn.start : turn.end]
