"""Plot of accuracy over rollouts as an SVG file, drawn by Matplotlib; equal curves give equal bytes."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from rolewise.core.files import atomic_path
from rolewise.core.statistics import Interval
from rolewise.search.votes import CurvePoint


def draw_accuracy(path: Path, curve: Sequence[CurvePoint]) -> None:
    """Draw a line for each way of voting and one for a right answer on any path, with 95 % intervals."""
    # By default, ids in the file are random and its date is today's.
    with matplotlib.rc_context({"svg.hashsalt": "rolewise", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.subplots()
        rollouts = [point.rollouts for point in curve]
        lines = {f"by {by}": [point.accuracy[by] for point in curve] for by in curve[-1].accuracy}
        lines["on any path"] = [point.found for point in curve]
        for name, intervals in lines.items():
            _plot(axes, rollouts, intervals, name)
        axes.set(xlabel="rollouts per question", ylabel="questions answered correctly", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        with atomic_path(path) as temporary:
            FigureCanvasSVG(figure).print_svg(str(temporary), metadata={"Date": None})


def _plot(axes: matplotlib.axes.Axes, rollouts: Sequence[int], intervals: Sequence[Interval], name: str) -> None:
    [line] = axes.plot(rollouts, [interval.estimate for interval in intervals], label=name, marker="o", markersize=3)
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    axes.fill_between(rollouts, low, high, color=line.get_color(), alpha=0.1, linewidth=0)
