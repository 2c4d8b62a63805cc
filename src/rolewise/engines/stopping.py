"""Ends of samples: the model's own end tokens, further tokens, and texts."""

from collections.abc import Collection, Sequence
from typing import Any

_SLACK = 4
"""Extra tokens before those that could hold a stop text: some decoders drop a space before the first token."""


def end_token_ids(generation_config: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a model's turn or text, from its generation settings (may be None) and tokenizer.

    Chat models often end a turn with another token (Gemma's `<end_of_turn>`) than a text.
    """
    own = getattr(generation_config, "eos_token_id", None)
    ends = own if isinstance(own, list) else [own]
    return [end for end in dict.fromkeys([*ends, tokenizer.eos_token_id]) if end is not None]


class StopTexts:
    """Stop texts, with a search for the token that completes one.

    Args:
        tokenizer: tokenizer that decodes, special tokens included.
        texts: texts, any of which ends a sample.
    """

    def __init__(self, tokenizer: Any, texts: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = texts
        # Every token except special ones stands for at least one byte.
        self._window = max((len(text.encode()) for text in texts), default=0) + _SLACK

    def completed_by_last(self, ids: Sequence[int]) -> bool:
        """Return True if the end of the generated tokens holds a stop text; call it after every token."""
        if not self._texts:
            return False
        tail = self._tokenizer.decode(
            list(ids[-self._window :]), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return any(text in tail for text in self._texts)

    def first_end(self, ids: Sequence[int]) -> int | None:
        """Return the number of tokens up to the one that completes a text; None if none does."""
        if not self._texts:
            return None
        return next((end for end in range(1, len(ids) + 1) if self.completed_by_last(ids[:end])), None)
