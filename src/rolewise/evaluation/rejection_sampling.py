"""Rejection sampling: a model answers each question several times, and the answers are checked.

The questions are played like a suite's examples, so many run concurrently and a killed run loses no finished question.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from rolewise.data.conversation import Conversation
from rolewise.evaluation.answer_checks import Checker, Question
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Ask, Play, Suite


class RejectionSampling(Suite):
    """Suite that requests all answers to a question at once; the score is the share of right answers.

    Args:
        conversations: source of the questions; those whose reference can't be checked are skipped.
        checker: checker of the answers; closed with this suite.
        samples: number of answers to each question.
        max_new_tokens: maximum number of tokens per answer.

    Attributes:
        unchecked: number of skipped conversations.
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
        # A text that was cut off is not a complete answer, whatever it holds.
        whole = [sample.finish_reason == "stop" for sample in answer.samples]
        verdicts = self._checker.check(question, answer.texts) or [False] * len(answer.texts)
        right = [a and b for a, b in zip(verdicts, whole, strict=True)]
        score = sum(right) / self._samples
        return Verdict(score, answer.error or "", {"right": right, "answers": answer.texts})

    def close(self) -> None:
        self._checker.close()


def question_of(conversation: Conversation) -> Question:
    """Return the conversation up to its last assistant turn, the reference; later messages are dropped."""
    turns = [i for i, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    last = turns[-1]
    messages = conversation.messages[:last]
    return Question(messages, conversation.tools, conversation.messages[last], conversation.source)


def right_answers(detail: dict[str, Any], keep: int | None) -> list[str]:
    """Return the first `keep` different right answers (None: all) of a verdict's detail."""
    pairs = zip(detail["answers"], detail["right"], strict=True)
    return list(dict.fromkeys(answer for answer, right in pairs if right and answer.strip()))[:keep]


def answered(question: Question, answer: str) -> Conversation:
    """Return the question's conversation with the model's verbatim answer in place of the reference."""
    return Conversation([*question.messages, {"role": "assistant", "content": answer}], question.tools, question.source)
