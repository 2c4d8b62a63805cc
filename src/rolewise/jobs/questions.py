"""Questions for searches, with or without answers, from question files or conversations."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.limits import limited_lines, parse_json, too_long
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import without_surrogates
from rolewise.data.readers import Rejected
from rolewise.data.sources import SourceMix, parse_sources
from rolewise.rewards.math_answers import final_answer
from rolewise.search.tree import Question

TEXT_KEYS = ("question", "problem", "prompt", "query")
ANSWER_KEYS = ("reference", "final_answer", "answer", "solution", "response")
ID_KEYS = ("id", "question_id", "unique_id", "problem_id")
_CONVERSATION_KEYS = ("messages", "conversations", "completion", "instruction")
_LONGEST_BARE_ANSWER = 100
"""Maximum characters of a bare answer; a longer text that marks no answer is an explanation."""


@dataclass(frozen=True)
class Questions:
    """Questions that were read.

    Attributes:
        questions: the questions, each with a unique id.
        unanswered: number of them without a reference.
        rejected: skipped records.
    """

    questions: list[Question]
    unanswered: int
    rejected: list[Rejected]


def read_questions(
    data: str, *, format: str | None = None, skip_invalid: bool = False, limit: int | None = None
) -> Questions:
    """Read questions from question files (JSON Lines) or from sources of conversations, as for `rolewise label`.

    A record of a question file has its text under one of `TEXT_KEYS`, and optionally a reference under one of
    `ANSWER_KEYS` and an id. In a conversation, the user's words are the question and the assistant's turn contains
    the reference.

    Args:
        data: sources, `a.jsonl,b.jsonl`.
        format: format of conversations; None detects it.
        skip_invalid: skip unusable records instead of stopping.
        limit: read only this many, from the start.

    Raises:
        InputError: naming file and record, for unreadable data, an id that is used twice, or if there is no question.
    """
    read: list[Question] = []
    rejected: list[Rejected] = []
    sources = parse_sources(data)
    if format is None and all(source.share is None and _holds_questions(source.location) for source in sources):
        names = Counter(Path(source.location).name for source in sources)
        for number, source in enumerate(sources, start=1):
            path = Path(source.location)
            # As in `SourceMix.lasting_source`: the location of files must not matter.
            name = path.name if names[path.name] == 1 else f"{number}/{path.name}"
            read += islice(_of_file(path, name, skip_invalid, rejected), limit)
        read = read[:limit]
    else:
        mix = SourceMix(sources, format=format, skip_invalid=skip_invalid, limit=limit)
        for conversation in mix:
            try:
                read.append(question_of(conversation, mix.lasting_source(conversation)))
            except InputError as error:
                if not skip_invalid:
                    raise InputError(f"{conversation.source}: {error}; or skip such records (skip_invalid)") from error
                rejected.append(Rejected(conversation.source, str(error)))
        rejected += mix.rejected
    if not read:
        raise InputError(f"{data}: contains no question; give records with a text under one of {', '.join(TEXT_KEYS)}")
    [(most, count)] = Counter(question.id for question in read).most_common(1)
    if count > 1:
        raise InputError(f"{data}: {count} questions have the id {most!r}; give each a unique id")
    return Questions(read, sum(question.reference is None for question in read), rejected)


def question_of(conversation: Conversation, id: str) -> Question:
    """Return the question of a conversation: everything before the last assistant turn.

    Raises:
        InputError: if that contains more than user and system messages.
    """
    turns = [i for i, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    before = conversation.messages[: turns[-1]]
    others = [message["role"] for message in before if message["role"] not in ("system", "user")]
    if others or not before:
        what = "a conversation of several turns" if before else "no question before the answer"
        raise InputError(f"{what}; give one question with its answer")
    text = "\n\n".join(str(message["content"]) for message in before)
    return Question(id, text, reference_in(str(conversation.messages[turns[-1]].get("content") or "")))


def reference_in(text: str) -> str | None:
    """Return the answer at the end of a solution (see `final_answer`), or the text itself if it is just an answer."""
    marked = final_answer(text)
    if marked is not None:
        return marked
    bare = text.strip().strip("$")
    return bare if bare and len(bare) <= _LONGEST_BARE_ANSWER and "\n" not in bare else None


def _holds_questions(location: str) -> bool:
    """Return True if a file's first record is a bare question, not a conversation."""
    path = Path(location)
    if path.suffix not in (".jsonl", ".json") or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            lines = (line.data for line in limited_lines(stream) if line.data is None or line.data.strip())
            record = parse_json(next(lines, None) or b"")
    except (OSError, ValueError):  # the conversation readers give a better message
        return False
    if not isinstance(record, dict) or any(key in record for key in _CONVERSATION_KEYS):
        return False
    return _text_of(record) is not None


def _of_file(path: Path, name: str, skip_invalid: bool, rejected: list[Rejected]) -> Iterator[Question]:
    with path.open("rb") as stream:
        for number, line in limited_lines(stream):
            if line is not None and not line.strip():
                continue
            source = f"{name}:{number}"
            try:
                question = _of_record(line, source)
            except InputError as error:
                if not skip_invalid:
                    raise InputError(f"{path}:{number}: {error}; or skip such records (skip_invalid)") from error
                rejected.append(Rejected(source, str(error)))
                continue
            yield question


def _of_record(line: bytes | None, source: str) -> Question:
    if line is None:
        raise InputError(too_long())
    try:
        record = without_surrogates(parse_json(line, parse_constant=lambda name: None))  # NaN is no answer
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a line of JSON ({error})") from error
    text = _text_of(record) if isinstance(record, dict) else None
    if text is None:
        raise InputError(f"no question; give its text under one of {', '.join(TEXT_KEYS)}")
    name = next((str(record[key]) for key in ID_KEYS if record.get(key) not in (None, "")), source)
    return Question(name, text, _reference_of(record))


def _text_of(record: dict[str, Any]) -> str | None:
    texts = (record.get(key) for key in TEXT_KEYS)
    return next((text.strip() for text in texts if isinstance(text, str) and text.strip()), None)


def _reference_of(record: dict[str, Any]) -> str | None:
    for key in ANSWER_KEYS:
        value = record.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value).removesuffix(".0")
        if isinstance(value, str) and (reference := reference_in(value)) is not None:
            return reference
    return None
