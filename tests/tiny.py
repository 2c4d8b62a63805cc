"""Tiny models and labelled data made in the process, and the slow reference for the weights.

Shapes: B rows, T tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from transformers import CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, PreTrainedModel, Qwen3MoeConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from rolewise.core.role import Role

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,  # losses differ visibly from token to token
}
_KINDS = {
    "llama": (LlamaConfig, {}),
    "llama-tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "gemma2": (Gemma2Config, {"final_logit_softcapping": 2.0, "attn_implementation": "eager"}),
    "granite": (GraniteConfig, {"logits_scaling": 4.0}),
    "cohere": (CohereConfig, {"logit_scale": 0.25}),
    "moe": (
        Qwen3MoeConfig,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 0.5},
    ),
}
KINDS = tuple(_KINDS)


def tiny_model(kind: str = "llama", *, vocab_size: int = 203, seed: int = 0) -> PreTrainedModel:
    """A randomly initialised float32 model of two layers with grouped-query attention, in evaluation mode."""
    torch.manual_seed(seed)
    config_class, options = _KINDS[kind]
    return AutoModelForCausalLM.from_config(config_class(vocab_size=vocab_size, **_SIZES, **options)).float().eval()


def labelled_dataset(lengths: Sequence[int], *, vocab_size: int = 203, seed: int = 0) -> Dataset:
    """Random ids with labels and roles as `rolewise label` writes them; each sample starts with some context.

    Losses are drawn at random, NaN for PLAIN tokens. Among the first samples one lacks boilerplate, one lacks
    reasoning, one is all PLAIN and one has a little of it.
    """
    rng = np.random.default_rng(seed)
    kinds = [
        [Role.REASONING],
        [Role.FORMAT, Role.TEMPLATE],
        [Role.PLAIN],
        [Role.REASONING, Role.BOILERPLATE, Role.PLAIN],
        [Role.REASONING, Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE],
    ]
    columns: dict[str, list[list[float]]] = {
        name: [] for name in ("input_ids", "labels", "token_roles", "base_loss", "tuned_loss")
    }
    for i, length in enumerate(lengths):
        ids = rng.integers(3, vocab_size, length)
        roles = rng.choice([int(role) for role in kinds[min(i, 4)]], length)
        context = rng.random(length) < 0.2
        context[: length // 4] = True
        context[-1] = False
        columns["input_ids"].append(ids.tolist())
        columns["labels"].append(np.where(context, -100, ids).tolist())
        columns["token_roles"].append(np.where(context, int(Role.CONTEXT), roles).tolist())
        unknown = context | (roles == Role.PLAIN)
        for name in ("base_loss", "tuned_loss"):
            columns[name].append(np.where(unknown, np.nan, 3 * rng.random(length)).tolist())
    return Dataset.from_dict(columns)


REFERENCES = ("alpha", "dft", "none", "regex", "reward", "rft", "rho", "sample-mean")
"""The schemes that `reference_weights` knows."""


def reference_weights(
    scheme: str,
    loss_BT: np.ndarray,
    roles_BT: np.ndarray,
    mask_BT: np.ndarray,
    *,
    segments_BT: np.ndarray | None = None,
    scores_BT: np.ndarray | None = None,
    inv_tau: float = 0.3,
    alpha: float = 0.3,
    format_weight: float = 0.5,
) -> np.ndarray:
    """The weights (float64) as the equations have them, sample by sample (arXiv 2412.14780, eq. 4 to 6)."""
    if scheme in ("regex", "rho", "dft"):
        return _reference_token_mean(scheme, loss_BT, roles_BT, mask_BT, format_weight)
    samples: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for b, t in zip(*np.nonzero(mask_BT), strict=True):
        segment = 0 if segments_BT is None else int(segments_BT[b, t])
        samples.setdefault((int(b), segment), []).append((int(b), int(t)))
    weights_BT = np.zeros(mask_BT.shape)
    for places in samples.values():
        for place in places:
            if scheme == "none":
                weights_BT[place] = 1 / int(mask_BT.sum())
            elif scheme == "sample-mean":
                weights_BT[place] = 1 / len(places) / len(samples)
        if scheme == "reward":
            assert scores_BT is not None
            judged = [place for place in places if not math.isnan(scores_BT[place])]
            top = max((scores_BT[place] for place in judged), default=0.0)
            total = sum(math.exp(scores_BT[place] - top) for place in judged)
            for place in places:
                weights_BT[place] = 1 / len(places) / len(samples)
                if place in judged:
                    weights_BT[place] *= len(judged) * math.exp(scores_BT[place] - top) / total
        if scheme not in ("rft", "alpha"):
            continue
        reasoning = [place for place in places if roles_BT[place] == Role.REASONING]
        boilerplate = [place for place in places if roles_BT[place] in (Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE)]
        plain = [place for place in places if place not in reasoning and place not in boilerplate]
        if reasoning and boilerplate and scheme == "rft":
            mean_r = sum(float(loss_BT[place]) for place in reasoning) / len(reasoning)
            mean_b = sum(float(loss_BT[place]) for place in boilerplate) / len(boilerplate)
            top = max(mean_r, mean_b) * inv_tau
            exp_r, exp_b = math.exp(mean_r * inv_tau - top), math.exp(mean_b * inv_tau - top)
            omega_r, omega_b = exp_r / (exp_r + exp_b), exp_b / (exp_r + exp_b)
        elif reasoning and boilerplate:
            omega_r, omega_b = 1 - alpha, alpha
        else:
            omega_r, omega_b = float(bool(reasoning)), float(bool(boilerplate))
        plain_share = len(plain) / len(places)
        shares = [(reasoning, (1 - plain_share) * omega_r), (boilerplate, (1 - plain_share) * omega_b)]
        for group, share in [*shares, (plain, plain_share)]:
            for place in group:
                weights_BT[place] = share / len(group) / len(samples)
    return weights_BT


def _reference_token_mean(
    scheme: str, loss_BT: np.ndarray, roles_BT: np.ndarray, mask_BT: np.ndarray, format_weight: float
) -> np.ndarray:
    """Σ c · loss / Σ c with each scheme's c; DFT's tokens times their own probability."""
    counts_BT = np.zeros(mask_BT.shape)
    for b, t in zip(*np.nonzero(mask_BT), strict=True):
        is_boilerplate = roles_BT[b, t] in (Role.BOILERPLATE, Role.FORMAT, Role.TEMPLATE)
        counts_BT[b, t] = {"regex": format_weight, "rho": 0.0, "dft": 1.0}[scheme] if is_boilerplate else 1.0
    weights_BT = counts_BT / (counts_BT.sum() or 1.0)
    return weights_BT * np.exp(-loss_BT.astype(np.float64)) if scheme == "dft" else weights_BT


def collated(dataset: Dataset, pad_id: int = 0) -> dict[str, torch.Tensor]:
    """The whole data set as one right-padded batch: ids, mask, labels, roles and scores, each (B, T)."""
    longest = max(len(row) for row in dataset["input_ids"])

    def padded(column: str, value: float) -> torch.Tensor:
        return torch.tensor([row + [value] * (longest - len(row)) for row in dataset[column]])

    lengths = torch.tensor([len(row) for row in dataset["input_ids"]])
    return {
        "input_ids": padded("input_ids", pad_id),
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        "labels": padded("labels", -100),
        "token_roles": padded("token_roles", int(Role.CONTEXT)),
        "token_scores": padded("base_loss", math.nan) - padded("tuned_loss", math.nan),
    }


def full_logits_losses(
    model: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses with gradient, mask, and log-probabilities (B, T, V) of each token, from the full logits."""
    labels_BT = batch["labels"]
    logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch.get("attention_mask")).logits.float()
    log_probs_BTV = torch.zeros_like(logits_BTV)
    log_probs_BTV[:, 1:] = logits_BTV[:, :-1].log_softmax(dim=-1)
    mask_BT = labels_BT != -100
    mask_BT[:, 0] = False
    loss_BT = -log_probs_BTV.gather(2, labels_BT.clamp(min=0)[..., None])[..., 0] * mask_BT
    return loss_BT, mask_BT, log_probs_BTV
