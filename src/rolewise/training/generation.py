"""A few answers from a model, for people to read."""

from collections.abc import Sequence
from typing import cast

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rolewise.engines.base import Sampling
from rolewise.engines.stopping import end_token_ids
from rolewise.engines.transformers_engine import TransformersEngine

ROWS_LOOKED_AT = 64
"""Number of rows to search for the tokens that end turns."""


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[str]:
    """Return greedy continuations of prompts given as token ids, with special tokens in the text.

    They end at the end tokens of the model's own generation settings or the tokenizer: chat models often end a turn
    (Gemma's `<end_of_turn>`) with a different token from a text.
    """
    ends = end_token_ids(model.generation_config, tokenizer)
    # Each prompt is used once, and memory is scarce during training.
    engine = TransformersEngine(model, tokenizer, batch_size=max(len(prompts), 1), prefix_mib=0)
    for number, prompt in enumerate(prompts):
        engine.submit(number, prompt, Sampling(max_new_tokens=max_new_tokens))
    texts = [""] * len(prompts)
    while done := engine.collect():
        for completion in done:
            number = cast(int, completion.key)
            if completion.error is not None:
                texts[number] = f"(no answer: {completion.error})"
                continue
            ids = completion.samples[0].ids
            texts[number] = str(tokenizer.decode(ids[:-1] if ids[-1] in ends else ids))
    return texts


def stop_at_turn_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> None:
    """Add the tokens that end the turns of labelled rows to the model's own generation settings.

    Chat templates often end a turn with a different token from the one in the model's files; the tuned model would
    otherwise not stop after a turn.
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
        config.eos_token_id = list(dict.fromkeys([*last, *end_token_ids(config, tokenizer)]))
