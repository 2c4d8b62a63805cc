"""Judges of paths: by equality with the reference answer and a process-reward model, or by a user's function."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rolewise.core.batch_cache import BatchCache
from rolewise.core.errors import InputError, RolewiseError
from rolewise.rewards.math_answers import MathJudge, MathVerdict, boxed_answer, final_answer
from rolewise.rewards.process_reward import ProcessRewardError, ProcessRewardModel
from rolewise.search.tree import Question, Step
from rolewise.search.values import Judgement, Leaf, Values

RIGHT_SHARE = 0.6
PROCESS_SHARE = 0.4
"""Share of the process reward: with a process-reward model the value of a path with an answer is 0.6 · right + 0.4 ·
the last step's score (RFTT, arXiv 2502.13389, and its published code)."""

_REMEMBERED = 50_000
"""Maximum number of cached answers, of cached comparisons and of cached verdicts of a function."""
_REST = 60.0
"""Seconds before a failed process-reward model is asked again; the delay doubles after each further failure."""

ValueFunction = Callable[[Question, Sequence[Step]], "float | tuple[float, str | None] | Judgement"]
"""Function that returns the value of a path, alone or with the path's answer, for votes."""


class MathValues(Values):
    r"""Judge of mathematical answers.

    The answer is the content of the last `\boxed{}`, or the text after the last "answer is" (see
    `rewards.math_answers.final_answer`), of the last step if it gives one, else of the whole path; if the last step was
    cut off, only a box counts. The value of a path is

    - without a process-reward model: 1 if the answer is right, `wrong_with_answer` if it is wrong, 0 without an answer;
    - with a process-reward model: 0.6 · right + 0.4 · the last step's score; without an answer that score.

    If the reference is unknown, the value is the last step's score, or 0 without a process-reward model.

    While a process-reward model is unavailable, paths are judged by their outcome, and `notes` reports their number.

    Args:
        process_reward: process-reward model; closed with this judge.
        wrong_with_answer: value of a wrong answer: 0 for a search for right paths, 0.1 in RFTT's reinforcement.
        numeric: True if all answers are plain numbers; then answers are found in more texts.
        blind: True to ignore references, without a note on missing ones: at inference there are none.
        workers: number of processes that compare answers.
        limit: time limit for one comparison, in seconds; an answer that takes longer is wrong.
    """

    def __init__(
        self,
        process_reward: ProcessRewardModel | None = None,
        wrong_with_answer: float = 0.0,
        *,
        numeric: bool = False,
        blind: bool = False,
        workers: int = 2,
        limit: float = 5.0,
    ) -> None:
        if not 0 <= wrong_with_answer <= 1:
            raise InputError(f"wrong_with_answer is {wrong_with_answer}; it must be from 0 to 1")
        self._answers = _Answers(numeric, workers, limit)
        self._process = None if process_reward is None else _ProcessScores(process_reward)
        self._wrong_with_answer = wrong_with_answer
        self._blind = blind
        self._unknown: set[str] = set()  # ids of questions without a reference

    @property
    def notes(self) -> list[str]:
        """See `Values`."""
        told = [] if self._process is None else self._process.notes
        if self._unknown and not self._blind:
            by = "have the value 0" if self._process is None else "are judged by the process-reward model alone"
            told.append(f"Some questions have no reference answer; their paths {by}")
        return told

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        """See `Values`."""
        if self._blind:
            leaves = [replace(leaf, question=replace(leaf.question, reference=None)) for leaf in leaves]
        verdicts = self._answers.verdicts(leaves)
        scores = [None] * len(leaves) if self._process is None else self._process.of(leaves)
        self._unknown |= {leaf.question.id for leaf in leaves if leaf.question.reference is None}
        return [
            Judgement(self._value(right, answer, rewards), answer, right, rewards)
            for (answer, right), rewards in zip(verdicts, scores, strict=True)
        ]

    def close(self) -> None:
        """Stop the processes that compare answers, and close the process-reward model."""
        self._answers.close()
        if self._process is not None:
            self._process.close()

    def _value(self, right: bool | None, answer: str | None, rewards: tuple[float, ...] | None) -> float:
        last = rewards[-1] if rewards else None
        if answer is None or right is None:
            return last or 0.0
        if last is not None:
            return RIGHT_SHARE * right + PROCESS_SHARE * last
        return 1.0 if right else self._wrong_with_answer


class FunctionValues(Values):
    """Judge that calls a user's function.

    Args:
        function: function that takes a question and the steps toward its answer, and returns the path's value, the
            value and the answer, or a `Judgement`. Equal paths are judged once.
        name: name used in messages.
    """

    def __init__(self, function: ValueFunction, name: str | None = None) -> None:
        self._function = function
        self._name = name or getattr(function, "__name__", "function")
        self._known: BatchCache[tuple[Question, tuple[Step, ...]], Judgement] = BatchCache(_REMEMBERED)

    @property
    def notes(self) -> list[str]:
        """No notes."""
        return []

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        """See `Values`.

        Raises:
            InputError: with the function's name, if it fails or returns an invalid value.
        """
        paths = [(leaf.question, leaf.steps) for leaf in leaves]
        return self._known.answers(paths, lambda new: [self._judge_one(*path) for path in new])

    def close(self) -> None:
        """Do nothing: the judge holds no resources."""

    def _judge_one(self, question: Question, steps: tuple[Step, ...]) -> Judgement:
        where = f"value {self._name!r}, question {question.id}"
        try:
            said = self._function(question, steps)
        except RolewiseError:
            raise
        except Exception as error:  # a user's function can fail in any way
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{where}: the function failed: {type(error).__name__}: {reason}") from error
        judgement = said if isinstance(said, Judgement) else _judgement_of(said)
        if judgement is None:
            raise InputError(
                f"{where}: the function returned {str(said)[:80]!r}; expected a number, or a number and a text or None"
            )
        return judgement


class _Answers:
    """Answers of paths, in the form used for votes, and their correctness."""

    def __init__(self, numeric: bool, workers: int, limit: float) -> None:
        self._judge = MathJudge(workers=workers, limit=limit)
        self._numeric = numeric
        self._verdicts: BatchCache[tuple[str, str], MathVerdict] = BatchCache(_REMEMBERED)
        self._canonical: BatchCache[str, str] = BatchCache(_REMEMBERED)

    def verdicts(self, leaves: Sequence[Leaf]) -> list[tuple[str | None, bool | None]]:
        """Return for each leaf its answer, with equal answers as equal texts, and its correctness; None if unknown."""
        written = [self._written(leaf) for leaf in leaves]
        there = [answer for answer in written if answer is not None]
        answers = iter(self._canonical.answers(there, self._judge.canonical_all))
        pairs = [
            (answer, leaf.question.reference)
            for answer, leaf in zip(written, leaves, strict=True)
            if answer is not None and leaf.question.reference is not None
        ]
        verdicts = iter(self._verdicts.answers(pairs, self._judge.compare_all))
        return [
            (
                None if answer is None else next(answers),
                None if leaf.question.reference is None else answer is not None and next(verdicts).right,
            )
            for answer, leaf in zip(written, leaves, strict=True)
        ]

    def close(self) -> None:
        self._judge.close()

    def _written(self, leaf: Leaf) -> str | None:
        text = "\n".join(step.text for step in leaf.steps)
        if leaf.cut_off and not boxed_answer(text):  # "the answer is 12", where 12 may be the beginning of 120
            return None
        last = leaf.steps[-1].text if leaf.steps else ""
        # An answer in the last step takes precedence over a box in an earlier one.
        says_it = not leaf.cut_off and final_answer(last) is not None
        return final_answer(last if says_it else text, numeric=self._numeric)


class _ProcessScores:
    """Scores of a process-reward model, as long as it is available."""

    def __init__(self, model: ProcessRewardModel) -> None:
        self._model = model
        self._failure: str | None = None
        self._missed = 0
        self._unscored = 0
        self._rest = _REST
        self._asleep_until = 0.0

    @property
    def notes(self) -> list[str]:
        """Notes of the model, and on paths judged without it."""
        told = list(self._model.notes)
        if self._failure is not None:
            told.append(
                f"{self._failure}; {_counted(self._missed, 'path was', 'paths were')} judged by the answer alone"
            )
        if self._unscored:
            count = _counted(self._unscored, "path was", "paths were")
            told.append(f"{count} judged by the answer alone: the process-reward model can't score them (too long?)")
        return told

    def of(self, leaves: Sequence[Leaf]) -> list[tuple[float, ...] | None]:
        """Return the steps' scores for each leaf, None if there are none."""
        if time.monotonic() < self._asleep_until:
            self._missed += len(leaves)
            return [None] * len(leaves)
        try:
            scores = self._model.score([(leaf.question.text, [step.text for step in leaf.steps]) for leaf in leaves])
        except ProcessRewardError as error:
            self._failure = str(error)
            self._missed += len(leaves)
            self._asleep_until = time.monotonic() + self._rest
            self._rest *= 2
            return [None] * len(leaves)
        self._rest = _REST
        self._unscored += sum(entry is None for entry in scores)
        return [None if entry is None else tuple(entry) for entry in scores]

    def close(self) -> None:
        self._model.close()


def _judgement_of(said: object) -> Judgement | None:
    """Convert the return value of a user's function to a judgement; return None if it is invalid."""
    value: Any
    value, answer = said if isinstance(said, tuple) and len(said) == 2 else (said, None)
    try:
        number = float(value)  # also accepts NumPy numbers and one-element tensors
    except (TypeError, ValueError):
        return None
    fits = number - number == 0 and not isinstance(value, str) and (answer is None or isinstance(answer, str))
    return Judgement(number, answer) if fits else None


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
