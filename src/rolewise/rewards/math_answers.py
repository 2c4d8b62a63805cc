"""Correctness of a text's final answer: extracted from the text, compared by math-verify under a time limit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rolewise.rewards.answer_grammar import MAGNITUDES
from rolewise.rewards.answer_text import plain
from rolewise.rewards.worker_pool import LateReply, WorkerPool

_LONGEST = 2000
"""Maximum characters in an answer; no benchmark's answer has a tenth of this, and long ones take minutes to read."""

_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\.|[{}]", re.DOTALL)
_MARKED = re.compile(r"####|\banswer(?: is|:)[:\s]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")
_BOX_WITHOUT_BRACES = re.compile(
    r"(?<!\\)\\(?:boxed|fbox|framebox)\s?(?:([-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)|\\[dt]?frac\s?(?:\d\d|\{[^{}]{1,200}\}\{[^{}]{1,200}\}))"
    r"|([A-Za-z])\s?(?=\$))"
)
_IDLE_BETWEEN = re.compile(r"[\s${}]|\\[()\[\],;: ]|\\q?quad(?![a-z])|\\text(?![a-z])")
_OPEN_BOX = re.compile(r"\\boxed\s*\{(?!\s*\})")
_SIGN = r"(?:(?<![\w)}])[-−–]\s?)?"
_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|'| )\d{3}(?!\d))+|\d+|(?=\.\d))(?:\.\d+)?"
_QUANTITY = (
    r"(?:\\[dt]?frac\s?(?:\d\d|\{[^{}]{1,60}\}\s?\{[^{}]{1,60}\})"
    rf"|\\?[$£€]?\s?{_SIGN}{_DIGITS}(?:[eE][-+]?\d+(?!\w)|\s?/\s?\d+(?!\w)|:\d\d(?!\d)|\s\d+/\d+)?"
    rf"(?:\s(?:{'|'.join(MAGNITUDES)})\b)?(?:\s?[ap]\.?m\b\.?)?(?:\s?\\?%)?)"
)
_NUMBER = re.compile(_SIGN + _QUANTITY, re.IGNORECASE)
_SUM = re.compile(rf"{_SIGN}{_QUANTITY}(?:\s?(?:[-+*/^]|\\times|\\cdot)\s?{_QUANTITY}){{0,20}}", re.IGNORECASE)
_CURRENCY = re.compile(r"\\?[$£€]\s?")


@dataclass(frozen=True)
class MathVerdict:
    """Verdict on a text's answer.

    Attributes:
        right: True if it equals the reference.
        answer: answer as written in the text; None if there is none.
        reason: reason why it is not right, for people; empty if it is.
    """

    right: bool
    answer: str | None
    reason: str = ""


class MathJudge:
    """Judge of answers in separate processes, which start with the first question unless `start` is called before.
    Close it, or use it with `with`.

    It may be called from several threads, which take turns.
    """

    def __init__(self, *, workers: int = 2, limit: float = 5.0) -> None:
        """
        Args:
            workers: number of processes.
            limit: time limit for one comparison, in seconds; an answer that takes longer is wrong.
        """
        self._limit = limit
        self._pool = WorkerPool("rolewise.rewards.math_worker", workers=workers, limit=limit)

    def start(self, texts: int = 1) -> None:
        """Start the processes for this many texts at once, which takes a second, before the first verdict is due."""
        self._pool.start(texts)

    def judge(self, text: str, reference: str, *, numeric: bool = False) -> MathVerdict:
        """Return the verdict on one text; see `judge_all`."""
        return self.judge_all([(text, reference)], numeric=numeric)[0]

    def judge_all(self, pairs: Sequence[tuple[str, str]], *, numeric: bool = False) -> list[MathVerdict]:
        """Return verdicts on pairs of a text and its reference answer (LaTeX, without delimiters), in order.

        Every text gets a verdict; a comparison that takes too long or too much memory makes the answer wrong.

        Args:
            numeric: see `final_answer`.

        Raises:
            RolewiseError: if the processes don't start.
        """
        return self.compare_all([(final_answer(text, numeric=numeric), reference) for text, reference in pairs])

    def compare_all(self, pairs: Sequence[tuple[str | None, str]]) -> list[MathVerdict]:
        """Return verdicts, like `judge_all`, on pairs of an extracted answer (`final_answer`) and its reference.

        Raises:
            RolewiseError: if the processes don't start.
        """
        answers = [answer for answer, _ in pairs]
        verdicts = [_verdict_by_sight(answer, reference) for answer, (_, reference) in zip(answers, pairs, strict=True)]
        open_pairs = [number for number, verdict in enumerate(verdicts) if verdict is None]
        requests = [{"answer": answers[number], "reference": pairs[number][1]} for number in open_pairs]
        for number, reply in zip(open_pairs, self._pool.ask_all(requests), strict=True):
            verdicts[number] = self._verdict(answers[number], pairs[number][1], reply)
        return [verdict for verdict in verdicts if verdict is not None]

    def canonical_all(self, answers: Sequence[str]) -> list[str]:
        """Return for each answer a text that is the same for equal expressions, for votes.

        0.5 and 1/2 are equal; answers whose equality takes algebra to see may stay distinct. An answer that can't be
        read, or not in time, stands for itself.
        """
        short = [answer[:_LONGEST] for answer in answers]
        replies = self._pool.ask_all([{"answer": answer} for answer in short])
        return [
            answer if isinstance(reply, Exception) or reply["result"] is None else reply["result"]
            for answer, reply in zip(answers, replies, strict=True)
        ]

    def close(self) -> None:
        """Stop the processes."""
        self._pool.close()

    def _verdict(self, answer: str | None, reference: str, reply: object) -> MathVerdict:
        if isinstance(reply, LateReply):
            return MathVerdict(False, answer, f"the comparison took over {self._limit:g} s")
        if isinstance(reply, Exception):
            return MathVerdict(False, answer, "the comparison failed")
        right = isinstance(reply, dict) and reply["result"] is True
        return MathVerdict(right, answer, "" if right else f"not equal to {reference}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def final_answer(text: str, *, numeric: bool = False) -> str | None:
    r"""Return the final answer of a text, or None.

    The answer is the content of the last closed `\boxed{…}`, or of `\boxed 2`; None if a box is opened and none is
    closed. In a text without boxes, apart from empty ones and the word "\boxed", it is the text after the last `####`,
    "answer is" or "answer:", to the end of the sentence.

    Args:
        text: response of a model.
        numeric: True if the answer is a plain number. Then it is the first number of that sentence, or of the part
            after its last equals sign, with its sign, magnitude, fraction or time, and the operations that it is part
            of; if there is no such sentence either, the last number of the text.
    """
    boxed = boxed_answer(text)
    if boxed:
        return boxed
    if _OPEN_BOX.search(text) or text.rstrip().endswith(r"\boxed{"):
        return None
    marks = list(_MARKED.finditer(text))
    sentence = _SENTENCE_END.split(text[marks[-1].end() :].lstrip(), maxsplit=1)[0].strip(" *$") if marks else ""
    if not numeric:
        return sentence or None
    return _number_in(sentence) or _last_number(text)


def _number_in(sentence: str) -> str | None:
    """Return the number that a sentence gives."""
    sentence = plain(sentence[-_LONGEST:])
    found = _SUM.search(sentence[sentence.rfind("=") + 1 :]) or _SUM.search(sentence)
    return _CURRENCY.sub("", found.group()).strip() if found else None


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(plain(text[-100_000:]))
    return _CURRENCY.sub("", numbers[-1]).strip() if numbers else None


def boxed_answer(text: str) -> str | None:
    r"""Return the boxed answer of a text, empty for an empty box; None if there is none, or only the word `\boxed`.

    The answer is the content of the last `\boxed{…}`, `\fbox` or `\framebox` whose braces are closed, or the text
    after one without braces. Boxes before it that it continues, `\boxed{1}, \boxed{2} and \boxed{3}`, form one list
    with it. One pass suffices for any nesting.
    """
    boxes: list[tuple[re.Match[str], re.Match[str]]] = []
    open_braces: list[re.Match[str] | None] = []  # where a box begins; None for other braces
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                boxes.append((start, match))
        elif token.endswith("{") and token != r"\{":
            open_braces.append(None if token == "{" else match)
    boxes.sort(key=lambda box: box[0].start())
    bare = next(reversed(list(_BOX_WITHOUT_BRACES.finditer(text))), None)
    if bare is not None and (not boxes or bare.start() > boxes[-1][1].start()):
        return (bare[1] or bare[2]).rstrip(",")
    return ", ".join(_last_list(text, boxes)) if boxes else None


def _last_list(text: str, boxes: Sequence[tuple["re.Match[str]", "re.Match[str]"]]) -> list[str]:
    """What stands in the last box and in those that are listed before it, each once."""
    listed: list[str] = []
    for number in range(len(boxes) - 1, -1, -1):
        start, end = boxes[number]
        if number + 1 < len(boxes):
            between = text[end.end() : boxes[number + 1][0].start()]
            if len(between) > 60 or _IDLE_BETWEEN.sub("", between) not in (",", ";", "and", ",and"):
                break
        content = text[start.end() : end.start()].strip()
        if content not in listed:
            listed.insert(0, content)
    return listed


def _verdict_by_sight(answer: str | None, reference: str) -> MathVerdict | None:
    """Return the verdict if no comparison is needed, else None."""
    if answer is None:
        return MathVerdict(False, None, "no answer found")
    if len(answer) > _LONGEST:
        return MathVerdict(False, answer[:_LONGEST], f"the answer is {len(answer)} characters long")
    if answer.split() == reference.split():
        return MathVerdict(True, answer)
    return None
