"""Tables and curves of a `rolewise grpo` run."""

from rolewise.core.region import Region
from rolewise.core.role import Role
from rolewise.jobs.training_report import Log, log_chart, points
from rolewise.reporting.html import Chart, Table

REGIONS = [*(region.label for region in Region), *(role.label for role in Role)]
"""Groups of tokens: regions or roles; a run has one kind or the other."""
_PARTS = ("rewards/", "/mean")


def rewards_table(log: Log) -> Table | None:
    """Return a table of the first and last reward, in total and by part; None without such log lines."""
    rows: list[list[str | float]] = []
    for prefix, kind in (("", ""), ("eval_", "held out: ")):
        for key, name in {f"{prefix}reward": "reward", **_parts(log, prefix)}.items():
            values = points(log, key)
            if values:
                rows.append([kind + name, f"{values[0][1]:.3f}", f"{values[-1][1]:.3f}"])
    return Table("Reward", ["part", "first", "last"], rows) if rows else None


def regions_table(log: Log) -> Table | None:
    """Return share, weight and entropy of each region at its first and last log line; None without any."""
    rows: list[list[str | float]] = []
    for region in REGIONS:
        shares = points(log, f"share/{region}")
        if not shares:
            continue
        cells = [f"{shares[0][1]:.1%}", f"{shares[-1][1]:.1%}"]
        for what in ("weight", "entropy"):
            values = points(log, f"{what}/{region}")
            cells += [f"{values[0][1]:.3f}", f"{values[-1][1]:.3f}"]
        rows.append([region, *cells])
    columns = ["region", "share, first", "last", "weight, first", "last", "entropy (nats), first", "last"]
    return Table("Tokens by region", columns, rows) if rows else None


def curves(log: Log) -> list[Chart]:
    """Chart reward, entropy and weight by region, clipping, and the gradient's variance over the optimizer steps."""
    parts = _parts(log, "")
    charts = [log_chart(log, "Reward", "reward", {"reward": "reward", **parts})]
    charts.append(log_chart(log, "Held-out reward", "reward", {"eval_reward": "reward", **_parts(log, "eval_")}))
    by_region = {
        "entropy": ("Entropy by region", "nats per token"),
        "weight": ("Mean weight by region", "weight"),
        "share": ("Share of tokens by region", "share"),
        "clip_ratio": ("Clipped tokens by region", "share"),
    }
    for what, (title, unit) in by_region.items():
        charts.append(log_chart(log, title, unit, {f"{what}/{region}": region for region in REGIONS}))
    variance = {"policy_gradient/variance": "variance", "policy_gradient/square_norm": "squared norm of the mean"}
    charts.append(log_chart(log, "Policy gradient of the last attention layer", "", variance))
    return [chart for chart in charts if chart.series]


def _parts(log: Log, prefix: str) -> dict[str, str]:
    """Return the log keys of the reward parts' means → the parts' names."""
    head, tail = prefix + _PARTS[0], _PARTS[1]
    keys = dict.fromkeys(key for entry in log for key in entry if key.startswith(head) and key.endswith(tail))
    return {key: key.removeprefix(head).removesuffix(tail) for key in keys}
