"""Formats with one question and one answer: Alpaca and its variants, Self-Instruct, question and answer."""

import re
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation

_IDENTITY = re.compile(r"\s*you are (?:an?|the)\s", re.IGNORECASE)


def from_alpaca(record: dict[str, Any], source: str) -> Conversation:
    """Read Alpaca's and rlla's `instruction`, `input`, `output`, optionally `system`.

    GPTeacher writes `response` for `output`; so does Dolly, and `context` for `input`.

    With an input, an instruction that is a system prompt (see `_is_system_prompt`) becomes the system message and the
    input becomes the user's turn. Otherwise the user's turn is the instruction, an empty line, and the input.
    """
    instruction = _text(record, "instruction", source)
    given = _text(record, "input" if "input" in record else "context", source)
    system = _text(record, "system", source)
    answer = _text(record, "output" if "output" in record else "response", source)
    if not system.strip() and given.strip() and _is_system_prompt(instruction):
        system, user = instruction, given
    else:
        user = "\n\n".join(part for part in (instruction, given) if part.strip())
    if not user.strip():
        raise InputError(f"{source}: `instruction` and `input` are both empty, so the output has no question")
    return _exchange(user, answer, source, system)


def from_self_instruct(record: dict[str, Any], source: str) -> Conversation:
    """Read Self-Instruct's `instruction` with one `input` and `output` in the list `instances`."""
    match record["instances"]:
        case [dict(instance)]:
            return from_alpaca({"output": None, **instance, "instruction": record["instruction"]}, source)
        case list(instances):
            raise InputError(f"{source}: `instances` has {len(instances)} entries; give each its own record")
        case other:
            raise InputError(f"{source}: `instances` must be a list, found {type(other).__name__}")


def from_question_answer(record: dict[str, Any], source: str) -> Conversation:
    """Read `problem` and `solution` (MATH), `question` and `solution`, or `question` and `answer` (GSM8K).

    A worked solution, if present, is the assistant's turn, and a final `answer` beside it is ignored.
    """
    answer = "solution" if "solution" in record else "answer"
    question = "problem" if "problem" in record and answer == "solution" else "question"
    user = _text(record, question, source)
    if not user.strip():
        raise InputError(f"{source}: `{question}` is empty")
    return _exchange(user, _text(record, answer, source), source)


def _is_system_prompt(instruction: str) -> bool:
    """Return True if an Alpaca instruction defines the assistant's identity rather than a task.

    Such an instruction opens with "You are a/an/the …" and has more than one line, like rlla's; a one-line task ("You
    are given a sentence, …", "You are a teacher: mark this essay.") stays with its input in the user's turn.
    """
    return bool(_IDENTITY.match(instruction)) and "\n" in instruction.strip()


def _text(record: dict[str, Any], key: str, source: str) -> str:
    value = record.get(key)
    if not isinstance(value, str | None):
        raise InputError(f"{source}: `{key}` must be text, found {type(value).__name__}")
    return value or ""


def _exchange(user: str, answer: str, source: str, system: str = "") -> Conversation:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(messages, source=source)
