"""Conversations as token ids: one call of the chat template, one of the tokenizer, and a mask of loss tokens.

Shape suffix: T = tokens of one sample.

Deliberately left out: tokenizing single messages again. The whole text is tokenized once, and every column is derived
from the tokenizer's character offsets, so ids and annotations can't drift apart.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.chat_template import ChatTemplate
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.message_fields import LONE_SURROGATE
from rolewise.data.origin import write_origin
from rolewise.data.prompt_check import PromptCheck
from rolewise.data.readers import Rejected
from rolewise.data.turns import TurnFinder, TurnText

TURN_BY_TURN_NOTE = (
    "The chat template writes earlier turns differently from the last one (often without their thoughts), so each "
    "assistant turn of such a conversation is a separate sample."
)


class Turn(NamedTuple):
    """Tokens `start` to `end` (half-open): one assistant turn's loss tokens, its end-of-turn token included."""

    start: int
    end: int


@dataclass(frozen=True, eq=False)
class RenderedSample:
    """One training sample; all columns have length T.

    Attributes:
        input_ids: int32 [T].
        loss_mask: bool [T], True if the token is predicted with loss.
        char_start: int32 [T], first character of the token in `text`.
        char_end: int32 [T], one past its last character.
        text: the rendered conversation, cut with the tokens.
        turns: the assistant turns that carry loss, in order; together they cover `loss_mask` exactly.
        source: source of the conversation.
        true_roles: uint8 [T] of `Role`, if the conversation's `role_spans` are known: a token has a role only if
            its characters lie wholly inside one span, else `PLAIN`; the end-of-turn token is `FORMAT`.
        lost: number of loss tokens that were cut off at the end of the sample.
        siblings_lost: number of samples of the same conversation with nothing left, on its first sample.
        origin: the conversation and the turns' places in `text`, as JSON text (see `origin.Origin`); None for a
            sample that was not rendered from a conversation.
    """

    input_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    char_start: NDArray[np.int32]
    char_end: NDArray[np.int32]
    text: str
    turns: tuple[Turn, ...]
    source: str
    true_roles: NDArray[np.uint8] | None = None
    origin: str | None = None
    lost: int = 0
    siblings_lost: int = 0


class NothingLeftError(InputError):
    """No loss token of a conversation is left within `max_length`."""


_NOTHING_LEFT_REMEDY = "; raise it, or leave such records out with --skip-invalid"


def left_out(source: str, error: InputError) -> Rejected:
    """Return the entry of a record left out because rendering rejected it, without the advice to leave it out."""
    return Rejected(source, str(error).removeprefix(f"{source}: ").removesuffix(_NOTHING_LEFT_REMEDY))


class Renderer:
    """Renderer of conversations with a tokenizer's chat template.

    Attributes:
        given_template: the Jinja text of `chat_template`; None if the tokenizer's own is used.
        max_length: maximum number of tokens of a sample; None for no limit.
        notes: changes made for features that the template does not support, one line each, for the user.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        chat_template: str | None = None,
        tool_format: str | None = None,
        max_length: int | None = None,
    ) -> None:
        """Probe the template once.

        Args:
            tokenizer: a fast Transformers tokenizer.
            chat_template: a file or a known name (`chatml`); None uses the tokenizer's own.
            tool_format: write tools and calls as text in this format (see `tool_text`) even if the template supports
                them; None leaves them to the template if possible.
            max_length: cut samples on the right to at most this many tokens.

        Raises:
            InputError: for a slow tokenizer, and for a template that is missing or does not allow a loss mask.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"{type(tokenizer).__name__} gives no character offsets; use a model with a fast tokenizer "
                "(tokenizer.json)"
            )
        if max_length is not None and max_length < 1:
            raise InputError(f"max_length={max_length}: give a positive number of tokens")
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, chat_template, tool_format)
        self.given_template = self._template.text if chat_template is not None else None
        self._turns = TurnFinder(self._template)
        self.max_length = max_length
        self._prompts = PromptCheck(tokenizer, self._template)
        self._found: dict[str, None] = {}
        self.notes = self._template.notes

    def notes_for(self, conversations: Iterable[Conversation]) -> list[str]:
        """Return the notes that apply to these conversations, see `ChatTemplate.notes_on`.

        Notes found while rendering these or other conversations follow them; so call this after rendering.
        """
        matter = {note for each in conversations for note in self._template.notes_on(each.messages, each.tools)}
        return [*(note for note in self.notes if note in matter), *self._found]

    def fingerprint(self) -> str:
        """Return the SHA-256 of tokenizer, template and tool format: if it is equal, so are the ids."""
        parts = [tokenizer_fingerprint(self._tokenizer), self._template.text, self._template.tool_format]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def render(self, conversation: Conversation) -> list[RenderedSample]:
        """Return one sample, or one per assistant turn if the template rewrites earlier turns (strips their thinking).

        Raises:
            InputError: naming the conversation's source, if the template rejects it, its turns can't be found, or no
                loss token is left within `max_length`.
        """
        try:
            return self._render(conversation)
        except InputError as error:
            raise type(error)(f"{conversation.source}: {error}") from error

    def _render(self, conversation: Conversation) -> list[RenderedSample]:
        messages, tools, notes = self._template.adapt_noting(conversation)
        self._found.update(dict.fromkeys(notes))
        assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        whole = self._turns.all_turns(messages, tools)
        if whole is not None:
            rendered = [whole]
        else:
            # The template shows an earlier turn differently from its generation; only the last turn has the form that
            # the model has to write, so each turn is rendered as the last one.
            rendered = [self._turns.last_turn(messages[: i + 1], tools) for i in assistants]
            if len(assistants) > 1:
                self._found[TURN_BY_TURN_NOTE] = None
        spans = _assistant_spans(conversation)
        contents = [messages[i]["content"] for i in assistants]
        for text, turns in rendered:
            for turn in turns:
                if not self._turns.has_words(text, turn, contents[turn.number]):
                    raise InputError(
                        f"the chat template leaves out words of assistant turn {turn.number + 1}; pass another "
                        "--chat-template, or --tool-format if it drops text beside tool calls"
                    )
            note = self._prompts.note(conversation, text, turns)
            if note:
                self._found[note] = None
        samples = [self._sample(text, turns, conversation, contents, spans) for text, turns in rendered]
        kept = [sample for sample in samples if sample.turns]
        if not kept:
            raise NothingLeftError(
                f"no assistant token left after cutting to max_length={self.max_length}{_NOTHING_LEFT_REMEDY}"
            )
        return [replace(kept[0], siblings_lost=len(samples) - len(kept)), *kept[1:]]

    def _sample(
        self,
        text: str,
        turns: Sequence[TurnText],
        conversation: Conversation,
        contents: Sequence[str],
        spans: Sequence[Sequence[RoleSpan]] | None,
    ) -> RenderedSample:
        # One character for one, so offsets still match; no tokenizer accepts a lone surrogate.
        text = LONE_SURROGATE.sub("\ufffd", text)
        encoding = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        limit = self.max_length
        input_ids = np.array(encoding["input_ids"][:limit], dtype=np.int32)
        offsets = np.array(encoding["offset_mapping"][:limit], dtype=np.int32).reshape(-1, 2)
        char_start, char_end = offsets[:, 0].copy(), offsets[:, 1].copy()
        loss_mask = np.zeros(len(input_ids), dtype=np.bool_)
        true_roles = None if spans is None else np.full(len(input_ids), Role.CONTEXT, dtype=np.uint8)
        token_turns = []
        kept_turns = []
        for turn in turns:
            # A token that straddles the turn's start began in the header and carries no loss. A token that reaches
            # beyond its end is an end-of-turn token that, in this tokenizer, includes the white space after it.
            inside = np.flatnonzero((char_start >= turn.start) & (char_start < turn.end))
            if not len(inside):
                continue
            token_turns.append(Turn(int(inside[0]), int(inside[-1]) + 1))
            kept_turns.append(turn)
            loss_mask[inside] = True
            if true_roles is not None and spans is not None:
                true_roles[inside] = Role.PLAIN
                origin = self._content_start(text, turn, contents[turn.number])
                for start, end, role in spans[turn.number]:
                    whole = (char_start[inside] >= origin + start) & (char_end[inside] <= origin + end)
                    true_roles[inside[whole]] = role
                true_roles[inside[char_start[inside] >= turn.closing]] = Role.FORMAT
        beyond = np.array(encoding["offset_mapping"][len(input_ids) :], dtype=np.int32).reshape(-1, 2)[:, 0]
        kept_text = text[: int(char_end[-1])] if len(encoding["input_ids"]) > len(input_ids) else text
        return RenderedSample(
            input_ids,
            loss_mask,
            char_start,
            char_end,
            kept_text,
            tuple(token_turns),
            conversation.source,
            true_roles,
            write_origin(conversation, kept_turns) if kept_turns else None,
            lost=sum(int(((beyond >= turn.start) & (beyond < turn.end)).sum()) for turn in turns),
        )

    def _content_start(self, text: str, turn: TurnText, content: str) -> int:
        content = LONE_SURROGATE.sub("\ufffd", content)
        start = turn.content_start(text, content, len(self._template.generation_prompt))
        if start is None:
            raise InputError(
                "the chat template rewrites an assistant turn, so its role_spans have no place in the text; "
                "pass another --chat-template"
            )
        return start


def _assistant_spans(conversation: Conversation) -> list[list[RoleSpan]] | None:
    if conversation.role_spans is None:
        return None
    pairs = zip(conversation.messages, conversation.role_spans, strict=True)
    return [spans for message, spans in pairs if message["role"] == "assistant"]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return the SHA-256 of a fast tokenizer's JSON, without the truncation and padding that calls leave in it."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    lasting = {key: value for key, value in backend.items() if key not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
