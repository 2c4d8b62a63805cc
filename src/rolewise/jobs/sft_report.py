"""Tables and curves of a fine-tuning run."""

from rolewise.jobs.training_report import Log, log_chart
from rolewise.reporting.html import Chart, Table

LOSS_NAMES = ("token_mean", "reasoning", "boilerplate", "plain")


def roles_table(log: Log, prefix: str = "") -> Table | None:
    """Return first and last loss, share of tokens and share of weight per role; None without such log lines."""
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
    """Chart loss and weight by role over the optimizer steps."""
    everything, *roles = LOSS_NAMES
    charts = []
    for prefix, title in (("", "Training loss by role"), ("eval_", "Held-out loss by role")):
        # In this order, since colors go by position: a role has the same color in every chart.
        names = {f"{prefix}loss_{name}": name for name in roles} | {f"{prefix}loss_{everything}": "all tokens"}
        charts.append(log_chart(log, title, "nats per token", names))
    weights = {f"weight_{role}": role for role in roles}
    charts.append(log_chart(log, "Share of the weight by role", "share", weights))
    return [chart for chart in charts if chart.series]
