"""Whether training text begins as the prompts do that a template writes for the same turns."""

from collections.abc import Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.chat_template import ChatTemplate
from rolewise.data.message_fields import LONE_SURROGATE
from rolewise.data.turns import TurnText
from rolewise.data.written_messages import Messages, Tools

_SHOWN = 40
"""Characters of a prompt's end that a note quotes."""


class PromptCheck:
    """Compares, once for every kind of turn, so that a whole data set costs a few renderings more.

    Args:
        tokenizer: that the texts are for.
        template: that wrote them.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._seen: set[tuple[Any, ...]] = set()
        self._note = ""

    def note(self, messages: Messages, tools: Tools, text: str, turns: Sequence[TurnText]) -> str:
        """A line for the user from the first turn on that no prompt leads to; empty until then.

        Args:
            messages: adapted; `text` shows them, at least up to the last of `turns`.
            tools: on offer.
            text: of the sample.
            turns: that carry loss.
        """
        assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        for turn in turns if not self._note else ():
            at = assistants[turn.number]
            kind = self._kind(messages, at, tools, len(turns) == 1)
            if kind in self._seen or all(message["role"] == "system" for message in messages[:at]):
                continue
            self._seen.add(kind)
            self._note = self._difference(messages[:at], tools, text, turn)
            if self._note:
                break
        return self._note

    def _difference(self, before: Messages, tools: Tools, text: str, turn: TurnText) -> str:
        try:
            prompt = self._template.render(before, tools, generation_prompt=True)
        except InputError:
            return (
                "The chat template writes no prompt for some turns that are trained on: `eval` and `grpo` refuse them."
            )
        if self._template.ignores_generation_prompt:
            prompt += self._template.generation_prompt
        if text.startswith(prompt) and len(prompt) <= turn.start and self._same_tokens(prompt, text[: turn.end]):
            return ""
        return (
            f"A prompt that `eval` or `grpo` writes ends with {prompt[-_SHOWN:]!r}, and the training text does not "
            f"begin so ({text[: turn.start][-_SHOWN:]!r} stands before the assistant's words): pass a --chat-template "
            "whose prompt and turns agree."
        )

    def _same_tokens(self, prompt: str, text: str) -> bool:
        clean = [LONE_SURROGATE.sub("\ufffd", part) for part in (prompt, text)]
        prompt_ids, ids = (self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in clean)
        return bool(ids[: len(prompt_ids)] == prompt_ids)

    @staticmethod
    def _kind(messages: Messages, at: int, tools: Tools, alone: bool) -> tuple[Any, ...]:
        content = messages[at]["content"]
        before = [message["role"] for message in messages[max(0, at - 4) : at]]
        earlier = any(message["role"] == "assistant" for message in messages[:at])
        thinks = content.lstrip().startswith("<think>")
        last = at == len(messages) - 1
        return (
            tuple(before),
            bool(tools),
            bool(messages[at].get("tool_calls")),
            thinks,
            not content,
            earlier,
            last,
            alone,
        )
