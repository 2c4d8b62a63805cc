"""A benchmark from conversations with tool calls: the model should make the same calls.

Every assistant turn that calls tools is an example, asked with all messages before it; the model's own earlier answers
don't count. Turns that only answer hold nothing to check and are skipped. Turns whose calls can't be parsed are skipped
too; a note reports their number.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.readers import iter_conversations
from rolewise.data.readers.write import as_record
from rolewise.data.tool_calls import ParsedCall, parse_response
from rolewise.data.tool_prompts import check_reference
from rolewise.evaluation.accuracy import Score, mean_score, mean_scores
from rolewise.evaluation.answer_checks import CallChecker, Question, calls_of_reference
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Ask, Play, Suite, SuiteSettings
from rolewise.rewards.call_matching import correctness
from rolewise.rewards.reference_calls import Call

NAME = "calls"
PARTIAL = "partial credit"


def make(name: str, settings: SuiteSettings) -> "Calls":
    """Create the suite; the path of the conversations follows a colon, as in `calls:held-out.jsonl`.

    Raises:
        InputError: if there is no path.
    """
    source = name.partition(":")[2]
    if not source:
        raise InputError(f"suite {name!r} needs conversations; name their file after a colon: {NAME}:held-out.jsonl")
    return Calls(source)


class Calls(Suite):
    """Suite that accepts an answer with all calls of the turn and no other, each name and argument equal, in any order.

    The model may write the calls in any format that Rolewise reads. Besides the accuracy there is *partial credit*,
    ToolRL's correctness (arXiv 2504.13958) on [0, 1]: shares of names, of argument names and of equal values; a missing
    call, or one that can't be parsed, gives 0.

    Args:
        source: conversations, as `iter_conversations` takes them.
    """

    name = NAME

    def __init__(self, source: str) -> None:
        self.title = f"Calls, {Path(source).stem}"
        self._source = source
        self._checker = CallChecker()
        self._asked = 0
        self._unreadable: list[str] = []

    @cached_property
    def _conversations(self) -> list[Conversation]:
        return list(iter_conversations(self._source))

    def examples(self) -> Sequence[Example]:
        """See `Suite`."""
        examples = []
        self._unreadable = []
        for number, conversation in enumerate(self._conversations):
            for turn, question in _turns(conversation):
                try:
                    check_reference(question.reference, f"{question.source}: message {turn + 1}")
                except InputError as error:
                    self._unreadable.append(str(error))
                    continue
                wanted = calls_of_reference(question)
                if wanted:
                    category = "one call" if len(wanted) == 1 else "several calls"
                    examples.append(Example(f"{number}/{turn}", category, question))
        if not examples:
            unread = f" that can be read; the first: {self._unreadable[0]}" if self._unreadable else ""
            raise InputError(
                f"{self._source}: no assistant turn calls a tool{unread or '; give conversations with tool calls'}"
            )
        self._asked = len(examples)
        return examples

    @property
    def notes(self) -> list[str]:
        """Return a note on the number of turns skipped because their calls can't be parsed."""
        if not self._unreadable:
            return []
        count, turns = len(self._unreadable), len(self._unreadable) + self._asked
        return [
            f"the calls of {count:,} of {turns:,} turns can't be parsed, so these turns are skipped; the first: "
            f"{self._unreadable[0]}"
        ]

    def play(self, example: Example) -> Play:
        """See `Suite`."""
        question: Question = example.data
        answer = yield Ask(messages=question.messages, tools=question.tools)
        # A text that was cut off is not a complete answer, whatever it holds.
        if answer.error is not None or answer.samples[0].finish_reason != "stop":
            return Verdict(0.0, answer.error or "the answer was cut off", {PARTIAL: 0.0})
        calls = parse_response(answer.text).calls
        right = self._checker.check(question, [answer.text]) == [True]
        readable = bool(calls) and all(call.valid for call in calls)
        partial = correctness(_named(calls_of_reference(question)), _named(calls)) if readable else 0.0
        return Verdict(float(right), "" if right else _reason(calls), {PARTIAL: partial})

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return the accuracy overall and by the number of calls, and the mean partial credit."""
        return [*mean_scores(results), mean_score(PARTIAL, [verdict.detail[PARTIAL] for _, verdict in results])]

    def version(self) -> dict[str, Any]:
        """See `Suite`."""
        digest = hashlib.sha256()
        for conversation in self._conversations:
            digest.update(json.dumps(as_record(conversation), sort_keys=True, default=str).encode() + b"\n")
        return {"data": digest.hexdigest()}


def _turns(conversation: Conversation) -> Iterator[tuple[int, Question]]:
    """Yield every assistant turn, except as first message, which answers nothing, with its index among the messages."""
    messages = conversation.messages
    for number, message in enumerate(messages):
        if number and message["role"] == "assistant":
            yield number, Question(messages[:number], conversation.tools, message, conversation.source)


def _named(calls: Sequence[ParsedCall]) -> list[Call]:
    return [Call(call.name or "", call.arguments or {}) for call in calls]


def _reason(calls: Sequence[ParsedCall]) -> str:
    if not calls:
        return "no call"
    broken = next((call for call in calls if not call.valid), None)
    return "other calls than the reference's" if broken is None else f"a call can't be read: {broken.error}"
