"""Plots of an experiment as SVG files, drawn by Matplotlib; equal lines give equal bytes."""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from rolewise.core.files import atomic_path
from rolewise.experiment_runner.series import Line, Panel

_WIDTH, _HEIGHT = 4.2, 3.2  # inches per panel
_COLUMNS = 3
_STYLES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in range(10)]


def draw_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Draw lines over steps."""
    _draw(path, panels, marker=None)


def draw_sweep(path: Path, panels: Sequence[Panel]) -> None:
    """Draw points with intervals over 1/τ, and horizontal levels."""
    _draw(path, panels, marker="o")


def _draw(path: Path, panels: Sequence[Panel], marker: str | None) -> None:
    rows = math.ceil(len(panels) / _COLUMNS)
    columns = min(len(panels), _COLUMNS)
    # By default, ids in the file are random and its date is today's.
    with matplotlib.rc_context({"svg.hashsalt": "rolewise", "svg.fonttype": "none"}):
        figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        styles = _styles(panels)
        for panel, ax in zip(panels, axes, strict=False):
            for line in panel.lines:
                _plot(ax, line, styles[line.name], marker)
            ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
            ax.grid(alpha=0.3)
        for ax in list(axes)[len(panels) :]:
            ax.set_visible(False)
        handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
        with atomic_path(path) as temporary:
            FigureCanvasSVG(figure).print_svg(str(temporary), metadata={"Date": None})


def _plot(ax: object, line: Line, style: tuple[int, str], marker: str | None) -> None:
    colour, dashes = f"C{style[0]}", style[1]
    if len(line.xs) == 1:
        ax.axhline(line.ys[0], color=colour, linestyle=dashes, label=line.name)  # type: ignore[attr-defined]
    elif line.lows is None or line.highs is None:
        ax.plot(line.xs, line.ys, color=colour, linestyle=dashes, label=line.name)  # type: ignore[attr-defined]
    else:
        ys = np.array(line.ys)
        arms = np.nan_to_num(np.abs(np.array([line.lows, line.highs]) - ys))
        ax.errorbar(  # type: ignore[attr-defined]
            line.xs, ys, yerr=arms, color=colour, linestyle=dashes, marker=marker, capsize=3, label=line.name
        )


def _styles(panels: Sequence[Panel]) -> dict[str, tuple[int, str]]:
    """Return the color and dashes of each line, equal in every panel."""
    names = dict.fromkeys(line.name for panel in panels for line in panel.lines)
    return dict(zip(names, cycle(_STYLES), strict=False))
