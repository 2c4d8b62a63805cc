"""Tables, curves and the page of a reinforcement-learning run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.region import Region
from rolewise.core.role import Role
from rolewise.jobs.grpo_options import GRPOOptions
from rolewise.reporting.html import Chart, Generation, Series, Table, write_report

REPORT_FILE = "report.html"
Log = Sequence[dict[str, Any]]
REGIONS = [*(region.label for region in Region), *(role.label for role in Role)]
"""What tokens are told apart by; a run has one kind or the other."""
_PARTS = ("rewards/", "/mean")


def write_grpo_report(path: Path, options: GRPOOptions, log: Log, generations: Sequence[dict[str, str]]) -> None:
    """Write the run's page: rewards, curves of reward, entropy and weight by region, answers before and after."""
    write_report(
        path,
        title=Path(options.output).name,
        subtitle=f"{options.model} trained on {options.data} with weighting {options.weighting}",
        summary=[table for table in (rewards_table(log), regions_table(log)) if table is not None],
        samples=[],
        curves=curves(log),
        generations=[Generation(g["prompt"], [("before", g["before"]), ("after", g["after"])]) for g in generations],
    )


def rewards_table(log: Log) -> Table | None:
    """First and last reward, whole and by its parts; None without such log lines."""
    rows: list[list[str | float]] = []
    for prefix, kind in (("", ""), ("eval_", "held out: ")):
        for key, name in {f"{prefix}reward": "reward", **_parts(log, prefix)}.items():
            values = _values(log, key)
            if values:
                rows.append([kind + name, f"{values[0][1]:.3f}", f"{values[-1][1]:.3f}"])
    return Table("Reward", ["part", "first", "last"], rows) if rows else None


def regions_table(log: Log) -> Table | None:
    """Share, weight and entropy of each region at the first and the last log line that has it; None without any."""
    rows: list[list[str | float]] = []
    for region in REGIONS:
        shares = _values(log, f"share/{region}")
        if not shares:
            continue
        cells = [f"{shares[0][1]:.1%}", f"{shares[-1][1]:.1%}"]
        for what in ("weight", "entropy"):
            values = _values(log, f"{what}/{region}")
            cells += [f"{values[0][1]:.3f}", f"{values[-1][1]:.3f}"]
        rows.append([region, *cells])
    columns = ["region", "share, first", "last", "weight, first", "last", "entropy (nats), first", "last"]
    return Table("Tokens by region", columns, rows) if rows else None


def curves(log: Log) -> list[Chart]:
    """Reward, entropy and weight by region, clipping, and the gradient's variance, over the optimizer steps."""
    parts = _parts(log, "")
    charts = [_chart(log, "Reward", "reward", {"reward": "reward", **parts})]
    charts.append(_chart(log, "Held-out reward", "reward", {"eval_reward": "reward", **_parts(log, "eval_")}))
    by_region = {
        "entropy": ("Entropy by region", "nats per token"),
        "weight": ("Mean weight by region", "weight"),
        "share": ("Share of tokens by region", "share"),
        "clip_ratio": ("Clipped tokens by region", "share"),
    }
    for what, (title, unit) in by_region.items():
        charts.append(_chart(log, title, unit, {f"{what}/{region}": region for region in REGIONS}))
    variance = {"policy_gradient/variance": "variance", "policy_gradient/square_norm": "squared norm of the mean"}
    charts.append(_chart(log, "Policy gradient of the last attention layer", "", variance))
    return [chart for chart in charts if chart.series]


def _chart(log: Log, title: str, unit: str, names: dict[str, str]) -> Chart:
    lines = []
    for key, name in names.items():
        points = _values(log, key)
        if len(points) > 1:
            lines.append(Series(name, [x for x, _ in points], [y for _, y in points]))
    return Chart(title, "optimizer step", unit, lines)


def _values(log: Log, key: str) -> list[tuple[float, float]]:
    return [(float(entry["step"]), float(entry[key])) for entry in log if entry.get(key) is not None]


def _parts(log: Log, prefix: str) -> dict[str, str]:
    """Keys of the means of the reward's parts, with the names of these."""
    head, tail = prefix + _PARTS[0], _PARTS[1]
    keys = dict.fromkeys(key for entry in log for key in entry if key.startswith(head) and key.endswith(tail))
    return {key: key.removeprefix(head).removesuffix(tail) for key in keys}
