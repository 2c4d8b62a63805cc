"""Curves and tables from the log of a training run."""

from collections.abc import Mapping, Sequence
from typing import Any

from rolewise.reporting.content import Chart, Series

Log = Sequence[Mapping[str, Any]]
"""The lines of a training log: numbers by name, with the optimizer step as `step`."""


def points(log: Log, key: str) -> list[tuple[float, float]]:
    """Return (optimizer step, value) of the log lines that have `key`."""
    return [(float(entry["step"]), float(entry[key])) for entry in log if entry.get(key) is not None]


def log_series(log: Log, key: str, name: str) -> Series:
    """Return the values of `key` over the optimizer steps."""
    return _series(name, points(log, key))


def log_chart(log: Log, title: str, unit: str, names: Mapping[str, str]) -> Chart:
    """Return a chart of log keys, each labeled with its name in `names`; keys with a single value are left out."""
    return lines_chart(title, unit, {name: points(log, key) for key, name in names.items()})


def lines_chart(title: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """Return a chart of (optimizer step, value) lines by name; lines with a single point are left out."""
    return Chart(title, "optimizer step", unit, [_series(name, own) for name, own in lines.items() if len(own) > 1])


def _series(name: str, line: Sequence[tuple[float, float]]) -> Series:
    return Series(name, [x for x, _ in line], [y for _, y in line])
