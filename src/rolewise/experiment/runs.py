"""What an experiment comes to: its runs, and the steps that several of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.core.errors import InputError
from rolewise.experiment.config import UNTRAINED

PLACES = ("data", "general", "plugin")
"""Options of a labelling or a sampling that say where something lies; its content counts."""


@dataclass(frozen=True)
class Sampling:
    """Right answers of a model to the questions of the data.

    Attributes:
        directory: below the experiment's output, with `/`.
        model: name of the model.
        options: of `rolewise sample`.
    """

    directory: str
    model: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Labelling:
    """One labelled data set.

    Attributes:
        directory: below the experiment's output, with `/`.
        model: name of the model.
        options: of `rolewise label`, but for what says where things lie.
        sampling: whose answers are labelled; None for the data as it is.
    """

    directory: str
    model: str
    options: dict[str, Any]
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Run:
    """One training, or a model as it was, and what is measured of it.

    Attributes:
        directory: below the experiment's output, with `/`.
        model: name of the model.
        method: name of the method; `UNTRAINED` for none.
        title: of the method, for tables.
        setting: the options that tell this row from others of the method, as text.
        shared: option → value, as text, of those among them that all methods which have the step go through.
        seed: of training; None for a model as it was.
        command: `sft` or `grpo`, what trains; None for a model as it was.
        training: options of that command, but for what says where things lie.
        labelling: what `sft` trains on.
        reads_labels: whether the labels make a difference to the training, or only to what is logged of it.
        after: the run whose model this one goes on from; None for the experiment's own model.
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
        """The row of the table that the run counts for."""
        return self.model, self.method, self.setting

    @property
    def labels(self) -> Labelling | None:
        """What the run, or the one that it goes on from, was fine-tuned on."""
        return self.labelling or (self.after.labels if self.after is not None else None)


@dataclass(frozen=True)
class Plan:
    """What an experiment comes to.

    Attributes:
        runs: those of the table, in the order in which they are done.
    """

    runs: list[Run]

    @property
    def labellings(self) -> list[Labelling]:
        """Those that the runs need, each once."""
        return list({run.labels.directory: run.labels for run in self.runs if run.labels is not None}.values())

    @property
    def only_gone_on_from(self) -> list[Run]:
        """Trainings that are no row of the table, each once."""
        rows = {run.directory for run in self.runs}
        bases = {run.after.directory: run.after for run in self.runs if run.after is not None}
        return [base for directory, base in bases.items() if directory not in rows]


def reference_row(plan: Plan, run: Run, method: str) -> tuple[str, str, str] | None:
    """The row of `method` that a run's row is compared with: of the same model and shared settings; None for itself.

    Raises:
        InputError: if several rows could be meant.
    """
    if run.method in (UNTRAINED, method):
        return None
    rows = {r.row: r for r in plan.runs if r.model == run.model and r.method == method}
    if len(rows) > 1:  # a step that only one of the two methods has tells nothing
        rows = {
            row: r
            for row, r in rows.items()
            if all(run.shared[name] == value for name, value in r.shared.items() if name in run.shared)
        }
    if len(rows) != 1:
        raise InputError(f"compare_with: {method} has several settings of its own; give it one")
    return next(iter(rows))
