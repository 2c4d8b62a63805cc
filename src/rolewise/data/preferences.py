"""Preference pairs for DPO: TRL's formats, and the columns of Orca DPO and UltraFeedback."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.readers import Rejected
from rolewise.data.readers.containers import Record, open_containers
from rolewise.data.readers.messages import read_messages
from rolewise.data.sources import parse_sources

Side = str | list[dict[str, Any]]
Row = dict[str, Side]

EXPECTED = (
    "expected prompt, chosen, rejected (TRL, UltraFeedback); chosen and rejected with the same beginning; system, "
    "question, chosen, rejected (Orca DPO); or instruction, chosen_response, rejected_response"
)


@dataclass(frozen=True)
class Preferences:
    """Preference pairs of one or several sources.

    Attributes:
        rows: `prompt`, `chosen`, `rejected`: texts in all rows, or lists of messages in all rows.
        sha256: hash of the rows, in order.
        rejected: records left out, with the reason: invalid records, and pairs of equal answers.
    """

    rows: list[Row]
    sha256: str
    rejected: list[Rejected]


def read_preferences(text: str, *, skip_invalid: bool = False) -> Preferences:
    """Read preference pairs from one or several sources, named like conversations: files, folders, data sets, hub ids.

    The format of each row follows from its column names:
        prompt, chosen, rejected: TRL's, texts or lists of messages. In UltraFeedback's binarized form the prompt is a
            text and the answers are whole conversations that begin with it.
        chosen, rejected: TRL's with an implicit prompt, the common beginning of both.
        system, question or input, chosen, rejected: Orca DPO, and its revision by Argilla.
        instruction, chosen_response, rejected_response: UltraFeedback as cleaned by Argilla.

    Pairs whose answers are equal are left out.

    Args:
        text: the value of an option, e.g. `orca.parquet,ultrafeedback.jsonl`.
        skip_invalid: leave out invalid records instead of stopping at the first.

    Raises:
        InputError: naming file and record, for an unusable record, for texts in one row and messages in another, or if
            nothing is left.
    """
    rows: list[Row] = []
    rejected: list[Rejected] = []
    sha256 = hashlib.sha256()
    for record in _records(text):
        try:
            row = _read(record)
            if rows and _is_text(row) != _is_text(rows[0]):
                kinds = ["texts" if _is_text(entry) else "messages" for entry in (row, rows[0])]
                raise InputError(f"{record.source}: answers are {kinds[0]}, earlier ones {kinds[1]}; use one kind")
        except InputError as error:
            if not skip_invalid:
                raise
            rejected.append(Rejected(record.source, str(error).removeprefix(f"{record.source}: ")))
            continue
        if row["chosen"] == row["rejected"]:  # some data sets have these; DPO's loss pushes them both ways alike
            rejected.append(Rejected(record.source, "chosen and rejected are equal, so neither is preferred"))
            continue
        rows.append(row)
        sha256.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    if not rows:
        raise InputError(f"{text}: no preference pair can be used" + (f"; {rejected[0].reason}" if rejected else ""))
    return Preferences(rows, sha256.hexdigest(), rejected)


def _records(text: str) -> Iterator[Record]:
    for source in parse_sources(text):
        if source.share is not None:
            raise InputError(f"{text}: preference pairs can't be mixed by shares; remove =…")
        for container in open_containers(source.location):
            yield from container.records


def _is_text(row: Row) -> bool:
    return isinstance(row["chosen"], str)


def _read(record: Record) -> Row:
    if record.error:
        raise InputError(f"{record.source}: {record.error}; fix or remove the record")
    if not isinstance(record.value, dict):
        raise InputError(f"{record.source}: expected a JSON object, found {type(record.value).__name__}")
    value = {key: entry for key, entry in record.value.items() if entry is not None}
    for keys, read in _FORMS:
        if keys <= value.keys():
            row = read(value, record.source)
            if row["chosen"] != row["rejected"]:
                _check(row, record.source)
            return row
    seen = ", ".join(map(str, record.value)) or "none"
    raise InputError(f"{record.source}: the record has the keys {seen}; {EXPECTED}")


def _check(row: Row, source: str) -> None:
    for name, side in row.items():
        if isinstance(side, str) and not side.strip():
            raise InputError(f"{source}: `{name}` is empty; fix or remove the record")
        if isinstance(side, list) and not side:
            raise InputError(f"{source}: `{name}` has no message of its own; fix or remove the record")
        if isinstance(side, list) and name != "prompt":
            last = side[-1]
            if last["role"] != "assistant" or not (last.get("content") or last.get("tool_calls")):
                raise InputError(f"{source}: `{name}` does not end with an assistant answer; fix or remove the record")


def _question(value: dict[str, Any], source: str) -> Row:
    """Read an Orca DPO record, whose texts are turns of a chat."""
    question = value["question"] if "question" in value else value["input"]
    system = _text(value["system"], "system", source)
    prompt = [{"role": "system", "content": system}] if system.strip() else []
    prompt.append({"role": "user", "content": _text(question, "question", source)})
    return {"prompt": prompt, **{side: _answer(value[side], side, source) for side in ("chosen", "rejected")}}


def _instruction(value: dict[str, Any], source: str) -> Row:
    prompt: Side = [{"role": "user", "content": _text(value["instruction"], "instruction", source)}]
    sides = {side: _answer(value[f"{side}_response"], f"{side}_response", source) for side in ("chosen", "rejected")}
    return {"prompt": prompt, **sides}


def _explicit(value: dict[str, Any], source: str) -> Row:
    prompt, chosen, rejected = (value[name] for name in ("prompt", "chosen", "rejected"))
    if all(isinstance(side, str) for side in (prompt, chosen, rejected)):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    asked = _messages(prompt, "prompt", source)
    row: Row = {"prompt": asked}
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        answer = _answer(side, name, source) if isinstance(side, str) else _messages(side, name, source)
        # UltraFeedback repeats the prompt, and some versions put a system message before it.
        whole = _begins_with(answer, asked)
        row[name] = answer[whole:] if whole else answer
        if whole > len(asked):
            row["prompt"] = answer[:whole]
    return row


def _implicit(value: dict[str, Any], source: str) -> Row:
    chosen, rejected = value["chosen"], value["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        # A space between prompt and answer belongs to the answer: it begins the answer's first token.
        prompt = chosen[: _shared(chosen, rejected)].rstrip(" ")
        return {"prompt": prompt, "chosen": chosen[len(prompt) :], "rejected": rejected[len(prompt) :]}
    sides = [_messages(side, name, source) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    # Two identical answers still are answers.
    shared = min(_shared(*sides), *(len(side) - 1 for side in sides))
    return {"prompt": sides[0][:shared], "chosen": sides[0][shared:], "rejected": sides[1][shared:]}


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Return the number of entries or characters in the common beginning."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _begins_with(answer: list[dict[str, Any]], prompt: list[dict[str, Any]]) -> int:
    """Return how many messages of `answer` are the prompt, with a system message before it; 0 without the prompt."""
    start = int(answer[0]["role"] == "system" and prompt[0]["role"] != "system") if answer else 0
    end = start + len(prompt)
    return end if answer[start:end] == prompt else 0


def _answer(value: Any, name: str, source: str) -> list[dict[str, Any]]:
    text = _text(value, name, source)
    if not text.strip():
        raise InputError(f"{source}: `{name}` is empty; fix or remove the record")
    return [{"role": "assistant", "content": text}]


def _messages(value: Any, name: str, source: str) -> list[dict[str, Any]]:
    return read_messages(value, source, name)[0]


def _text(value: Any, name: str, source: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{source}: `{name}` must be text, found {type(value).__name__}")
    return value


_FORMS: tuple[tuple[set[str], Callable[[dict[str, Any], str], Row]], ...] = (
    ({"instruction", "chosen_response", "rejected_response"}, _instruction),
    ({"system", "question", "chosen", "rejected"}, _question),
    ({"system", "input", "chosen", "rejected"}, _question),
    ({"prompt", "chosen", "rejected"}, _explicit),
    ({"chosen", "rejected"}, _implicit),
)
"""Keys and reader of each form; the first match is used."""
