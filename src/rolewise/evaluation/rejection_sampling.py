"""Rejection sampling: questions that a model answers several times, and which of the answers are right.

The questions are played as a suite's examples are, so many are under way at once and a killed run loses none that had
ended.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from rolewise.data.conversation import Conversation
from rolewise.evaluation.answer_checks import Checker, Question
from rolewise.evaluation.suite import Ask, Example, Play, Suite, Verdict


class RejectionSampling(Suite):
    """Each question is asked once for all its answers; the score is the share that is right.

    Args:
        conversations: where the questions come from; those whose reference can't be checked are left out.
        checker: tells which answers are right; closed with this.
        samples: answers to each question.
        max_new_tokens: tokens of an answer at most.

    Attributes:
        unchecked: conversations that were left out.
    """

    name = "rejection-sampling"
    title = "Rejection sampling"

    def __init__(
        self, conversations: Iterable[Conversation], checker: Checker, *, samples: int, max_new_tokens: int
    ) -> None:
        self._checker = checker
        self._samples = samples
        self._max_new_tokens = max_new_tokens
        self._examples: list[Example] = []
        self.unchecked = 0
        for number, conversation in enumerate(conversations):
            question = question_of(conversation)
            if question.messages and checker.check(question, []) is not None:
                self._examples.append(Example(str(number), "all", question))
            else:
                self.unchecked += 1

    def examples(self) -> Sequence[Example]:
        return self._examples

    def play(self, example: Example) -> Play:
        question: Question = example.data
        answer = yield Ask(
            messages=question.messages, tools=question.tools, max_new_tokens=self._max_new_tokens, n=self._samples
        )
        # A text that reached no end is no whole answer, whatever it holds.
        whole = [sample.finish_reason == "stop" for sample in answer.samples]
        verdicts = self._checker.check(question, answer.texts) or [False] * len(answer.texts)
        right = [a and b for a, b in zip(verdicts, whole, strict=True)]
        score = sum(right) / self._samples
        return Verdict(score, answer.error or "", {"right": right, "answers": answer.texts})

    def close(self) -> None:
        self._checker.close()


def question_of(conversation: Conversation) -> Question:
    """The conversation up to its last assistant turn, which is the reference; what follows that turn is dropped."""
    turns = [i for i, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    last = turns[-1]
    messages = conversation.messages[:last]
    return Question(messages, conversation.tools, conversation.messages[last], conversation.source)


def right_answers(detail: dict[str, Any], keep: int | None) -> list[str]:
    """The first `keep` different right answers (None: all) of a verdict's detail."""
    pairs = zip(detail["answers"], detail["right"], strict=True)
    return list(dict.fromkeys(answer for answer, right in pairs if right and answer.strip()))[:keep]


def answered(question: Question, answer: str) -> Conversation:
    """The question's conversation with an answer in the reference's place, word for word as the model gave it."""
    return Conversation([*question.messages, {"role": "assistant", "content": answer}], question.tools, question.source)
