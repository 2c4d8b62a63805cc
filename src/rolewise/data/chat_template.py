"""A tokenizer's chat template: its origin, the features it supports, and its rendering as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import read_text
from rolewise.core.transformers_insides import render_template
from rolewise.data.conversation import Conversation
from rolewise.data.skeleton import Skeleton, outline_key, skeleton_of
from rolewise.data.tool_text import DEFAULT_TOOL_FORMAT, tool_format
from rolewise.data.written_messages import (
    Messages,
    Tools,
    append_to_system,
    plain,
    with_one_system,
    with_results_as_user,
    with_system_in_user,
    with_written_calls,
)

_OUTLINES_KEPT = 10_000
"""Maximum number of conversation outlines whose shape a template remembers."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMED_TEMPLATES = {"chatml": CHATML}

_GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")

# Texts of the probe conversation. Plain words, so that trimming or JSON escaping leaves them unchanged.
_SYSTEM, _QUESTION, _ANSWER, _RESULT = "probesystem", "probequestion", "probeanswer", "proberesult"
_TOOL, _ARGUMENT = "probetool", "probeargument"
_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "A tool.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string", "description": "A query."}}},
        },
    }
]
_USER = {"role": "user", "content": _QUESTION}
_ASSISTANT = {"role": "assistant", "content": _ANSWER}
# Mistral's templates require an id of nine characters.
_CALLING = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "callprobe", "type": "function", "function": {"name": _TOOL, "arguments": {"query": _ARGUMENT}}}
    ],
}
_TOOL_RESULT = {"role": "tool", "content": _RESULT, "name": _TOOL, "tool_call_id": "callprobe"}


def template_text(tokenizer: Any, chat_template: str | None) -> str:
    """Return the Jinja text of the template to use.

    Args:
        tokenizer: provides the template if `chat_template` is None.
        chat_template: the path of a file, or a name from `NAMED_TEMPLATES`.

    Raises:
        InputError: if there is no template, or no such file.
    """
    known = ", ".join(NAMED_TEMPLATES)
    if chat_template is None:
        own = tokenizer.chat_template
        # Some models have several; the default one is for plain chat, and tools are then written as text.
        text = own.get("default") if isinstance(own, dict) else own
        if not text:
            raise InputError(f"the tokenizer has no chat template; pass --chat-template with a file or a name: {known}")
        return str(text)
    if chat_template in NAMED_TEMPLATES:
        text = NAMED_TEMPLATES[chat_template]
        # A base model that never saw <|im_end|> has no such token; then its own end-of-text token ends the turn.
        in_vocabulary = "<|im_end|>" in tokenizer.get_added_vocab()
        return text if in_vocabulary or not tokenizer.eos_token else text.replace("<|im_end|>", tokenizer.eos_token)
    try:
        return read_text(chat_template, what="chat template")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--chat-template {chat_template}: neither a readable file nor a known name ({known})"
        ) from error


@dataclass(frozen=True)
class _Abilities:
    """Features that the template supports."""

    system: bool
    tools: bool
    tool_calls: bool
    tool_role: bool
    tool_role_after_text: bool


@dataclass(frozen=True)
class _Shape:
    """Changes made for one conversation, beyond those for features that the template never supports."""

    systems: str = ""
    calls_as_text: bool = False

    def notes(self, format_name: str) -> list[str]:
        """Return one line per change, for the user."""
        notes = []
        if self.systems:
            notes.append(
                "The chat template leaves out or rejects system messages where this data has them: their text is "
                + ("joined to the first one or put " if self.systems == "one" else "put ")
                + "before the next user message."
            )
        if self.calls_as_text:
            notes.append(
                "The chat template leaves out calls, or text beside them (often all parallel calls but one): in such "
                f"conversations, tools and calls are written as text in the {format_name} format, so a prompt that "
                f"`eval` or `grpo` writes may begin differently; --tool-format {format_name} writes all "
                "conversations this way."
            )
        return notes


def _shapes_for(conversation: Conversation) -> list[_Shape]:
    """Return the shapes to try, smallest changes first."""
    systems = [message["role"] in ("system", "developer") for message in conversation.messages]
    calls = any(message.get("tool_calls") for message in conversation.messages)
    ways = ["", "one", "user"] if any(systems[1:]) else ["", "user"] if any(systems) else [""]
    shapes = [_Shape(way) for way in ways]
    return (
        [*shapes, *(replace(shape, calls_as_text=True) for shape in shapes)] if calls or conversation.tools else shapes
    )


class ChatTemplate:
    """A probed template that can adapt any conversation to a shape that it renders completely.

    Attributes:
        text: the Jinja template.
        marks_generation: True if it has `{% generation %}` markers.
        tool_format: name of the text format for tools and calls that the template does not support.
        turn_ends: special tokens that end an assistant turn (a string of one or more tokens each).
        generation_prompt: the header of an assistant turn.
        notes: changes made for this template, one line each, for the user; `notes_on` returns those that apply to a
            conversation.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None = None, tool_format_name: str | None = None) -> None:
        """Probe the template.

        Args:
            tokenizer: a Transformers tokenizer.
            chat_template: see `template_text`.
            tool_format_name: always write tools and calls as text in this format; None writes them as text (in
                `DEFAULT_TOOL_FORMAT`) only where the template does not support them.

        Raises:
            InputError: for a template that can't be rendered, drops the assistant's content, or doesn't end its turn
                with a special token.
        """
        self.text = template_text(tokenizer, chat_template)
        self.marks_generation = bool(_GENERATION_MARKER.search(self.text))
        self._variables = dict(tokenizer.special_tokens_map)
        self._format = tool_format(tool_format_name or DEFAULT_TOOL_FORMAT)
        self.tool_format = self._format.name
        self._special, self._specials = _special_patterns(tokenizer)
        self._shapes: dict[tuple[Any, ...], _Shape] = {}
        self._standing_header = ""
        self._standing_header = self._find_standing_header()
        answered = self.render([_USER, _ASSISTANT])
        if _ANSWER not in answered:
            raise InputError("the chat template drops the assistant's content; pass another with --chat-template")
        self.turn_ends = [self._end_of_answer(answered, tokenizer.eos_token)]
        self._learn_end_within()
        self.generation_prompt, self.ignores_generation_prompt = self._find_generation_prompt(answered)
        self._abilities = self._probe(force_text=tool_format_name is not None)
        self._call_notes = self._write_call_notes(tool_format_name)
        self._result_notes = self._write_result_notes()
        self._system_notes = self._write_system_notes()
        self.notes = [*self._call_notes, *self._result_notes, *self._system_notes, *self._write_notes()]

    def notes_on(self, messages: Messages, tools: Tools = None) -> list[str]:
        """Return the notes that apply to these messages: on tools, results, system messages only if any."""
        roles = {message["role"] for message in messages}
        calls = bool(tools) or any(message.get("tool_calls") for message in messages)
        idle = [
            *([] if calls else self._call_notes),
            *([] if "tool" in roles else self._result_notes),
            *([] if roles & {"system", "developer"} else self._system_notes),
        ]
        return [note for note in self.notes if note not in idle]

    def render(self, messages: Messages, tools: Tools = None, *, generation_prompt: bool = False) -> str:
        """Return the template's text for `messages`.

        Raises:
            InputError: with the template's own message, if it rejects them.
        """
        text = self._run(messages, tools, add_generation_prompt=generation_prompt)[0]
        return text if generation_prompt else text.removesuffix(self._standing_header)

    def render_marked(self, messages: Messages, tools: Tools = None) -> tuple[str, list[tuple[int, int]]]:
        """Return the text and the character spans (start, end) that the template marks as the assistant's."""
        text, spans = self._run(messages, tools, return_assistant_tokens_mask=True)
        return text.removesuffix(self._standing_header), spans

    def _run(self, messages: Messages, tools: Tools, **options: Any) -> tuple[str, list[tuple[int, int]]]:
        # The function beneath `apply_chat_template`, which returns the marked spans only as a token mask.
        try:
            return render_template(messages, tools, self.text, **options, **self._variables)
        except Exception as error:  # a template is a program and can fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"the chat template fails: {reason}; fix the data or pass --chat-template") from error

    def adapt(self, conversation: Conversation) -> tuple[Messages, Tools]:
        """Return messages and tools in a shape that the template renders completely.

        The number and order of assistant turns stay the same.

        Raises:
            InputError: naming the part that the template leaves out, if it does so in every shape.
        """
        messages, tools, _ = self.adapt_noting(conversation)
        return messages, tools

    def adapt_noting(self, conversation: Conversation) -> tuple[Messages, Tools, list[str]]:
        """Return the result of `adapt` and the changes made for this conversation, one line each."""
        shape = self._shape_of(conversation)
        return *self._in_shape(conversation, shape), shape.notes(self.tool_format)

    def writes_calls_as_text(self, conversation: Conversation) -> bool:
        """Return True if this conversation needs its calls as text; a note says that prompts may begin differently."""
        return self._shape_of(conversation).calls_as_text

    def prompt(self, messages: Messages, tools: Tools = None) -> tuple[str, list[str]]:
        """Return the conversation so far with the header of the assistant's next turn, and notes on changes.

        The shape is that of the conversation including the coming answer: some templates accept a message at the end
        of a conversation but reject or lose it once an answer follows.

        Raises:
            InputError: as `adapt`, and with the template's own message, if it rejects the prompt.
        """
        shape = self._shape_of(Conversation([*messages, _ASSISTANT], tools))
        adapted, given_tools = self._in_shape(Conversation(messages, tools), shape)
        text = self.render(adapted, given_tools, generation_prompt=True)
        if self.ignores_generation_prompt:
            text += self.generation_prompt
        return text, [*self.notes_on(messages, tools), *shape.notes(self.tool_format)]

    def _shape_of(self, conversation: Conversation) -> _Shape:
        key = outline_key(conversation)
        if key not in self._shapes:
            if len(self._shapes) >= _OUTLINES_KEPT:
                self._shapes.clear()
            self._shapes[key] = self._choose_shape(conversation)
        return self._shapes[key]

    def _choose_shape(self, conversation: Conversation) -> _Shape:
        """Return the first shape that loses nothing of the conversation's outline."""
        skeleton = skeleton_of(conversation)
        refused, lost = False, ""
        for shape in _shapes_for(conversation):
            if refused and shape.calls_as_text:
                break  # rendering raises the template's own message
            missing = self._missing(skeleton, shape)
            if missing == "":
                return shape
            refused = refused or (missing is None and shape == _Shape())
            lost = lost or missing or ""
        if refused or not lost:
            return _Shape()
        raise InputError(f"the chat template leaves out {lost}; fix the data, or pass another --chat-template")

    def _missing(self, skeleton: Skeleton, shape: _Shape) -> str | None:
        """Return the part of an outline that this shape loses: empty if none, None if the template rejects it."""
        conversation, places = skeleton
        try:
            text = self.render(*self._in_shape(conversation, shape))
            for word, what, until in places:
                if until is not None:
                    start = replace(conversation, messages=conversation.messages[:until])
                    shown = word in self.render(*self._in_shape(start, shape))
                else:
                    shown = word in text
                if not shown:
                    return what
        except InputError:
            return None
        return ""

    def _in_shape(self, conversation: Conversation, shape: _Shape) -> tuple[Messages, Tools]:
        can = self._abilities
        messages = [plain(message) for message in conversation.messages]
        tools = conversation.tools
        if tools and (shape.calls_as_text or not can.tools):
            messages = append_to_system(messages, self._format.tools(tools))
            tools = None
        if shape.calls_as_text or not can.tool_calls:
            messages = with_written_calls(messages, self._format)
        if not (can.tool_role_after_text if shape.calls_as_text else can.tool_role):
            messages = with_results_as_user(messages, self._format)
        if not can.system or shape.systems == "user":
            messages = with_system_in_user(messages)
        elif shape.systems == "one":
            messages = with_one_system(messages)
        return messages, tools

    def _end_of_answer(self, answered: str, eos_token: str | None) -> str:
        tail = answered[answered.rindex(_ANSWER) + len(_ANSWER) :]
        match = self._specials.match(tail.lstrip())
        if match is None:
            raise InputError(
                "the chat template puts no special end-of-turn token after the assistant's content, so a model would "
                f"not learn to stop; pass --chat-template with a template that writes {eos_token or 'one'} there"
            )
        return match.group()

    def _find_standing_header(self) -> str:
        """Return the assistant's header if the template always ends texts with it (Llama 3's first); else empty.

        Such a template writes the header whether or not it is requested. The text after an answer is then the end of
        the turn and this header. The length of that end shows where a user's message follows instead: the user's
        header is known from the text before the first question.
        """
        try:
            asked, prompted = self.render([_USER]), self.render([_USER], generation_prompt=True)
            answered = self.render([_USER, _ASSISTANT])
            more = self.render([_USER, _ASSISTANT, {"role": "user", "content": _RESULT}])
        except InputError:
            return ""
        if asked != prompted or not all(w in t for w, t in ((_ANSWER, answered), (_QUESTION, asked), (_RESULT, more))):
            return ""
        tail = answered[answered.rindex(_ANSWER) + len(_ANSWER) :]
        after_question = asked[asked.rindex(_QUESTION) + len(_QUESTION) :]
        end = self._special.match(tail.lstrip())
        if end is None or not answered.startswith(asked):
            return ""
        between = more[more.rindex(_ANSWER) + len(_ANSWER) : more.rindex(_RESULT)]
        user_header = _common_end(asked[: asked.index(_QUESTION)], between)
        closing = max(len(tail) - len(tail.lstrip()) + end.end(), len(between) - len(user_header))
        header = tail[closing:].lstrip()
        return header if header and after_question.endswith(header) else ""

    def _find_generation_prompt(self, answered: str) -> tuple[str, bool]:
        """Return the assistant's header, and True if `add_generation_prompt` leaves it out."""
        if self._standing_header:
            return self._standing_header, False
        asked = self.render([_USER])
        prompted = self.render([_USER], generation_prompt=True)
        if prompted.startswith(asked) and prompted != asked:
            return prompted[len(asked) :], False
        lead = answered[len(prompted) : answered.rindex(_ANSWER)] if answered.startswith(prompted) else ""
        # A lone space (Llama 2, Mistral) belongs to the answer's first token.
        return (lead, True) if lead.strip() else ("", False)

    def _probe(self, force_text: bool) -> _Abilities:
        system = {"role": "system", "content": _SYSTEM}
        calls = not force_text and self._shows((_TOOL, _ARGUMENT), [_USER, _CALLING]) and self._learn_end_of_call()
        written = {"role": "assistant", "content": self._format.calls([_call(_CALLING)])}
        calling = _CALLING if calls else written
        return _Abilities(
            system=self._shows((_SYSTEM,), [system, _USER, _ASSISTANT]),
            tools=not force_text and self._shows((_TOOL,), [_USER, _ASSISTANT], _TOOLS),
            tool_calls=calls,
            tool_role=self._shows((_RESULT, _ANSWER), [_USER, calling, _TOOL_RESULT, _ASSISTANT]),
            tool_role_after_text=self._shows((_RESULT, _ANSWER), [_USER, written, _TOOL_RESULT, _ASSISTANT]),
        )

    def _shows(self, words: Sequence[str], messages: Messages, tools: Tools = None) -> bool:
        try:
            text = self.render(messages, tools)
        except InputError:
            return False
        return all(word in text for word in words)

    def _learn_end_within(self) -> None:
        """Add the token that ends every turn but the last, if it is a different one (gpt-oss)."""
        try:
            text = self.render([_USER, _ASSISTANT, _USER, {"role": "assistant", "content": "bye"}])
        except InputError:
            return
        tail = text[text.rindex(_ANSWER) + len(_ANSWER) :].lstrip() if _ANSWER in text else ""
        end = self._special.match(tail)
        if end is not None and not tail.startswith(tuple(self.turn_ends)):
            self.turn_ends.append(end.group())

    def _learn_end_of_call(self) -> bool:
        """Add the token that ends a turn with a call, if different; return False if the text doesn't end with one."""
        called = self.render([_USER, _CALLING])
        tail = called[called.rindex(_ARGUMENT) :].rstrip()
        if any(end in tail for end in self.turn_ends):
            return True
        ends = [match for match in self._special.finditer(tail) if match.end() == len(tail)]
        self.turn_ends += [match.group() for match in ends]
        return bool(ends)

    def is_only_special(self, text: str) -> bool:
        """Return True if a piece of rendered text holds only special tokens and white space."""
        return not self._specials.sub("", text).strip()

    def _write_call_notes(self, forced: str | None) -> list[str]:
        can, name = self._abilities, self.tool_format
        missing = [word for word, able in (("tools", can.tools), ("tool_calls", can.tool_calls)) if not able]
        if forced is not None:
            return [f"Tools and calls are written as text in the {name} format, as requested."]
        if missing:
            return [
                f"The chat template does not support {' and '.join(missing)}: written as text in the {name} format."
            ]
        return []

    def _write_result_notes(self) -> list[str]:
        if self._abilities.tool_role:
            return []
        return [f"The chat template has no role `tool`: results become user messages in the {self.tool_format} format."]

    def _write_system_notes(self) -> list[str]:
        if self._abilities.system:
            return []
        return ["The chat template has no role `system`: system messages are put before the next user message."]

    def _write_notes(self) -> list[str]:
        if self.ignores_generation_prompt and not self.marks_generation:
            return ["The chat template has no generation prompt: the assistant's header was found by comparison."]
        return []


def _special_patterns(tokenizer: Any) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of one special token, and of one or more in a row."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
    # Without any special token, a pattern that never matches.
    one = "|".join(map(re.escape, tokens)) or r"(?!)"
    return re.compile(one), re.compile(f"(?:{one})+")


def _call(message: dict[str, Any]) -> dict[str, Any]:
    call: dict[str, Any] = message["tool_calls"][0]["function"]
    return call


def _common_end(one: str, other: str) -> str:
    size = next(
        (k for k in range(min(len(one), len(other))) if one[-1 - k] != other[-1 - k]), min(len(one), len(other))
    )
    return other[len(other) - size :]
