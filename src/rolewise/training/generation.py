"""A few answers of a model, for people to read."""

from collections.abc import Sequence

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_LOOKED_AT = 64
"""Rows whose turns are looked at for the tokens that end them."""


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy continuations of prompts given as token ids, special tokens included in the text.

    They end where the model's own generation settings or the tokenizer say: chat models often end a turn (Gemma's
    `<end_of_turn>`) with another token than a text.
    """
    if not prompts:
        return []
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = _end_tokens(model, tokenizer)
    longest = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), longest), pad, device=model.device)
    attention_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt), device=model.device)
        attention_BT[row, longest - len(prompt) :] = 1
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        output_BT = model.generate(
            ids_BT,
            attention_mask=attention_BT,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            eos_token_id=ends or None,
        )
    model.train(was_training)
    return [_until_end(row, ends, tokenizer) for row in output_BT[:, longest:].tolist()]


def stop_at_turn_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    """Add the tokens that end the turns of labelled rows to the model's own generation settings.

    Chat templates often end a turn with another token than the one that the model's files name; whoever loads the
    tuned model would otherwise see it run on.
    """
    special = set(tokenizer.all_special_ids)
    last = [
        token
        for row in rows.select(range(min(ROWS_LOOKED_AT, len(rows))))
        for token, label, following in zip(row["input_ids"], row["labels"], [*row["labels"][1:], -100], strict=True)
        if label != -100 and following == -100 and token in special
    ]
    config = model.generation_config
    if config is not None and last:
        config.eos_token_id = list(dict.fromkeys([*last, *_end_tokens(model, tokenizer)]))


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    config = getattr(model, "generation_config", None)
    own = config.eos_token_id if config is not None else None
    ends = own if isinstance(own, list) else [own]
    return [end for end in dict.fromkeys([*ends, tokenizer.eos_token_id]) if end is not None]


def _until_end(ids: list[int], ends: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text up to the first token that ends it; what follows is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return str(tokenizer.decode(ids[:end]))
