"""The interface of a benchmark suite: examples, each played as a conversation with the model and ended by a verdict.

A play is a generator. It yields questions to the model (`Ask`), receives the model's `Answer`, and returns a
`Verdict`. Most plays ask once; an agent's task asks after every result of a tool. The runner plays many at once and
keeps the engine busy with their next questions.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolewise.core import errors
from rolewise.engines.base import Sample
from rolewise.evaluation.accuracy import Score, mean_scores
from rolewise.evaluation.examples import Example, Verdict

Messages = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A question to the model.

    Attributes:
        messages: the conversation so far, in TRL's conversational format.
        tools: schemas of the tools, in OpenAI's format, for the chat template; None for none.
        max_new_tokens: maximum tokens of this answer, unless the user sets another number.
        stop: texts that end the answer.
        n: number of samples.
        temperature: temperature of this answer; None takes the run's.
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
        texts: text of each sample, with special tokens except the one that ended it; empty if the engine could not
            answer.
        samples: samples as the engine returned them.
        error: reason for a missing answer, e.g. a prompt longer than the model's context, or for missing samples.
    """

    texts: list[str]
    samples: list[Sample]
    error: str | None = None

    @property
    def text(self) -> str:
        """Text of the first sample; empty if there is none."""
        return self.texts[0] if self.texts else ""


Play = Generator[Ask, Answer, Verdict]


@dataclass(frozen=True, kw_only=True)
class SuiteSettings:
    """User settings that a suite may read.

    Attributes:
        data: folder with local copies of data sets, from `ROLEWISE_DATA`; None if there is none.
        cache: folder for downloads.
        native_tools: True to pass tools through the chat template and read calls in the model's own format, False to
            write both into the prompt.
        samples: number of answers per question, for pass@k and maj@k.
        judge: settings of a judge model on a server (see `stable_toolbench.judge`), by option name.
    """

    data: Path | None
    cache: Path
    native_tools: bool = False
    samples: int = 1
    judge: Mapping[str, str] = field(default_factory=dict)


class Suite(ABC):
    """A benchmark.

    Attributes:
        name: name on the command line.
        title: title in tables.
        untested: True if the suite has been run on made-up data only so far; reports say so.
        takes_samples: True if it asks for `SuiteSettings.samples` answers per question; else more than one is refused.
    """

    name: str
    title: str
    untested: bool = False
    takes_samples: bool = False

    @abstractmethod
    def examples(self) -> Sequence[Example]:
        """Return all tasks, in a fixed order.

        Raises:
            InputError: if the data can't be found or read.
        """

    @abstractmethod
    def play(self, example: Example) -> Play:
        """Play one task; see the module's docstring. Whatever the model answers, the play ends in a verdict."""

    @property
    def notes(self) -> list[str]:
        """Return notes for readers on the tasks, a line each; called after `examples`."""
        return []

    def version(self) -> dict[str, Any]:
        """Return the identity of the tasks and the rule: digests of data files, versions of checkers; JSON values."""
        return {}

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        """Return the scores to report, the overall one first. Default: the mean over all, and over each category."""
        return mean_scores(results)

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:  # noqa: B027
        """Write the files that the suite's own tools read, if there are such tools. Default: none."""

    def close(self) -> None:  # noqa: B027, most suites start nothing
        """Stop everything that the suite started."""


def chosen_parts(name: str, what: str, known: Collection[str], default: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the parts that a suite's name selects after a colon, as in `nexus:toolllm+emailrep`.

    Without any, these are the default's, or all known ones.

    Raises:
        InputError: for an unknown part, with the suite's word for one (`what`).
    """
    suite, _, joined = name.partition(":")
    parts = tuple(part for part in joined.split("+") if part)
    for part in parts:
        if part not in known:
            raise errors.InputError(f"{suite} has no {what} {part!r}; choose from {', '.join(known)}")
    return parts or tuple(known if default is None else default)


def failing_in_one_line(what: str) -> AbstractContextManager[None]:
    """Return a context that reports a suite's exceptions in one line, because a suite may be a user's program."""
    return errors.failing_in_one_line(what, "fix the suite")
