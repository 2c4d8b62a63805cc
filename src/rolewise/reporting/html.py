"""The report page: one self-contained HTML file in which every token shows its role, losses and weight.

The page needs no network. Everything static (tables, notes, generations) is rendered here with escaping; the tokens
travel as JSON and are put on the page by its own script, as text. A content security policy lets that script and the
style sheet run by their hashes and nothing else.

Left out on purpose: compression of the data (a page of 1,000 samples of 1,000 tokens stays below 30 MB without it).
"""

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rolewise.core.files import write_text
from rolewise.core.role import Role

LOSS_SCALE = 1000
"""Losses travel as whole thousandths of a nat."""

SCRIPTS = ("data.js", "tokens.js", "chart.js", "controls.js")
"""The page's script, in the order in which its parts build on each other."""

_UNSAFE_IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """A summary table. Below 1,000 floats are shown with four significant digits, above with one decimal."""

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
    """What several models answered to one prompt; `outputs` are (name, text) pairs, shown side by side."""

    prompt: str
    outputs: list[tuple[str, str]]


@dataclass(frozen=True)
class SampleView:
    """One labelled sample; every list has one entry per token.

    Attributes:
        source: where the sample came from, `file:record`.
        tokens: the exact pieces of text whose concatenation is the sample's text.
        roles: `Role` values.
        base_loss: nats under the base model; None or a value that is not finite where there is none.
        tuned_loss: nats under the model tuned on shuffled pairs, likewise.
        weights: each token's weight in the training loss.
        true_roles: `Role` values where the truth is known; `CONTEXT` or `PLAIN` where it is not.
    """

    source: str
    tokens: list[str]
    roles: list[int]
    base_loss: list[float | None]
    tuned_loss: list[float | None]
    weights: list[float | None] | None = None
    true_roles: list[int] | None = None

    def __post_init__(self) -> None:
        for name in ("roles", "base_loss", "tuned_loss", "weights", "true_roles"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tokens):
                raise ValueError(f"{self.source}: {len(self.tokens)} tokens but {len(values)} {name}")
        for name in ("roles", "true_roles"):
            unknown = set(getattr(self, name) or ()) - {int(role) for role in Role}
            if unknown:
                raise ValueError(f"{self.source}: {name} holds {sorted(unknown)}, which are no roles")


def write_report(
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    summary: Sequence[Table],
    samples: Sequence[SampleView],
    threshold: float = 0.0,
    curves: Sequence[Chart] = (),
    generations: Sequence[Generation] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the report page to `path`, whole or not at all.

    Args:
        path: the HTML file.
        title: heading of the page.
        subtitle: one line below it.
        summary: tables at the top.
        samples: the labelled samples of the token viewer.
        threshold: the LD (tuned − base loss, nats) at which the samples were labelled: above it is reasoning
            (arXiv 2412.14780, section 3). The page shows the roles as given until its slider leaves this value.
        curves: line charts.
        generations: answers of several models side by side.
        notes: remarks shown below the tables.

    Raises:
        ValueError: if `threshold` is not finite.
        InputError: if the file system refuses, naming the file.
    """
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, not {threshold}")
    environment = _environment()
    style = _source(environment, "style.css")
    script = "".join(_source(environment, name) for name in SCRIPTS)
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        summary=summary,
        curves=curves,
        generations=generations,
        notes=notes,
        n_samples=len(samples),
        style=Markup(style),
        style_hash=_csp_hash(style),
        script=Markup(script),
        script_hash=_csp_hash(script),
        data=Markup(_embed(_page_data(samples, threshold, curves))),
    )
    write_text(path, _visible(page))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rolewise.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.tests["numeric"] = lambda value: not isinstance(value, str)
    return environment


def _source(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _visible(text: str) -> str:
    """`text` with what UTF-8 or HTML can't carry replaced by a sign that can be seen."""
    return _LONE_SURROGATE.sub("\ufffd", text).replace("\0", "\u2400")


def _embed(value: Any) -> str:
    """JSON that can stand inside a script element: no character in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_UNSAFE_IN_SCRIPT)


def _page_data(samples: Sequence[SampleView], threshold: float, curves: Sequence[Chart]) -> dict[str, Any]:
    """What the page's script reads: tokens as indices into a vocabulary sorted by frequency, roles as digits."""
    frequency = Counter(token for sample in samples for token in sample.tokens)
    vocabulary = [token for token, _ in frequency.most_common()]
    index = {token: number for number, token in enumerate(vocabulary)}
    return {
        "threshold": threshold,
        "roles": [role.label for role in Role],
        "vocabulary": [_visible(token) for token in vocabulary],
        "samples": [_sample_data(sample, index) for sample in samples],
        "curves": [_chart_data(chart) for chart in curves],
    }


def _sample_data(sample: SampleView, index: dict[str, int]) -> dict[str, Any]:
    pairs = [_thousandths(b, t) for b, t in zip(sample.base_loss, sample.tuned_loss, strict=True)]
    data: dict[str, Any] = {
        "source": _visible(sample.source),
        "tokens": [index[token] for token in sample.tokens],
        "roles": _digits(sample.roles),
        "base": [base for base, _ in pairs],
        "tuned": [tuned for _, tuned in pairs],
    }
    if sample.weights is not None:
        data["weights"] = [_significant(weight) for weight in sample.weights]
    if sample.true_roles is not None:
        data["truth"] = _digits(sample.true_roles)
    return data


def _thousandths(base: float | None, tuned: float | None) -> tuple[int | None, int | None]:
    """Both losses in thousandths of a nat.

    Where both exist the difference is rounded *up*, so that `LD > threshold` has the same answer on the page as in
    full precision for every threshold that is a multiple of a thousandth; the tuned loss shown is off by less than
    0.0015. Differences below 1e-12 are noise of the subtraction.
    """
    base_q = round(base * LOSS_SCALE) if base is not None and math.isfinite(base) else None
    tuned_q = round(tuned * LOSS_SCALE) if tuned is not None and math.isfinite(tuned) else None
    if base is not None and tuned is not None and base_q is not None and tuned_q is not None:
        difference = (float(tuned) - float(base)) * LOSS_SCALE
        tuned_q = base_q + math.ceil(round(difference, 9))
    return base_q, tuned_q


def _significant(value: float | None) -> float | int | None:
    """Three significant digits: weights such as 1/n are too small for a fixed number of decimals."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.3g}")
    return int(short) if short.is_integer() else short


def _digits(roles: Sequence[int]) -> str:
    return "".join(str(int(role)) for role in roles)


def _chart_data(chart: Chart) -> dict[str, Any]:
    return {
        "title": _visible(chart.title),
        "x_label": _visible(chart.x_label),
        "y_label": _visible(chart.y_label),
        "series": [
            {
                "name": _visible(series.name),
                "points": [
                    [float(x), float(y) if math.isfinite(y) else None]
                    for x, y in zip(series.xs, series.ys, strict=True)
                ],
            }
            for series in chart.series
        ],
    }
