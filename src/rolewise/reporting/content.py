"""Contents of a report page: tables, charts, generations and labelled samples."""

import math
from dataclasses import dataclass

from rolewise.core.role import Role

REPORT_FILE = "report.html"
"""File of a result's page."""


@dataclass(frozen=True)
class Table:
    """A summary table. Floats below 1,000 are shown with four significant digits, others with one decimal."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]
    note: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: row {number} has {len(row)} cells for {len(self.columns)} columns"
                )


@dataclass(frozen=True)
class Series:
    """One line of a chart; `xs` ascending. A `y` that is not finite leaves a gap."""

    name: str
    xs: list[float]
    ys: list[float]

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"series {self.name!r}: {len(self.xs)} xs but {len(self.ys)} ys")
        if not all(math.isfinite(x) for x in self.xs):
            raise ValueError(f"series {self.name!r}: every x must be a finite number")


@dataclass(frozen=True)
class Chart:
    """A line chart, such as the loss of each role over the steps of a run."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]


@dataclass(frozen=True)
class Generation:
    """Answers of several models to one prompt; `outputs` are (name, text) pairs, shown side by side."""

    prompt: str
    outputs: list[tuple[str, str]]


@dataclass(frozen=True)
class SampleView:
    """One labelled sample; every list has one entry per token.

    Attributes:
        source: origin of the sample, `file:record`.
        tokens: the exact pieces of text whose concatenation is the sample's text.
        roles: `Role` values.
        base_loss: nats under the base model; None or a value that is not finite if there is none.
        tuned_loss: nats under the model tuned on shuffled pairs, or without the input, likewise.
        score: what the threshold decides on (nats), of a method for which that is not LD.
        weights: each token's weight in the training loss.
        true_roles: `Role` values if the true roles are known; `CONTEXT` or `PLAIN` if not.
        other: the same tokens in another labelling; its source and true roles are not shown.
    """

    source: str
    tokens: list[str]
    roles: list[int]
    base_loss: list[float | None]
    tuned_loss: list[float | None]
    weights: list[float | None] | None = None
    true_roles: list[int] | None = None
    other: "SampleView | None" = None
    score: list[float | None] | None = None

    def __post_init__(self) -> None:
        for name in ("roles", "base_loss", "tuned_loss", "score", "weights", "true_roles"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tokens):
                raise ValueError(f"{self.source}: {len(self.tokens)} tokens but {len(values)} {name}")
        for name in ("roles", "true_roles"):
            unknown = set(getattr(self, name) or ()) - {int(role) for role in Role}
            if unknown:
                raise ValueError(f"{self.source}: {name} holds {sorted(unknown)}, which are not roles")
        if self.other is not None and self.other.tokens != self.tokens:
            raise ValueError(f"{self.source}: the other labelling has different tokens")
