"""Checks of answers against the reference in their conversation: equal tool calls, or an equal final answer."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.tool_calls import ParsedCall, calls_from_openai, parse_response


@dataclass(frozen=True)
class Question:
    """A conversation up to its last assistant turn.

    Attributes:
        messages: messages to ask the model with, in TRL's conversational format.
        tools: schemas of the available tools, or None.
        reference: the last assistant turn: `content`, and `tool_calls` if it has some.
        source: origin of the conversation, for messages to people.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    reference: dict[str, Any]
    source: str


class Checker(ABC):
    """Base class of checkers, which distinguish right answers from wrong ones."""

    @abstractmethod
    def check(self, question: Question, answers: Sequence[str]) -> list[bool] | None:
        """Return True for each right answer, else False; None if this question's reference allows no check."""

    def close(self) -> None:  # noqa: B027, most checkers start nothing
        """Stop everything that the checker started."""


class CallChecker(Checker):
    """Checker that accepts an answer with the reference's calls, equal in name, arguments and number, in any order.

    Every call must be parseable; thoughts and other text around the calls don't matter.
    """

    def check(self, question: Question, answers: Sequence[str]) -> list[bool] | None:
        wanted = calls_of_reference(question)
        if not wanted:
            return None
        return [_counted(parse_response(answer).calls) == _counted(wanted) for answer in answers]


def calls_of_reference(question: Question) -> list[ParsedCall]:
    """Return the calls of a question's reference; none if it only answers, or one of them can't be parsed."""
    calls = question.reference.get("tool_calls")
    wanted = calls_from_openai(calls) if calls else parse_response(question.reference["content"] or "").calls
    return list(wanted) if all(call.valid for call in wanted) else []


class MathChecker(Checker):
    """Checker that accepts an answer whose final answer equals the reference's, by math-verify under a time limit."""

    def __init__(self) -> None:
        from rolewise.rewards.math_answers import MathJudge

        self._judge = MathJudge()

    def check(self, question: Question, answers: Sequence[str]) -> list[bool] | None:
        from rolewise.rewards.math_answers import final_answer

        wanted = final_answer(question.reference["content"] or "")
        if wanted is None:
            return None
        return [verdict.right for verdict in self._judge.judge_all([(answer, wanted) for answer in answers])]

    def close(self) -> None:
        self._judge.close()


CheckFunction = Callable[[Question, Sequence[str]], list[bool] | None]
"""(question, answers) → True or False for each answer; None if the question can't be checked. Called without answers
first, to find out if the question can be checked at all."""


class FunctionChecker(Checker):
    """Checker that calls a user's function."""

    def __init__(self, name: str, function: CheckFunction) -> None:
        self._name = name
        self._function = function

    def check(self, question: Question, answers: Sequence[str]) -> list[bool] | None:
        try:
            verdicts = self._function(question, answers)
        except Exception as error:  # a user's program can fail in any way
            reason = " ".join(str(error).split())
            raise InputError(
                f"{question.source}: the checker {self._name} failed: {type(error).__name__}: {reason}"
            ) from error
        if verdicts is None:
            return None
        if not isinstance(verdicts, Sequence) or len(verdicts) != len(answers):
            raise InputError(
                f"{question.source}: the checker {self._name} must return one verdict for each answer, or None"
            )
        return [bool(verdict) for verdict in verdicts]


CHECKERS: dict[str, Callable[[], Checker]] = {"calls": CallChecker, "math": MathChecker}
"""Built-in checkers; `register_checker` adds others."""

_registered: dict[str, CheckFunction] = {}


def register_checker(name: str, function: CheckFunction) -> None:
    """Register a custom checker under a name, which `rolewise sample --check` then accepts.

    Args:
        name: name of the checker; a second registration replaces the first; the names of `CHECKERS` are reserved.
        function: checker function, see `CheckFunction`.

    Raises:
        ValueError: for a name of `CHECKERS`.
    """
    if name in CHECKERS:
        raise ValueError(f"the name {name!r} is taken by a built-in checker; choose another")
    _registered[name] = function


def make_checker(name: str) -> Checker:
    """Create the checker of that name; the caller closes it.

    Raises:
        InputError: for an unknown name.
    """
    if name in CHECKERS:
        return CHECKERS[name]()
    if name in _registered:
        return FunctionChecker(name, _registered[name])
    known = ", ".join([*CHECKERS, *_registered])
    raise InputError(f"check {name!r} is not known; choose one of {known}, or name the --plugin that adds it")


def _counted(calls: Sequence[ParsedCall]) -> Counter[str] | None:
    """Return calls as a multiset; None if one can't be parsed."""
    if not all(call.valid for call in calls):
        return None
    return Counter(json.dumps([call.name, _canonical(call.arguments)], sort_keys=True) for call in calls)


def _canonical(value: Any) -> Any:
    """Return a JSON value in which 5.0 is 5; true stays distinct from 1, and "5" from 5."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
