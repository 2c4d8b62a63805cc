"""A Transformers model in this process that serves many requests at once.

Requests wait in a queue. A batch admits the prompts with most to read first, so that prompts of similar length are
grouped, and admits others as samples end. A prompt is read once, whatever the number of its samples, and only the new
part is read of a prompt that begins like an earlier one.

Shapes: B rows, T tokens, K positions, V vocabulary.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel

from rolewise.core.errors import InputError
from rolewise.core.transformers_insides import attention_of
from rolewise.core.versions import package_versions
from rolewise.engines.base import Completion, Engine, EngineError, Sampling
from rolewise.engines.decoding import Batch, GrowingSample
from rolewise.engines.prompt_reader import PromptReader, Usage, alike
from rolewise.engines.stopping import StopTexts, end_token_ids

QUEUE_PER_ROW = 4
"""Queued requests per row of the batch: a longer queue makes it easier to choose some of similar length."""
SCORED_TOKENS = 4096
"""Maximum positions, padding included, of one scoring forward pass; each has logits over the whole vocabulary."""
SLICE_TOKENS = 128
"""Positions of each row, out of these, whose log-probabilities are computed in float32 at once."""


@dataclass(frozen=True)
class _Request:
    key: Hashable
    prompt_ids: list[int]
    sampling: Sampling


class TransformersEngine(Engine):
    """Engine that generates and scores with a loaded model.

    A sample depends on its prompt, its settings, its seed and its number, not on the rest of the batch, up to the
    rounding of the forward pass.

    Args:
        model: a causal language model or a PEFT model of one (LoRA and the like), loaded with the device, precision and
            attention to run with.
        tokenizer: tokenizer of the model.
        batch_size: number of samples generated at once; a request for more gets a separate batch.
        batch_tokens: maximum number of positions in a batch when prompts are admitted, padding included; a longer
            prompt gets a separate batch.
        prefix_mib: memory in MiB, on the model's device, for keys and values of read and generated tokens, so that a
            prompt that begins like an earlier one is not read from the start; 0 for none. In float32 SmolLM2-135M needs
            1 MiB for 23 tokens. Models with sliding windows, recurrent states or rotary positions that depend on the
            text's length always read from the start.

    Attributes:
        usage: tokens requested, computed and generated so far.

    Raises:
        InputError: for a prompt-learning adapter.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int = 32,
        batch_tokens: int = 32768,
        prefix_mib: int = 1024,
    ) -> None:
        if batch_size < 1 or batch_tokens < 1:
            raise InputError(f"batch_size ({batch_size}) and batch_tokens ({batch_tokens}) must be at least 1")
        if prefix_mib < 0:
            raise InputError(f"prefix_mib is {prefix_mib}; it must be 0 (none) or more")
        if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
            raise InputError(
                f"an adapter of type {model.active_peft_config.peft_type.value} is not supported; use LoRA"
            )
        self.tokenizer = tokenizer
        self.concurrency = QUEUE_PER_ROW * batch_size
        self._given = model
        # PEFT has put the adapter's layers into the model itself.
        self._model = model.get_base_model() if isinstance(model, PeftModel) else model
        self._batch_size, self._batch_tokens, self._prefix_mib = batch_size, batch_tokens, prefix_mib
        self.usage = Usage()
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        config = self._model.config.get_text_config(decoder=True)
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._reader_or_none: PromptReader | None = None
        self._queue: list[_Request] = []
        self._underway: dict[Hashable, list[GrowingSample]] = {}
        self._done: list[Completion] = []
        self._batch: Batch | None = None

    @property
    def context(self) -> int | None:
        return self._context

    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        prompt = [int(token) for token in prompt_ids]
        if not prompt:
            self._done.append(Completion(key, [], "the prompt is empty; it needs at least one token"))
        elif self._context is not None and len(prompt) >= self._context:
            reason = f"the prompt has {len(prompt)} tokens, but the model's context holds {self._context}"
            self._done.append(Completion(key, [], reason))
        else:
            self._queue.append(_Request(key, prompt, sampling))

    def collect(self) -> list[Completion]:
        with self._running():
            while not self._done and (self._queue or self._batch):
                reader = self._reader()
                while self._admit(reader):
                    pass
                if self._batch is not None:
                    self._batch.advance()
                    self._drop_finished()
                self._hand_out()
        done, self._done = self._done, []
        return done

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        self._check_lengths(sequences)
        scores: list[list[float]] = [[] for _ in sequences]
        with self._running():
            for members in self._of_like_length(sequences):
                ids_BT, mask_BT = self._padded([sequences[i] for i in members])
                logits_BTV = self._model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
                rows = _logprobs_of_next(logits_BTV, ids_BT).tolist()
                for i, row in zip(members, rows, strict=True):
                    scores[i] = row[: max(len(sequences[i]) - 1, 0)]
        return scores

    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        self._check_lengths(prefixes)
        logprobs: list[list[float]] = [[] for _ in prefixes]
        asked = [place for place, prefix in enumerate(prefixes) if len(prefix)]
        prompts = [[int(token) for token in prefixes[place]] for place in asked]
        with self._running():
            reader = self._reader()
            reader.read_shared(prompts)
            for members in reader.passes(prompts):
                _, logits_BV = reader.read([prompts[member] for member in members])
                logprobs_BV = logits_BV.log_softmax(dim=-1)
                for row, member in enumerate(members):
                    logprobs[asked[member]] = logprobs_BV[row, list(allowed[asked[member]])].tolist()
        return logprobs

    def forget(self) -> None:
        """Clear the cache of read and generated tokens and free its memory.

        Call it after a change of the model that bypasses PyTorch's own bookkeeping, such as one through
        `Parameter.data`. Changes by optimizers, by loading weights and by PEFT's switching and merging of adapters are
        noticed automatically.
        """
        if self._reader_or_none is not None:
            self._reader_or_none.forget()
        if self._batch is not None:
            self._batch.outdate()

    def describe(self) -> dict[str, Any]:
        facts = {
            "kind": "transformers",
            "model": self._model.config.name_or_path,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": str(self._model.device),
            "attention": attention_of(self._model),
            "batch_size": self._batch_size,
            "batch_tokens": self._batch_tokens,
            "prefix_mib": self._prefix_mib,
            "versions": package_versions(),
        }
        if isinstance(self._given, PeftModel):
            facts["adapter"] = self._given.active_peft_config.peft_type.value
        return facts

    def _reader(self) -> PromptReader:
        """Return the prompt reader, whose cache holds nothing from before a change of the model."""
        if self._reader_or_none is None:
            self._reader_or_none = PromptReader(
                self._model,
                self._pad_id,
                max_bytes=self._prefix_mib * 2**20,
                max_rows=self._batch_size,
                max_positions=self._batch_tokens,
                usage=self.usage,
            )
        elif self._reader_or_none.forget_if_changed() and self._batch is not None:
            self._batch.outdate()
        return self._reader_or_none

    def _admit(self, reader: PromptReader) -> bool:
        """Admit waiting requests that fit and have similar numbers of tokens to read; return False if none do."""
        if self._batch is not None and not reader.traits.joins:
            return False
        taken = self._take(reader)
        if not taken:
            return False
        samples = [self._begin(request) for request in taken]
        self._underway |= {request.key: group for request, group in zip(taken, samples, strict=True)}
        batch = Batch(reader, [request.prompt_ids for request in taken], samples)
        batch.drop_finished()
        if self._batch is not None and batch.samples:
            self._batch.join(batch)
        elif batch.samples:
            self._batch = batch
        return True

    def _take(self, reader: PromptReader) -> list[_Request]:
        """Return waiting requests that fit and have similar numbers of tokens to read."""

        def unread(request: _Request) -> int:
            return reader.unread(request.prompt_ids)

        def order(request: _Request) -> tuple[bool, int]:
            # Many new conversations would evict the cached part of one that continues.
            mostly_unread = 2 * unread(request) > len(request.prompt_ids)
            return mostly_unread, -unread(request)

        self._queue.sort(key=order)
        count = self._fitting()
        if count == 0 or not reader.traits.joins:
            taken, self._queue = self._queue[:count], self._queue[count:]
            return taken
        fitting, waiting = self._queue[:count], self._queue[count:]
        reader.read_shared([request.prompt_ids for request in fitting])
        most = max(map(unread, fitting))
        taken = [request for request in fitting if alike(unread(request), most)]
        self._queue = [*(request for request in fitting if not alike(unread(request), most)), *waiting]
        return taken

    def _fitting(self) -> int:
        """Return the number of first waiting requests that fit beside running ones; at least one if none runs."""
        rows = len(self._batch.samples) if self._batch is not None else 0
        width = self._batch.width if self._batch is not None else 0
        for count, request in enumerate(self._queue):
            rows += request.sampling.n
            width = max(width, len(request.prompt_ids))
            too_many = rows > self._batch_size or rows * width > self._batch_tokens
            if too_many and (self._batch is not None or count):
                return count
        return len(self._queue)

    def _begin(self, request: _Request) -> list[GrowingSample]:
        sampling = request.sampling
        model_ends = end_token_ids(self._model.generation_config, self.tokenizer)
        ends = frozenset([*model_ends, *sampling.stop_token_ids])
        stops = StopTexts(self.tokenizer, sampling.stop)
        budget = sampling.max_new_tokens
        if self._context is not None:
            budget = min(budget, self._context - len(request.prompt_ids))
        return [GrowingSample(request.prompt_ids, sampling, i, ends, stops, budget) for i in range(sampling.n)]

    def _drop_finished(self) -> None:
        assert self._batch is not None
        self._batch.drop_finished()
        if not self._batch.samples:
            self._batch = None

    def _hand_out(self) -> None:
        for key, samples in list(self._underway.items()):
            if all(sample.finish_reason is not None for sample in samples):
                del self._underway[key]
                self.usage.generated_tokens += sum(len(sample.ids) for sample in samples)
                self._done.append(Completion(key, [sample.finished() for sample in samples]))

    def _of_like_length(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield the indices of nonempty sequences, longest first, as many at a time as one forward pass takes."""
        places = sorted((i for i, ids in enumerate(sequences) if len(ids)), key=lambda i: -len(sequences[i]))
        while places:
            count = max(1, SCORED_TOKENS // len(sequences[places[0]]))
            yield places[:count]
            places = places[count:]

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask (B, T), padded on the right, where no token sees the padding."""
        ids_BT = torch.full((len(sequences), max(len(ids) for ids in sequences)), self._pad_id)
        mask_BT = torch.zeros_like(ids_BT)
        for row, ids in enumerate(sequences):
            ids_BT[row, : len(ids)] = torch.tensor(list(ids))
            mask_BT[row, : len(ids)] = 1
        return ids_BT.to(self._model.device), mask_BT.to(self._model.device)

    def _check_lengths(self, sequences: Sequence[Sequence[int]]) -> None:
        for number, ids in enumerate(sequences):
            if self._context is not None and len(ids) > self._context:
                raise EngineError(
                    f"sequence {number} has {len(ids)} tokens, but the model's context holds {self._context}"
                )

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Turn off dropout and gradients, which a trainer may have left on, and report exhausted memory in one line."""
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"the device's memory is too small for {self._batch_size} samples at once; give a smaller batch_size"
            ) from error
        finally:
            self._model.train(was_training)


def _logprobs_of_next(logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
    """Return the log-probability (B, T - 1) of every token after the first, computed in float32 slice by slice."""
    parts = []
    for start in range(0, ids_BT.shape[1] - 1, SLICE_TOKENS):
        stop = min(start + SLICE_TOKENS, ids_BT.shape[1] - 1)
        logits_BKV = logits_BTV[:, start:stop].float()
        chosen_BK = logits_BKV.gather(2, ids_BT[:, start + 1 : stop + 1, None])[..., 0]
        parts.append(chosen_BK - logits_BKV.logsumexp(dim=-1))
    return torch.cat(parts, dim=1) if parts else logits_BTV.new_zeros(len(ids_BT), 0)
