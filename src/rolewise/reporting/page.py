"""Common parts of every page: one self-contained HTML file under a content security policy.

The page needs no network. Static content is rendered from a template with escaping; the rest is embedded as JSON, and
the page's own script inserts it as text. The policy admits that script and the style sheet by their hashes and nothing
else.
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
from rolewise.reporting.page_data import visible

_UNSAFE_IN_SCRIPT = "<>&\u2028\u2029"


def write_page(
    path: str | Path, template: str, *, styles: Sequence[str], scripts: Sequence[str], data: Any, **content: Any
) -> None:
    """Write a page atomically.

    Args:
        path: the HTML file.
        template: its template.
        styles, scripts: template files; each may depend on earlier ones.
        data: input of the script, as JSON values.
        content: variables of the template.

    Raises:
        InputError: if the file system reports an error, naming the file.
    """
    environment = _environment()
    style = "".join(_source(environment, name) for name in styles)
    script = "".join(_source(environment, name) for name in scripts)
    page = environment.get_template(template).render(
        **content,
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
    """Return JSON that is safe inside a script element: no character in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in _UNSAFE_IN_SCRIPT:  # much faster than str.translate on megabytes
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
