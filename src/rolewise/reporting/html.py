"""The report page: one self-contained HTML file that shows the role, losses and weight of every token.

Tables, notes and generations are static; the tokens are embedded as JSON (see `page_data`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

from rolewise.reporting.content import Chart, Generation, SampleView, Series, Table
from rolewise.reporting.page import write_page
from rolewise.reporting.page_data import page_data

__all__ = ["Chart", "Generation", "SampleView", "Series", "Table", "write_report"]

SCRIPTS = ("common.js", "data.js", "tokens.js", "cards.js", "chart.js", "controls.js", "walk.js", "edit.js", "start.js")
"""Parts of the page's script; each may depend on earlier ones."""


def write_report(
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    verdict: str | None = None,
    summary: Sequence[Table],
    samples: Sequence[SampleView],
    threshold: float | None = 0.0,
    curves: Sequence[Chart] = (),
    generations: Sequence[Generation] = (),
    notes: Sequence[str] = (),
    fingerprint: str | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write the report page to `path` atomically.

    Args:
        path: the HTML file.
        title: heading of the page.
        subtitle: one line below it.
        verdict: what to do with the labels, one line, shown first.
        summary: tables at the top.
        samples: the labelled samples of the token viewer.
        threshold: the LD (tuned − base loss, nats) at which the samples were labelled: tokens above it are reasoning
            (arXiv 2412.14780, section 3). The page shows the roles as given until its slider leaves this value. None:
            the roles have another origin, and there is no slider.
        curves: line charts.
        generations: answers of several models side by side.
        notes: remarks shown below the tables.
        fingerprint: fingerprint of the data set whose first rows are `samples` (`data.labelled.labelled_fingerprint`);
            with it, roles can be corrected manually on the page and saved as a patch for that data set.
        names: names of the two labellings compared; required if samples have an `other`.

    Raises:
        ValueError: if `threshold` is not finite, or some samples have an `other` and not all, or there are no names.
        InputError: if the file system reports an error, naming the file.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, not {threshold}")
    compared = {sample.other is not None for sample in samples}
    if len(compared) > 1 or len(names) != (2 if True in compared else 0):
        raise ValueError("give either two names and another labelling for every sample, or neither")
    data = page_data(samples, threshold, curves, fingerprint=fingerprint, names=names)
    write_page(
        path,
        "report.html.j2",
        styles=["style.css"],
        scripts=SCRIPTS,
        data=data,
        title=title,
        subtitle=subtitle,
        verdict=verdict,
        summary=summary,
        curves=curves,
        generations=generations,
        notes=notes,
        n_samples=len(samples),
        names=names,
        evidence=data["evidence"],
        editable=fingerprint is not None,
    )
