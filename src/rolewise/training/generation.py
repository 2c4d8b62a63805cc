"""A few answers of a model, for people to read."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy continuations of prompts given as token ids, special tokens included in the text."""
    if not prompts:
        return []
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
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
            eos_token_id=tokenizer.eos_token_id,
        )
    model.train(was_training)
    return [_until_end(row, tokenizer) for row in output_BT[:, longest:].tolist()]


def _until_end(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text up to the first end-of-turn token; what follows it is padding."""
    end = ids.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in ids else len(ids)
    return str(tokenizer.decode(ids[:end]))
