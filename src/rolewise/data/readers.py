"""Conversations from files: JSON Lines or a JSON list, in any of the formats of `FORMATS`.

Left out on purpose: reasoning kept apart from the content (`reasoning_content`) and OpenAI's old `function_call`.
Such a message is refused by name, since dropping that text without a word would train on half a turn.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_path
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.message_fields import (
    LONE_SURROGATE,
    read_content,
    read_role_spans,
    read_tool_calls,
    read_tools,
    without_surrogates,
)

RECORDS_LOOKED_AT = 10
"""How many records are looked at to recognise the format."""


class Rejected(NamedTuple):
    """A record that was left out: where it stands and what is wrong with it."""

    source: str
    reason: str


@dataclass(frozen=True)
class ReadResult:
    """What a file held. `rejected` is empty unless `skip_invalid` was asked for."""

    conversations: list[Conversation]
    rejected: list[Rejected]
    format: str


class _Record(NamedTuple):
    """One JSON value of the file, or the reason why there is none."""

    source: str
    value: Any
    error: str = ""


def read_conversations(
    path: str | Path, *, format: str | None = None, skip_invalid: bool = False, limit: int | None = None
) -> ReadResult:
    """Read the conversations of a file, checked.

    Args:
        path: UTF-8 text; one JSON object a line, or one JSON list of objects.
        format: a name of `FORMATS`; None recognises it by the keys of the first records.
        skip_invalid: collect bad records in `rejected` instead of stopping at the first.
        limit: stop after so many good records; None reads all.

    Raises:
        InputError: naming `file:line` (in a JSON list `file: record N`), for a file that is missing, empty or not
            UTF-8, for broken JSON, an unknown format, a record that can't be trained on, or a file of which nothing
            is left.
    """
    path = Path(path)
    records = list(_records(path))
    if not records:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line, or a JSON list")
    name = format or _recognise(path, records, skip_invalid)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    conversations: list[Conversation] = []
    rejected: list[Rejected] = []
    for record in records:
        if len(conversations) == limit:
            break
        try:
            conversations.append(_convert(record, FORMATS[name]))
        except InputError as error:
            if not skip_invalid:
                raise
            rejected.append(Rejected(record.source, str(error).removeprefix(f"{record.source}: ")))
    if not conversations:
        first = rejected[0]
        raise InputError(f"{path}: no record can be used; the first: {first.source}: {first.reason}")
    return ReadResult(conversations, rejected, name)


def write_conversations(conversations: Iterable[Conversation], path: str | Path) -> None:
    """Write the `messages` format as JSON Lines, with true roles where they are known; the file appears whole.

    `read_conversations` gives equal conversations back, but for `source`, which then names this file. Lone surrogates,
    which UTF-8 can't hold, become U+FFFD.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for conversation in conversations:
            line = json.dumps(_as_record(conversation), ensure_ascii=False)
            stream.write(LONE_SURROGATE.sub("\ufffd", line) + "\n")


def _as_record(conversation: Conversation) -> dict[str, Any]:
    messages = [dict(message) for message in conversation.messages]
    if conversation.role_spans is not None:
        for message, spans in zip(messages, conversation.role_spans, strict=True):
            message["role_spans"] = [[span.start, span.end, span.role.label] for span in spans]
    record: dict[str, Any] = {"messages": messages}
    if conversation.tools is not None:
        record["tools"] = conversation.tools
    return record


def _records(path: Path) -> Iterator[_Record]:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    if data.lstrip()[:1] == b"[":
        yield from _records_of_list(path, data)
        return
    # Split at line feeds only: str.splitlines would also cut at U+2028 and other marks that JSON strings may hold.
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        source = f"{path}:{number}"
        try:
            yield _Record(source, _parse(line))
        except _ParseError as error:
            yield _Record(source, None, error.reason if error.column is None else f"{error.reason} ({error.place()})")


def _records_of_list(path: Path, data: bytes) -> Iterator[_Record]:
    try:
        values = _parse(data)
    except _ParseError as error:
        place = "" if error.column is None else f":{error.line}, column {error.column}"
        raise InputError(f"{path}{place}: {error.reason}; mend the file") from error
    for number, value in enumerate(values, start=1):
        yield _Record(f"{path}: record {number}", value)


class _ParseError(Exception):
    def __init__(self, reason: str, line: int = 1, column: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line, self.column = reason, line, column

    def place(self) -> str:
        return f"column {self.column}"


def _parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _ParseError(f"not UTF-8 (byte {error.start}); save it as UTF-8") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _ParseError(f"broken JSON: {error.msg}", error.lineno, error.colno) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of nested brackets
        raise _ParseError(f"JSON that can't be read: {error}") from error
    # A lone surrogate can only come from a \u escape; no tokenizer takes it.
    return without_surrogates(value) if "\\u" in text else value


def _recognise(path: Path, records: list[_Record], skip_invalid: bool) -> str:
    """The format whose keys the first readable records have."""
    objects = list(islice((r.value for r in records if isinstance(r.value, dict)), RECORDS_LOOKED_AT))
    counts = {name: sum(map(entry.recognises, objects)) for name, entry in FORMATS.items()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best]:
        return best
    broken = next((record for record in records if record.error or not isinstance(record.value, dict)), None)
    if broken is not None and (not skip_invalid or not objects):
        _convert(broken, FORMATS[best])  # raises: the first bad record says more than the keys do
    keys = sorted({str(key) for value in objects for key in value})
    known = "; ".join(f"{name} ({', '.join(entry.keys)})" for name, entry in FORMATS.items())
    raise InputError(f"{path}: unknown format with the keys {', '.join(keys) or 'none'}; known formats: {known}")


def _convert(record: _Record, entry: "Format") -> Conversation:
    if record.error:
        raise InputError(f"{record.source}: {record.error}; mend or remove the record")
    if not isinstance(record.value, dict):
        raise InputError(f"{record.source}: expected a JSON object, found {type(record.value).__name__}")
    if not entry.recognises(record.value):
        seen = ", ".join(map(str, record.value)) or "none"
        raise InputError(f"{record.source}: the record has the keys {seen}; expected {', '.join(entry.keys)}")
    return entry.convert(record.value, record.source).check()


def _from_messages(record: dict[str, Any], source: str) -> Conversation:
    """TRL's and OpenAI's `{"messages": […], "tools": […]}`, per message optionally with `role_spans`."""
    given = record["messages"]
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise InputError(f"{source}: `messages` must be a list of objects")
    messages: list[dict[str, Any]] = []
    spans: list[list[RoleSpan]] = []
    for number, message in enumerate(given, start=1):
        where = f"{source}: message {number}"
        kept: dict[str, Any] = {"role": message.get("role"), "content": read_content(message, where)}
        kept.update({key: message[key] for key in ("name", "tool_call_id") if message.get(key) is not None})
        if message.get("tool_calls"):
            kept["tool_calls"] = read_tool_calls(message, where)
        messages.append(kept)
        spans.append(read_role_spans(message.get("role_spans") or [], kept["content"] or "", where))
    known_truth = any(message.get("role_spans") is not None for message in given)
    return Conversation(messages, read_tools(record.get("tools"), source), source, spans if known_truth else None)


_IDENTITY = re.compile(r"\s*you are (?:an?|the)\s", re.IGNORECASE)


def _is_system_prompt(instruction: str) -> bool:
    """Whether an Alpaca instruction tells the assistant who it is rather than what to do.

    It opens with "You are a/an/the …" and has more than one line, as rlla's have; a task of one line ("You are given
    a sentence, …", "You are a teacher: mark this essay.") stays with its input in the user's turn.
    """
    return bool(_IDENTITY.match(instruction)) and "\n" in instruction.strip()


def _from_alpaca(record: dict[str, Any], source: str) -> Conversation:
    """Alpaca's and rlla's `instruction`, `input`, `output`, optionally `system`.

    With an input, an instruction that is a system prompt (see `_is_system_prompt`) becomes the system message and the
    input the user's turn. In every other case the user's turn is the instruction, an empty line, the input.
    """
    for key in ("system", "instruction", "input", "output"):
        if not isinstance(record.get(key, ""), str | None):
            raise InputError(f"{source}: `{key}` must be text, found {type(record[key]).__name__}")
    instruction, given, system = record["instruction"] or "", record.get("input") or "", record.get("system") or ""
    if not system.strip() and given.strip() and _is_system_prompt(instruction):
        system, user = instruction, given
    else:
        user = "\n\n".join(part for part in (instruction, given) if part.strip())
    if not user.strip():
        raise InputError(f"{source}: `instruction` and `input` are both empty, so nothing asks for the output")
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": record["output"] or ""}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(messages, source=source)


@dataclass(frozen=True)
class Format:
    """A record format: the keys that tell it, and the function that reads a record (record, source) of it."""

    keys: tuple[str, ...]
    convert: Callable[[dict[str, Any], str], Conversation]

    def recognises(self, record: dict[str, Any]) -> bool:
        return all(key in record for key in self.keys)


FORMATS = {
    "messages": Format(("messages",), _from_messages),
    "alpaca": Format(("instruction", "output"), _from_alpaca),
}
"""The formats by name, in the order in which they are tried."""
