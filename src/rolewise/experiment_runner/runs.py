"""Runs of an experiment, and the steps that several of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.core.errors import InputError
from rolewise.experiment_runner.config import UNTRAINED

PLACES = ("data", "general", "plugin")
"""Options of a labelling or a sampling that hold locations; the content there identifies the step."""


@dataclass(frozen=True)
class Sampling:
    """A model's right answers to the questions of the data.

    Attributes:
        directory: directory below the experiment's output, with `/`.
        model: name of the model.
        options: options of `rolewise sample`.
    """

    directory: str
    model: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Labelling:
    """One labelled data set.

    Attributes:
        directory: directory below the experiment's output, with `/`.
        model: name of the model.
        options: options of `rolewise label`, except locations.
        sampling: sampling whose answers are labelled; None for the original data.
    """

    directory: str
    model: str
    options: dict[str, Any]
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Run:
    """One training run, or an untrained model, to be measured.

    Attributes:
        directory: directory below the experiment's output, with `/`.
        model: name of the model.
        method: name of the method; `UNTRAINED` for none.
        title: title of the method, for tables.
        setting: options that distinguish this row from others of the method, as text.
        shared: option → value, as text, for those of them that all methods with the step sweep over.
        seed: seed of training; None for an untrained model.
        command: `sft` or `grpo`, the training command; None for an untrained model.
        training: options of that command, except locations.
        labelling: data that `sft` trains on.
        reads_labels: True if the labels affect the training, False if they affect only its log.
        after: run whose model this one continues from; None for the experiment's own model.
    """

    directory: str
    model: str
    method: str
    title: str
    setting: str
    shared: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    command: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    labelling: Labelling | None = None
    reads_labels: bool = True
    after: "Run | None" = None

    @property
    def row(self) -> tuple[str, str, str]:
        """Row of the table to which the run belongs."""
        return self.model, self.method, self.setting

    @property
    def labels(self) -> Labelling | None:
        """Data that the run, or the one that it continues from, was fine-tuned on."""
        return self.labelling or (self.after.labels if self.after is not None else None)


@dataclass(frozen=True)
class Plan:
    """Plan of an experiment.

    Attributes:
        runs: runs of the table, in the order of execution.
    """

    runs: list[Run]

    @property
    def labellings(self) -> list[Labelling]:
        """Labellings that the runs need, each once."""
        return list({run.labels.directory: run.labels for run in self.runs if run.labels is not None}.values())

    @property
    def only_continued(self) -> list[Run]:
        """Training runs that are not a row of the table, each once."""
        rows = {run.directory for run in self.runs}
        bases = {run.after.directory: run.after for run in self.runs if run.after is not None}
        return [base for directory, base in bases.items() if directory not in rows]


def reference_row(plan: Plan, run: Run, method: str) -> tuple[str, str, str] | None:
    """Return the row of `method`, with equal model and shared settings, to compare a run's row with; None for itself.

    Raises:
        InputError: if several rows qualify.
    """
    if run.method in (UNTRAINED, method):
        return None
    rows = {r.row: r for r in plan.runs if r.model == run.model and r.method == method}
    if len(rows) > 1:  # a step that only one of the two methods has does not decide
        rows = {
            row: r
            for row, r in rows.items()
            if all(run.shared[name] == value for name, value in r.shared.items() if name in run.shared)
        }
    if len(rows) != 1:
        raise InputError(f"compare_with: {method} has several settings; give it only one")
    return next(iter(rows))
