"""Positions of the assistant's turns in a chat template's text: by its markers, else by comparing prefixes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rolewise.core.errors import InputError
from rolewise.data.chat_template import ChatTemplate
from rolewise.data.skeleton import traits
from rolewise.data.written_messages import Messages, Tools


class TurnText(NamedTuple):
    """An assistant turn's characters: loss from `start` to `end`, its end-of-turn token from `closing` on."""

    number: int
    """Index among the conversation's assistant turns, from 0."""
    start: int
    closing: int
    end: int

    def content_start(self, text: str, content: str, lookback: int) -> int | None:
        """Return the character at which `content` starts in `text`, as if it were not trimmed; None if it is missing.

        A prompt that opens the thinking (`<think>`) has the content's first characters in the header; so, after the
        turn itself, the `lookback` characters before it are searched too.
        """
        trimmed = content.strip()
        for origin in (self.start, max(0, self.start - lookback)):
            for wanted, trim in ((content, 0), (trimmed, len(content) - len(content.lstrip()))):
                found = text.find(wanted, origin, self.closing)
                if found >= 0:
                    return found - trim
        return None


class TurnFinder:
    """Finder of the assistant turns of adapted messages (see `ChatTemplate.adapt`).

    With `{% generation %}` markers one rendering is enough. Without them a turn extends from the end of the prompt
    before it to the end of the conversation up to it, both rendered separately; both must be prefixes of the whole.
    """

    def __init__(self, template: ChatTemplate) -> None:
        """Raise InputError for a template in which not even one question and its answer can be told apart."""
        self._template = template
        self._begin: dict[tuple[Any, ...], bool] = {}
        question = {"role": "user", "content": "question"}
        try:
            self.last_turn([question, {"role": "assistant", "content": "answer"}], None)
        except InputError:
            # Some templates' prompt opens the thinking; then only an answer with thinking can follow it.
            self.last_turn([question, {"role": "assistant", "content": "<think>\nthought\n</think>\n\nanswer"}], None)

    def all_turns(self, messages: Messages, tools: Tools) -> tuple[str, list[TurnText]] | None:
        """Return the whole conversation's text and turns; None if the template rewrites an earlier turn."""
        if self._template.marks_generation:
            return self._marked_turns(messages, tools)
        text = self._template.render(messages, tools)
        turns: list[TurnText] = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            start = self._turn_start(messages[: i + 1], tools, text)
            until = text if i == len(messages) - 1 else self._template.render(messages[: i + 1], tools)
            if start is None or not text.startswith(until):
                return None
            turn = self._closed(text, len(turns), start, len(until))
            if turn is None:
                return None
            turns.append(turn)
        return text, turns

    def last_turn(self, messages: Messages, tools: Tools) -> tuple[str, list[TurnText]]:
        """Return text and turn of messages that end with an assistant turn, which alone carries loss.

        Raises:
            InputError: if the turn can't be told from the rest.
        """
        number = sum(message["role"] == "assistant" for message in messages) - 1
        turn: TurnText | None = None
        if self._template.marks_generation:
            text, spans = self._template.render_marked(messages, tools)
            marked = self._close_marked(text, spans)
            if messages[-2:-1] and messages[-2]["role"] == "assistant":
                earlier = self._close_marked(*self._template.render_marked(messages[:-1], tools))
                if len(marked) <= len(earlier):
                    raise InputError(
                        "the chat template merges consecutive assistant turns; join them in the data, or pass another "
                        "--chat-template"
                    )
            turn = marked[-1]._replace(number=number) if marked else None
        else:
            text = self._template.render(messages, tools)
            start = self._turn_start(messages, tools, text)
            turn = None if start is None else self._closed(text, number, start, len(text))
        if turn is None:
            raise InputError(
                "in the text of the chat template an assistant turn can't be told from the rest; pass another "
                "--chat-template, with {% generation %} markers or text that only grows with each message"
            )
        return text, [turn]

    def _marked_turns(self, messages: Messages, tools: Tools) -> tuple[str, list[TurnText]] | None:
        text, spans = self._template.render_marked(messages, tools)
        turns = self._close_marked(text, spans)
        assistants = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if len(turns) != len(assistants):
            return None
        for turn, i in zip(turns, assistants, strict=True):
            if not self.has_words(text, turn, messages[i]["content"]):
                return None
            if messages[i + 1 :] and not self._begins(messages, i + 1, tools, text[: turn.start]):
                return None
        return text, turns

    def _begins(self, messages: Messages, count: int, tools: Tools, start: str) -> bool:
        """Return True if the first `count` messages alone also render to `start`: some templates move a later system
        message there. The result is cached for conversations of the same structure.

        If the template rejects these messages alone (no user message yet), the result is True.
        """
        key = (bool(tools), traits(messages[:count]), traits(messages[count:]))
        if key not in self._begin:
            try:
                self._begin[key] = self._template.render(messages[:count], tools).startswith(start)
            except InputError:
                self._begin[key] = True
        return self._begin[key]

    def has_words(self, text: str, turn: TurnText, content: str) -> bool:
        """Return True if a turn shows all its content. Templates may trim and re-indent: white space doesn't count."""
        shown = text[max(0, turn.start - len(self._template.generation_prompt)) : turn.end]
        return "".join(content.split()) in "".join(shown.split())

    def _turn_start(self, messages: Messages, tools: Tools, text: str) -> int | None:
        """Return the start, after the header, of the last of `messages` within `text`; None if it can't be found."""
        template = self._template
        header = template.generation_prompt
        if all(message["role"] == "system" for message in messages[:-1]):
            # Many templates can't render a prompt without a user message; the first header is this turn's.
            return self._opening_start(messages, tools, text)
        head = template.render(messages[:-1], tools, generation_prompt=True)
        if not text.startswith(head):
            return None
        if not template.ignores_generation_prompt:
            return len(head)
        return len(head) + len(header) if text.startswith(header, len(head)) else None

    def _opening_start(self, messages: Messages, tools: Tools, text: str) -> int | None:
        """Return the start of the turn that opens a conversation: the end of the last header before a unique word.

        A system message may hold a header too, so the text must hold one more than the system messages do.
        """
        header = self._template.generation_prompt
        word = "probeopening"
        while word in str(messages) or word in str(tools):
            word += "x"
        answer = {"role": "assistant", "content": word}
        outline = self._template.render([*messages[:-1], answer], tools)
        head = outline[: outline.find(word)] if header else ""
        if head.count(header) <= sum(message["content"].count(header.strip()) for message in messages[:-1]):
            return None
        start = head.rindex(header) + len(header)
        return start if text.startswith(head[:start]) else None

    def _closed(self, text: str, number: int, start: int, end: int) -> TurnText | None:
        """Return the turn within `text[start:end]`, up to its last end-of-turn token; None if there is none."""
        ends = [(text.rfind(closing, start, end), closing) for closing in self._template.turn_ends]
        position, closing = max(ends)
        return None if position < 0 else TurnText(number, start, position, position + len(closing))

    def _close_marked(self, text: str, spans: Sequence[tuple[int, int]]) -> list[TurnText]:
        """Return marked spans as turns; an end-of-turn token outside the markers is included."""
        turns: list[TurnText] = []
        for start, end in self._joined(text, spans):
            if self._template.is_only_special(text[start:end]):
                continue  # an end of text, marked after the end of the last turn (Phi 3)
            start += self._header_within(text, start)
            turn = self._closed(text, len(turns), start, end)
            if turn is None or text[turn.end : end].strip():
                turn = self._closed_after(text, len(turns), start, end)
            if turn is None:
                raise InputError(
                    "the chat template puts no end-of-turn token after an assistant turn; pass another --chat-template"
                )
            turns.append(turn)
        return turns

    def _header_within(self, text: str, start: int) -> int:
        """Return the number of the header's last characters after `start`: some templates mark them too."""
        header = self._template.generation_prompt
        for size in range(len(header), 0, -1):
            begin = start + size - len(header)
            if begin >= 0 and text.startswith(header, begin):
                return size
        return 0

    def _joined(self, text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Join spans separated only by white space and no end of a turn: some templates mark a turn in pieces."""
        joined: list[tuple[int, int]] = []
        for start, end in spans:
            if joined and not text[joined[-1][1] : start].strip():
                before, middle = joined[-1]
                if not text[before:middle].rstrip().endswith(tuple(self._template.turn_ends)):
                    joined[-1] = (before, end)
                    continue
            joined.append((start, end))
        return joined

    def _closed_after(self, text: str, number: int, start: int, end: int) -> TurnText | None:
        position = end + len(text[end:]) - len(text[end:].lstrip())
        for closing in self._template.turn_ends:
            if text.startswith(closing, position):
                return TurnText(number, start, position, position + len(closing))
        return None
