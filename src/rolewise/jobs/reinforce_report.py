"""Tables, curves and the page of a run of `rolewise reinforce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.reporting.html import Chart, Generation, Series, Table, write_report

REPORT_FILE = "report.html"
Log = Sequence[dict[str, Any]]
_STEPS = "steps/"
_NUMBERS = {
    "reward": "reward",
    "right": "right",
    "answered": "with an answer",
    "kl": "KL to the first model (nats per token)",
    "completions/mean_length": "tokens of a path",
}


def write_reinforce_report(
    path: Path, options: ReinforceOptions, log: Log, generations: Sequence[dict[str, str]], notes: Sequence[str]
) -> None:
    """Write the run's page: rewards, behaviours, curves, answers before and after."""
    write_report(
        path,
        title=Path(options.output).name,
        subtitle=f"{options.model} trained on {options.data} with rollouts from {options.rollouts_from}",
        summary=[table for table in (numbers_table(log), behaviours_table(log)) if table is not None],
        samples=[],
        curves=curves(log),
        generations=[Generation(g["prompt"], [("before", g["before"]), ("after", g["after"])]) for g in generations],
        notes=notes,
    )


def numbers_table(log: Log) -> Table | None:
    """First and last reward, share of right answers, KL and length; None without such log lines."""
    rows: list[list[str | float]] = []
    for prefix, kind in (("", ""), ("eval_", "held out: ")):
        for key, name in _NUMBERS.items():
            points = _points(log, prefix + key)
            if points:
                rows.append([kind + name, points[0][1], points[-1][1]])
    return Table("Paths", ["", "first", "last"], rows) if rows else None


def behaviours_table(log: Log) -> Table | None:
    """Share of each behaviour among the steps at the first and the last log line; None without functional tokens."""
    shares = behaviour_shares(log)
    rows: list[list[str | float]] = [
        [name, f"{points[0][1]:.1%}", f"{points[-1][1]:.1%}"] for name, points in shares.items() if points
    ]
    return Table("Steps by behaviour", ["behaviour", "share, first", "last"], rows) if rows else None


def behaviour_shares(log: Log) -> dict[str, list[tuple[float, float]]]:
    """For each behaviour (optimizer step, its share of the steps); log lines without any step are left out."""
    names = dict.fromkeys(key.removeprefix(_STEPS) for entry in log for key in entry if key.startswith(_STEPS))
    shares: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for entry in log:
        counts = {name: float(entry.get(_STEPS + name) or 0.0) for name in names}
        total = sum(counts.values())
        for name, count in counts.items():
            if total:
                shares[name].append((float(entry["step"]), count / total))
    return shares


def curves(log: Log) -> list[Chart]:
    """Reward, right answers, KL, clipping, entropy, length and behaviours over the optimizer steps."""
    charts = [
        _chart(log, "Reward", "", {"reward": "reward", "right": "share right", "answered": "share with an answer"}),
        _chart(log, "Held out", "", {"eval_reward": "reward", "eval_right": "share right"}),
        _chart(log, "KL to the first model", "nats per token", {"kl": "KL"}),
        _chart(log, "Clipped tokens", "share", {"clip_ratio/region_mean": "clipped"}),
        _chart(log, "Entropy", "nats per token", {"entropy": "entropy"}),
        _chart(
            log, "Length of a path", "tokens", {"completions/mean_length": "mean", "completions/max_length": "longest"}
        ),
        _lines("Share of steps by behaviour", "share", behaviour_shares(log)),
    ]
    return [chart for chart in charts if chart.series]


def _chart(log: Log, title: str, unit: str, names: dict[str, str]) -> Chart:
    return _lines(title, unit, {name: _points(log, key) for key, name in names.items()})


def _lines(title: str, unit: str, points: dict[str, list[tuple[float, float]]]) -> Chart:
    lines = [Series(name, [x for x, _ in own], [y for _, y in own]) for name, own in points.items() if len(own) > 1]
    return Chart(title, "optimizer step", unit, lines)


def _points(log: Log, key: str) -> list[tuple[float, float]]:
    return [(float(entry["step"]), float(entry[key])) for entry in log if entry.get(key) is not None]
