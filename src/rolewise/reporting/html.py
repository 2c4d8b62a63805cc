"""The report page: one self-contained HTML file in which every token shows its role, losses and weight.

The page needs no network. Everything static (tables, notes, generations) is rendered here with escaping; the tokens
travel as JSON (see `page_data`) and are put on the page by its own script, as text. A content security policy lets that
script and the style sheet run by their hashes and nothing else.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rolewise.core.files import write_text
from rolewise.reporting.content import Chart, Generation, SampleView, Series, Table
from rolewise.reporting.page_data import page_data, visible

__all__ = ["Chart", "Generation", "SampleView", "Series", "Table", "write_report"]

SCRIPTS = ("data.js", "tokens.js", "cards.js", "chart.js", "controls.js", "walk.js", "edit.js", "start.js")
"""The page's script, in the order in which its parts build on each other."""

_UNSAFE_IN_SCRIPT = "<>&\u2028\u2029"


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
        names=names,
        editable=fingerprint is not None,
        style=Markup(style),
        style_hash=_csp_hash(style),
        script=Markup(script),
        script_hash=_csp_hash(script),
        data=Markup(_embed(data)),
    )
    write_text(path, visible(page))


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


def _embed(value: Any) -> str:
    """JSON that can stand inside a script element: no character in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in _UNSAFE_IN_SCRIPT:  # on megabytes much faster than str.translate
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
