"""Tables and curves of a `rolewise reinforce` run."""

from rolewise.jobs.training_report import Log, lines_chart, log_chart, points
from rolewise.reporting.html import Chart, Table

_STEPS = "steps/"
_NUMBERS = {
    "reward": "reward",
    "right": "right",
    "answered": "with an answer",
    "kl": "KL from the initial model (nats per token)",
    "completions/mean_length": "tokens per path",
}


def numbers_table(log: Log) -> Table | None:
    """Return a table of first and last reward, share of right answers, KL and length; None without such log lines."""
    rows: list[list[str | float]] = []
    for prefix, kind in (("", ""), ("eval_", "held out: ")):
        for key, name in _NUMBERS.items():
            values = points(log, prefix + key)
            if values:
                rows.append([kind + name, values[0][1], values[-1][1]])
    return Table("Paths", ["", "first", "last"], rows) if rows else None


def behaviours_table(log: Log) -> Table | None:
    """Return each behaviour's share of the steps at the first and last log line; None without functional tokens."""
    shares = behaviour_shares(log)
    rows: list[list[str | float]] = [
        [name, f"{points[0][1]:.1%}", f"{points[-1][1]:.1%}"] for name, points in shares.items() if points
    ]
    return Table("Steps by behaviour", ["behaviour", "share, first", "last"], rows) if rows else None


def behaviour_shares(log: Log) -> dict[str, list[tuple[float, float]]]:
    """Return, per behaviour, (optimizer step, its share of the steps); log lines without any step are left out."""
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
    """Chart reward, right answers, KL, clipping, entropy, length and behaviours over the optimizer steps."""
    charts = [
        log_chart(log, "Reward", "", {"reward": "reward", "right": "share right", "answered": "share with an answer"}),
        log_chart(log, "Held out", "", {"eval_reward": "reward", "eval_right": "share right"}),
        log_chart(log, "KL from the initial model", "nats per token", {"kl": "KL"}),
        log_chart(log, "Clipped tokens", "share", {"clip_ratio/region_mean": "clipped"}),
        log_chart(log, "Entropy", "nats per token", {"entropy": "entropy"}),
        log_chart(
            log, "Path length", "tokens", {"completions/mean_length": "mean", "completions/max_length": "longest"}
        ),
        lines_chart("Share of steps by behaviour", "share", behaviour_shares(log)),
    ]
    return [chart for chart in charts if chart.series]
