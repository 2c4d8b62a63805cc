"""True roles of real answers: units annotated by hand (`annotations/`), as roles of characters and of tokens.

The committed file holds hashes, places and letters, no text; the data sets supply the text. What the letters mean is
in `annotations/RULES.md`, `experiments/annotate.py` makes the file.

Shape suffix: T = tokens of one sample.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rolewise.core.errors import InputError
from rolewise.core.files import write_json
from rolewise.core.limits import read_text
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.origin import read_origin
from rolewise.data.readers import iter_conversations
from rolewise.data.render import RenderedSample
from rolewise.data.spans import project
from rolewise.data.tool_text import tool_format
from rolewise.data.written_messages import with_written_calls

ANNOTATIONS = Path(__file__).resolve().parents[1] / "annotations" / "real_answers.json"
UNIT = re.compile(r"""</?\w+>|https?://[^\s"'<>()\[\]]*[\w/]|\w+(?:[-'’./@&+]\w+|(?<=\d)[:,]\d+)*|([^\w\s])\1*""")
ROLE_BY_LETTER = {"R": Role.REASONING, "C": Role.TEMPLATE, "F": Role.FORMAT, "T": Role.TEMPLATE}
BOILERPLATE_LETTER, UNKNOWN_LETTER = "B", "."
_ROLES = {**ROLE_BY_LETTER, BOILERPLATE_LETTER: Role.BOILERPLATE}
_CALLS = "hermes"


class Unit(NamedTuple):
    """Characters `start` to `end` (half-open) of an answer."""

    start: int
    end: int


@dataclass(frozen=True)
class Answer:
    """An assistant turn, of which a stretch of units is annotated.

    Attributes:
        name: short name within the annotations, `a01` …
        file: path below the data folder.
        row: number of the record in the file, from 1.
        message: index of the turn among the conversation's messages as read.
        sha256: of the turn's text as `written` gives it, UTF-8.
        first, end: the annotated units (half-open), as indices into `units` of that text.
        letters: by annotator, one letter of `ROLE_BY_LETTER` per annotated unit.
        adjudicated: where two annotators disagree on reasoning, the letter decided afterwards; `.` elsewhere; empty
            until then.
    """

    name: str
    file: str
    row: int
    message: int
    sha256: str
    first: int
    end: int
    letters: dict[str, str]
    adjudicated: str = ""

    def disputed(self) -> list[int]:
        """Return the annotated units, from 0, that one annotator calls reasoning and another does not.

        Raises:
            InputError: unless two or more have annotated the answer.
        """
        if len(self.letters) < 2:
            raise InputError(f"{self.name}: {len(self.letters)} annotations; merge those of two annotators first")
        columns = zip(*self.letters.values(), strict=True)
        return [number for number, column in enumerate(columns) if len({letter == "R" for letter in column}) > 1]

    def final(self) -> str:
        """Return one letter per annotated unit: the common or adjudicated one; else `B` for boilerplate of a kind on
        which the annotators disagree, and `.` for a unit in dispute."""
        disputed = set(self.disputed())
        decided = self.adjudicated or UNKNOWN_LETTER * (self.end - self.first)
        columns = zip(*self.letters.values(), strict=True)
        return "".join(
            decided[number] if number in disputed else column[0] if len(set(column)) == 1 else BOILERPLATE_LETTER
            for number, column in enumerate(columns)
        )


def units(text: str) -> list[Unit]:
    """Return the units of a text, in order; what lies between them is white space."""
    return [Unit(*match.span()) for match in UNIT.finditer(text)]


def read_annotations(path: str | Path = ANNOTATIONS) -> list[Answer]:
    """Read annotations.

    Raises:
        InputError: naming the file, if it is absent or not as `write_annotations` writes it.
    """
    try:
        answers = [Answer(**entry) for entry in json.loads(read_text(path, what="annotations"))["answers"]]
        for answer in answers:
            for letters in answer.letters.values():
                if len(letters) != answer.end - answer.first or set(letters) - set(ROLE_BY_LETTER):
                    raise ValueError(f"{answer.name} needs {answer.end - answer.first} letters of RCFT")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot read the annotations: {error}; restore the committed file") from error
    return answers


def write_annotations(path: str | Path, seed: int, answers: Iterable[Answer]) -> None:
    """Write annotations, with the seed of the draw."""
    write_json(path, {"seed": seed, "answers": [asdict(answer) for answer in answers]})


def written(conversation: Conversation) -> Conversation:
    """Return the conversation with its calls as text, so that every word of a turn is a character of its content."""
    messages = with_written_calls(conversation.messages, tool_format(_CALLS))
    return replace(conversation, messages=[{**each, "content": each.get("content") or ""} for each in messages])


def sha256(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_rows(path: Path) -> Iterator[tuple[int, Conversation]]:
    """Yield each readable record's number and conversation, calls as text.

    Raises:
        InputError: if the file can't be read.
    """
    for conversation in iter_conversations(path, skip_invalid=True):
        yield int(conversation.source.rpartition(":")[2]), written(conversation)


def conversations_of(answers: Sequence[Answer], data: str | Path) -> dict[str, Conversation]:
    """Return the conversation of each answer, by the answer's name, up to and including the answer.

    Raises:
        InputError: for a file that is absent, or whose text is not the one that was annotated.
    """
    found = {}
    for file in dict.fromkeys(answer.file for answer in answers):
        rows = dict(read_rows(Path(data) / file))
        for answer in answers:
            if answer.file != file:
                continue
            conversation = rows.get(answer.row)
            messages = conversation.messages[: answer.message + 1] if conversation else []
            if conversation is None or not messages or sha256(messages[-1]["content"]) != answer.sha256:
                raise InputError(f"{Path(data) / file}:{answer.row}: not the text that was annotated; use that version")
            found[answer.name] = replace(conversation, messages=messages)
    return {answer.name: found[answer.name] for answer in answers}


def annotated_conversations(data: str | Path, answers: Sequence[Answer] | None = None) -> list[Conversation]:
    """Return the annotated conversations, the roles of their last turn's characters in `role_spans`.

    Rendering then sets `RenderedSample.true_roles`; other turns' tokens and units in dispute are `PLAIN`.

    Args:
        data: the folder of the data sets.
        answers: annotations; the committed ones by default.

    Raises:
        InputError: for data that is absent or another version, or answers without two annotations.
    """
    answers = read_annotations() if answers is None else answers
    found = conversations_of(answers, data)
    with_roles = []
    for answer in answers:
        conversation = found[answer.name]
        spans: list[list[RoleSpan]] = [[] for _ in conversation.messages]
        spans[-1] = role_spans(answer, conversation.messages[-1]["content"])
        with_roles.append(replace(conversation, role_spans=spans))
    return with_roles


def role_spans(answer: Answer, text: str) -> list[RoleSpan]:
    """Return the final roles of an answer's characters, as far as they are known; spans of one role that touch are one.

    Spaces belong to the unit after them, as in byte-pair tokens; white space with a line break is layout.

    Raises:
        InputError: unless two have annotated the answer.
    """
    found = units(text)
    spans: list[RoleSpan] = []
    for number, letter in enumerate(answer.final(), start=answer.first):
        unit, before = found[number], found[number - 1].end if number else 0
        gap = text[before : unit.start]
        pieces = [RoleSpan(before, unit.start, Role.FORMAT)] if "\n" in gap else []
        if letter in _ROLES:
            pieces.append(RoleSpan(unit.start if pieces else before, unit.end, _ROLES[letter]))
        for piece in pieces:
            if spans and (spans[-1].end, spans[-1].role) == (piece.start, piece.role):
                piece = spans.pop()._replace(end=piece.end)
            spans.append(piece)
    return spans


def annotated_roles(sample: RenderedSample, answers: Sequence[Answer] | None = None) -> npt.NDArray[np.uint8] | None:
    """Return the true roles of a sample's tokens, for samples rendered from the data sets themselves.

    A token has a role only if it lies wholly inside one span of `role_spans`; other loss tokens are `PLAIN`, the
    end-of-turn token of an annotated turn is `FORMAT`.

    Args:
        sample: a rendered sample with its `origin`.
        answers: annotations; the committed ones by default.

    Returns:
        uint8 [T] of `Role`; None if no turn of the sample is annotated.

    Raises:
        InputError: for a template that rewrites the annotated turn (one that writes calls in its own notation); render
            `annotated_conversations` instead, or with `tool_format="hermes"`.
    """
    if sample.origin is None:
        return None
    by_hash = {answer.sha256: answer for answer in (read_annotations() if answers is None else answers)}
    origin = read_origin(sample.origin, sample.source)
    contents = [each["content"] for each in written(origin.conversation).messages if each["role"] == "assistant"]
    roles_T = np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT).astype(np.uint8)
    known = False
    for turn in origin.turns:
        content = contents[turn.number]
        answer = by_hash.get(sha256(content))
        if answer is None:
            continue
        start = turn.content_start(sample.text, content, turn.start)
        if start is None:
            raise InputError(
                f"{sample.source}: the chat template rewrites the annotated turn; render annotated_conversations(), or "
                'with tool_format="hermes"'
            )
        known = True
        spans = [(start + begin, start + end, role) for begin, end, role in role_spans(answer, content)]
        found_T = project(spans, sample.char_start, sample.char_end, Role.PLAIN)
        found_T[sample.char_start >= turn.closing] = Role.FORMAT
        inside_T = sample.loss_mask & (sample.char_start >= turn.start) & (sample.char_start < turn.end)
        roles_T[inside_T] = found_T[inside_T]
    return roles_T if known else None
