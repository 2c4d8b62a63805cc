"""The questions that searches take: with or without answers, out of files of questions or of conversations."""

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
"""Characters; what is longer and marks no answer is an explanation."""


@dataclass(frozen=True)
class Questions:
    """What was read.

    Attributes:
        questions: each with an id of its own.
        unanswered: how many of them have no reference.
        rejected: records that were left out.
    """

    questions: list[Question]
    unanswered: int
    rejected: list[Rejected]


def read_questions(
    data: str, *, format: str | None = None, skip_invalid: bool = False, limit: int | None = None
) -> Questions:
    """Questions of files of questions (JSON Lines) or of sources of conversations, as for `rolewise label`.

    A record of a file of questions has its text under one of `TEXT_KEYS`, perhaps a reference under one of
    `ANSWER_KEYS`, and perhaps an id. Of a conversation the user's words are the question and the assistant's turn has
    the reference.

    Args:
        data: sources, `a.jsonl,b.jsonl`.
        format: of conversations; None finds out.
        skip_invalid: leave out records that can't be used instead of refusing.
        limit: only the first so many.

    Raises:
        InputError: naming file and record, for what can't be read, an id that is used twice, or no question at all.
    """
    read: list[Question] = []
    rejected: list[Rejected] = []
    sources = parse_sources(data)
    if format is None and all(source.share is None and _holds_questions(source.location) for source in sources):
        names = Counter(Path(source.location).name for source in sources)
        for number, source in enumerate(sources, start=1):
            path = Path(source.location)
            # As `SourceMix.lasting_source`: where files lie must not matter.
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
        raise InputError(f"{data}: holds no question; give records with a text under one of {', '.join(TEXT_KEYS)}")
    [(most, count)] = Counter(question.id for question in read).most_common(1)
    if count > 1:
        raise InputError(f"{data}: {count} questions have the id {most!r}; give each its own")
    return Questions(read, sum(question.reference is None for question in read), rejected)


def question_of(conversation: Conversation, id: str) -> Question:
    """The question of a conversation, which is all that is said before the last assistant turn.

    Raises:
        InputError: if more than users' and system's words stand there.
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
    """The answer that a solution ends with (see `final_answer`), or the text itself where it is no more than one."""
    marked = final_answer(text)
    if marked is not None:
        return marked
    bare = text.strip().strip("$")
    return bare if bare and len(bare) <= _LONGEST_BARE_ANSWER and "\n" not in bare else None


def _holds_questions(location: str) -> bool:
    """Whether a file's first record is a question on its own, not a conversation."""
    path = Path(location)
    if path.suffix not in (".jsonl", ".json") or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            lines = (line.data for line in limited_lines(stream) if line.data is None or line.data.strip())
            record = parse_json(next(lines, None) or b"")
    except (OSError, ValueError):  # the readers of conversations say it better
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
