"""What a benchmark suite is: examples, each played as a conversation with the model and ended by a verdict.

A play is a generator. It yields what to ask the model (`Ask`), is sent the model's `Answer`, and returns a `Verdict`.
Most ask once; an agent's task asks after every result of a tool. The runner plays many at once and keeps the engine
busy with whatever they ask next.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolewise.core import errors
from rolewise.engines.base import Sample
from rolewise.evaluation.accuracy import Score, mean_scores

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Example:
    """One task of a suite.

    Attributes:
        id: unique within the suite.
        category: what it is counted under; `--limit` draws over categories.
        data: what the suite needs to play it.
    """

    id: str
    category: str
    data: Any


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A question to the model.

    Attributes:
        messages: the conversation so far, in TRL's conversational format.
        tools: schemas of the tools, in OpenAI's format, for the chat template; None for none.
        max_new_tokens: for this answer, unless the user says otherwise.
        stop: texts that end the answer.
        n: samples wanted.
        temperature: for this answer; None takes the run's.
    """

    messages: Messages
    tools: list[dict[str, Any]] | None = None
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    n: int = 1
    temperature: float | None = None


@dataclass(frozen=True)
class Answer:
    """The model's answer.

    Attributes:
        texts: of each sample, with the special tokens in it but without the one that ended it; empty if the engine
            could not answer.
        samples: as the engine gave them.
        error: why there is no answer, e.g. a prompt longer than the model's context, or why samples are missing.
    """

    texts: list[str]
    samples: list[Sample]
    error: str | None = None

    @property
    def text(self) -> str:
        """The first sample's text; empty if there is none."""
        return self.texts[0] if self.texts else ""


@dataclass(frozen=True)
class Verdict:
    """How an example ended.

    Attributes:
        score: in [0, 1]; 1 is right, 0 wrong, between them the share of samples that are right.
        reason: why, for people: e.g. the checker's message.
        detail: what else is to be kept, as JSON values.
    """

    score: float
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


Play = Generator[Ask, Answer, Verdict]


@dataclass(frozen=True, kw_only=True)
class SuiteSettings:
    """What the user chose that a suite may read.

    Attributes:
        data: folder with local copies of data sets, from `ROLEWISE_DATA`; None where there is none.
        cache: folder for what is downloaded.
        native_tools: give tools through the chat template and read calls in the model's own format, instead of
            writing both into the prompt.
        samples: answers per question, for pass@k and maj@k.
        judge: settings of a judge model on a server (see `stable_toolbench`), by option name.
    """

    data: Path | None
    cache: Path
    native_tools: bool = False
    samples: int = 1
    judge: Mapping[str, str] = field(default_factory=dict)


class Suite(ABC):
    """A benchmark.

    Attributes:
        name: as on the command line.
        title: as in tables.
        untested: whether it has only been run on made-up data so far; reports say so.
        takes_samples: whether it asks for `SuiteSettings.samples` answers per question; else more than one is refused.
    """

    name: str
    title: str
    untested: bool = False
    takes_samples: bool = False

    @abstractmethod
    def examples(self) -> Sequence[Example]:
        """All tasks, in a fixed order.

        Raises:
            InputError: if the data can't be had or read.
        """

    @abstractmethod
    def play(self, example: Example) -> Play:
        """Play one task; see the module's text. Whatever the model answers, this ends in a verdict."""

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the tasks beside their scores, a line each; asked after `examples`."""
        return []

    def version(self) -> dict[str, Any]:
        """What identifies the tasks and the rule: digests of data files, versions of checkers; JSON values."""
        return {}

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Scores to report, the overall one first. By default the mean over all, and over each category."""
        return mean_scores(results)

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:  # noqa: B027
        """Write the files that the suite's own tools read, where there are such; by default none."""

    def close(self) -> None:  # noqa: B027, most suites start nothing
        """End whatever the suite started."""


def failing_in_one_line(what: str) -> AbstractContextManager[None]:
    """What a suite raises, told in one line: it may be a user's program."""
    return errors.failing_in_one_line(what, "mend the suite")
