"""Tables, curves and the page of a fine-tuning run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.jobs.options import SFTOptions
from rolewise.reporting.html import Chart, Generation, Series, Table, write_report

REPORT_FILE = "report.html"
Log = Sequence[dict[str, Any]]
LOSS_NAMES = ("token_mean", "reasoning", "boilerplate", "plain")


def write_sft_report(
    path: Path, options: SFTOptions, log: Log, generations: Sequence[dict[str, str]], notes: Sequence[str] = ()
) -> None:
    """Write the run's page: final numbers, curves of loss and weight by role, answers before and after,
    and the `notes` about the data."""
    write_report(
        path,
        title=Path(options.output).name,
        subtitle=f"{options.model} tuned on {options.data} with weighting {options.weighting}",
        summary=[table for table in (roles_table(log), roles_table(log, "eval_")) if table is not None],
        samples=[],
        curves=curves(log),
        generations=[Generation(g["prompt"], [("before", g["before"]), ("after", g["after"])]) for g in generations],
        notes=notes,
    )


def roles_table(log: Log, prefix: str = "") -> Table | None:
    """First and last loss, share of tokens and share of weight per role; None without such log lines."""
    lines = [entry for entry in log if f"{prefix}loss_token_mean" in entry]
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    rows: list[list[str | float]] = []
    for name in LOSS_NAMES:
        key = f"{prefix}loss_{name}"
        if key not in last:
            continue
        cells = [f"{last[k]:.1%}" if (k := f"{prefix}{part}_{name}") in last else "" for part in ("share", "weight")]
        rows.append(
            [name.replace("token_mean", "all tokens"), f"{first.get(key, last[key]):.3f}", f"{last[key]:.3f}", *cells]
        )
    return Table(
        "Held-out loss by role" if prefix else "Training loss by role",
        ["role", "first (nats)", "last (nats)", "share of tokens", "share of weight"],
        rows,
    )


def curves(log: Log) -> list[Chart]:
    """Loss and weight by role over the optimizer steps."""
    charts = []
    everything, *roles = LOSS_NAMES
    in_order = [*roles, everything]  # colours go by place: a role has the same one in every chart
    for prefix, title in (("", "Training loss by role"), ("eval_", "Held-out loss by role")):
        series = [
            log_series(log, f"{prefix}loss_{name}", name.replace("token_mean", "all tokens")) for name in in_order
        ]
        present = [line for line in series if len(line.xs) > 1]
        if present:
            charts.append(Chart(title, "optimizer step", "nats per token", present))
    weights = [line for role in roles if len((line := log_series(log, f"weight_{role}", role)).xs) > 1]
    if weights:
        charts.append(Chart("Share of the weight by role", "optimizer step", "share", weights))
    return charts


def log_series(log: Log, key: str, name: str) -> Series:
    """The values of `key` over the optimizer steps."""
    points = [(float(entry["step"]), float(entry[key])) for entry in log if key in entry]
    return Series(name, [x for x, _ in points], [y for _, y in points])
