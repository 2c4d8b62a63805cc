"""Check that training text begins like the prompts that a template writes for the same turns."""

from collections.abc import Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.chat_template import ChatTemplate
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import LONE_SURROGATE
from rolewise.data.skeleton import traits
from rolewise.data.turns import TurnText

_SHOWN = 40
"""Characters of a prompt that a note quotes."""


class PromptCheck:
    """Comparison of prompts and training text, once per kind of turn: a whole data set costs few extra renderings.

    Args:
        tokenizer: tokenizer of the texts.
        template: template that wrote them.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._seen: set[tuple[Any, ...]] = set()
        self._kinds: set[tuple[Any, ...]] = set()
        self._note = ""

    def note(self, conversation: Conversation, text: str, turns: Sequence[TurnText]) -> str:
        """Return a line for the user from the first turn without a matching prompt on; empty until then.

        Args:
            conversation: the conversation as read; `text` shows it, at least up to the last of `turns`.
            text: text of the sample.
            turns: turns that carry loss.
        """
        if self._note or self._template.writes_calls_as_text(conversation):
            return self._note
        messages = conversation.messages
        assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        for turn in turns:
            at = assistants[turn.number]
            before = messages[:at]
            if all(message["role"] in ("system", "developer") for message in before):
                continue
            kind = self._kind(conversation, at, len(turns) == 1)
            # A prompt shows the beginning only; later messages may have changed how the whole is written.
            alike = (kind, traits(before), traits(messages[at:]) if len(turns) > 1 else None)
            if alike in self._seen:
                continue
            self._seen.add(alike)
            self._note = self._difference(Conversation(before, conversation.tools), text, turn, kind)
            if self._note:
                break
        return self._note

    def _difference(self, before: Conversation, text: str, turn: TurnText, kind: tuple[Any, ...]) -> str:
        try:
            prompt, _ = self._template.prompt(before.messages, before.tools)
        except InputError:
            return "The chat template writes no prompt for some trained turns: `eval` and `grpo` reject them."
        stands = text[: turn.start]
        if text.startswith(prompt) and len(prompt) <= turn.start and not text[len(prompt) : turn.start].strip():
            if kind in self._kinds or self._same_tokens(prompt, text[: turn.end]):
                self._kinds.add(kind)
                return ""
        elif prompt[-_SHOWN:] == stands[-_SHOWN:]:
            at = _parting(prompt, text)
            return (
                f"A prompt that `eval` or `grpo` writes has {prompt[at : at + _SHOWN]!r} where the training text has "
                f"{text[at : at + _SHOWN]!r}: write these messages in a form that the chat template supports, or pass "
                "a --chat-template whose prompt and turns agree."
            )
        return (
            f"A prompt that `eval` or `grpo` writes ends with {prompt[-_SHOWN:]!r}, but the training text has "
            f"{stands[-_SHOWN:]!r} before the assistant's words: pass a --chat-template whose prompt and turns agree."
        )

    def _same_tokens(self, prompt: str, text: str) -> bool:
        clean = [LONE_SURROGATE.sub("\ufffd", part) for part in (prompt, text)]
        prompt_ids, ids = (self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in clean)
        return bool(ids[: len(prompt_ids)] == prompt_ids)

    @staticmethod
    def _kind(conversation: Conversation, at: int, alone: bool) -> tuple[Any, ...]:
        """Return the kind of a turn; turns of one kind have the same text around the prompt's end."""
        messages = conversation.messages
        content = messages[at].get("content") or ""
        before = [message["role"] for message in messages[max(0, at - 4) : at]]
        earlier = any(message["role"] == "assistant" for message in messages[:at])
        thinks = content.lstrip().startswith("<think>")
        last = at == len(messages) - 1
        return (
            tuple(before),
            bool(conversation.tools),
            bool(messages[at].get("tool_calls")),
            thinks,
            not content,
            content[:1].isspace(),  # may be one token with the white space that ends the header
            earlier,
            last,
            alone,
        )


def _parting(one: str, other: str) -> int:
    """Return the position of the first difference, or a little before it."""
    size = min(len(one), len(other))
    at = next((i for i in range(size) if one[i] != other[i]), size)
    return max(0, at - _SHOWN // 2)
