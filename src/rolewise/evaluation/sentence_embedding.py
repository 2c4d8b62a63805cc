"""Semantic similarity of texts by a sentence-embedding model."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

Floats = npt.NDArray[np.float64]

_BATCH = 32


class Similarity(Protocol):
    """A measure of the similarity of texts."""

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """Return the cosine of every text of one list with every text of the other.

        Args:
            first, second: N and M texts.

        Returns:
            [N, M], in [-1, 1].
        """

    def describe(self) -> dict[str, Any]:
        """Return the identity of the model, as JSON values."""


class SentenceEmbedding:
    """Mean of a model's last hidden states over a text's tokens, as sentence-transformers' models with mean pooling
    are trained (arXiv 1908.10084).

    Args:
        name: model directory or hub id, in Transformers' format.
        revision: commit on the hub.
        max_tokens: maximum number of tokens; longer texts are truncated.

    Raises:
        OSError, ValueError: if the model can't be found or loaded.
    """

    def __init__(self, name: str, revision: str | None = None, max_tokens: int = 384) -> None:
        self._name, self._revision, self._max_tokens = name, revision, max_tokens
        self._tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
        self._model: Any = AutoModel.from_pretrained(name, revision=revision, use_safetensors=True).eval()

    def cosines(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """See `Similarity`."""
        vectors = self._embedded([*first, *second])
        product: Floats = vectors[: len(first)] @ vectors[len(first) :].T
        return np.clip(product, -1.0, 1.0)

    def describe(self) -> dict[str, Any]:
        """See `Similarity`."""
        return {"model": self._name, "revision": self._revision}

    def _embedded(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors, [N, D]."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = self._tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states_NTD = self._model(**batch).last_hidden_state
            mask_NT1 = batch["attention_mask"].unsqueeze(-1).to(states_NTD.dtype)
            mean_ND = (states_NTD * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean_ND, dim=-1).double().numpy())
        return np.concatenate(rows)
