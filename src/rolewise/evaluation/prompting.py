"""Conversion of conversations to prompt token ids, and of generated ids to answer texts."""

from collections.abc import Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.chat_template import ChatTemplate
from rolewise.data.conversation import Conversation
from rolewise.data.written_messages import Messages, Tools
from rolewise.engines.base import Sample

_ANSWER = "probeanswer"


class Prompter:
    """Writer of prompts by a tokenizer's chat template, and reader of answers.

    Attributes:
        stop_token_ids: tokens that end an assistant's turn in this template.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None = None, tool_format: str | None = None) -> None:
        """Probe the template; arguments as for `data.render.Renderer`.

        Raises:
            InputError: if the template is missing or unusable.
        """
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, chat_template, tool_format)
        ends = [tokenizer(end, add_special_tokens=False)["input_ids"] for end in self._template.turn_ends]
        self.stop_token_ids: tuple[int, ...] = tuple(dict.fromkeys(ids[-1] for ids in ends if ids))
        self._ends = {*self.stop_token_ids, *tokenizer.all_special_ids}
        self._told: dict[str, None] = {}

    @property
    def notes(self) -> list[str]:
        """Parts of the requests so far that are written differently because the template can't express them."""
        return list(self._told)

    def prompt_text(self, messages: Messages, tools: Tools = None) -> str:
        """Return the conversation so far with the header of the assistant's next turn.

        Raises:
            InputError: if the template refuses it.
        """
        text, notes = self._template.prompt(messages, tools)
        self._told.update(dict.fromkeys(notes))
        return text

    def answer_start(self, messages: Messages) -> str:
        """Return the conversation so far up to the first word of the assistant's next turn, as in training data.

        Some templates write more before an answer than the header of a turn: an empty thought (Qwen3), a space (Llama
        2), the channel (gpt-oss). Others open a thought in the header, but not in a finished turn.

        Raises:
            InputError: if the template refuses it.
        """
        adapted, _, notes = self._template.adapt_noting(
            Conversation([*messages, {"role": "assistant", "content": _ANSWER}])
        )
        self._told.update(dict.fromkeys([*self._template.notes_on(messages), *notes]))
        text = self._template.render(adapted)
        return text[: text.rindex(_ANSWER)]

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a prompt's text, which already holds the template's special tokens."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_text(self, sample: Sample, stop: Sequence[str] = ()) -> str:
        """Return a sample's text up to a stop text, with special tokens except the one that ended it."""
        ids = sample.ids
        if sample.finish_reason == "stop" and ids and ids[-1] in self._ends:
            ids = ids[:-1]
        text = str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text[: min((at for end in stop if (at := text.find(end)) >= 0), default=len(text))]


def check_messages(messages: Messages) -> None:
    """Refuse a question that a template would silently render wrongly.

    Raises:
        InputError: for no messages, or a message without role or text.
    """
    if not messages:
        raise InputError("a suite asked a question without messages")
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise InputError("a suite asked a question with a message that has no role")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise InputError(f"a suite asked a question with a {message.get('role')} message that has no text")
