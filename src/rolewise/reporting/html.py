"""The report page: one self-contained HTML file in which every token shows its role, losses and weight.

Tables, notes and generations are static; the tokens travel as JSON (see `page_data`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

from rolewise.reporting.content import Chart, Generation, SampleView, Series, Table
from rolewise.reporting.page import write_page
from rolewise.reporting.page_data import page_data

__all__ = ["Chart", "Generation", "SampleView", "Series", "Table", "write_report"]

SCRIPTS = ("common.js", "data.js", "tokens.js", "cards.js", "chart.js", "controls.js", "walk.js", "edit.js", "start.js")
"""The page's script, in the order in which its parts build on each other."""


def write_report(
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    summary: Sequence[Table],
    samples: Sequence[SampleView],
    threshold: float | None = 0.0,
    curves: Sequence[Chart] = (),
    generations: Sequence[Generation] = (),
    notes: Sequence[str] = (),
    fingerprint: str | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write the report page to `path`, whole or not at all.

    Args:
        path: the HTML file.
        title: heading of the page.
        subtitle: one line below it.
        summary: tables at the top.
        samples: the labelled samples of the token viewer.
        threshold: the LD (tuned − base loss, nats) at which the samples were labelled: above it is reasoning
            (arXiv 2412.14780, section 3). The page shows the roles as given until its slider leaves this value. None:
            the roles came otherwise, and there is no slider.
        curves: line charts.
        generations: answers of several models side by side.
        notes: remarks shown below the tables.
        fingerprint: of the data set whose first rows `samples` are (`data.labelled.labelled_fingerprint`); with it,
            roles can be corrected by hand on the page and saved as a patch for that data set.
        names: of the two labellings that are compared; needed where samples have an `other`.

    Raises:
        ValueError: if `threshold` is not finite, or some samples have an `other` and not all, or there are no names.
        InputError: if the file system refuses, naming the file.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, not {threshold}")
    compared = {sample.other is not None for sample in samples}
    if len(compared) > 1 or len(names) != (2 if True in compared else 0):
        raise ValueError("either every sample has an other labelling and there are two names, or none has")
    data = page_data(samples, threshold, curves, fingerprint=fingerprint, names=names)
    write_page(
        path,
        "report.html.j2",
        styles=["style.css"],
        scripts=SCRIPTS,
        data=data,
        title=title,
        subtitle=subtitle,
        summary=summary,
        curves=curves,
        generations=generations,
        notes=notes,
        n_samples=len(samples),
        names=names,
        editable=fingerprint is not None,
    )
