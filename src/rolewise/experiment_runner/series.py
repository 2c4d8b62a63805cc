"""Lines of an experiment's plots: losses by role and rewards over training, scores over 1/τ."""

import math
from dataclasses import dataclass

from rolewise.experiment_runner.config import UNTRAINED, Experiment
from rolewise.experiment_runner.results import Results, Row
from rolewise.experiment_runner.runs import Plan, Run
from rolewise.reporting.content import Chart, Series
from rolewise.weighting.registry import WEIGHTINGS

_DEFAULT_INV_TAU = WEIGHTINGS.parameters("rft")["inv_tau"].default
LOGGED = {"loss_token_mean": "all tokens", "loss_reasoning": "reasoning", "loss_boilerplate": "boilerplate"}
REWARDS = {
    "reward": ("reward", "reward"),
    "eval_reward": ("held-out reward", "reward"),
    "entropy": ("entropy of the policy", "nats per token"),
    "policy_gradient/variance": ("variance of the policy gradient", "squared norm"),
}
"""Log key of `rolewise grpo` → title and unit."""


@dataclass(frozen=True)
class Line:
    """Values over xs, with lows and highs if there is an interval."""

    name: str
    xs: list[float]
    ys: list[float]
    lows: list[float] | None = None
    highs: list[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes. A line with a single point is a horizontal level."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]

    def chart(self) -> Chart:
        """Return the panel for the report page, which draws no intervals; levels become horizontal lines."""
        xs = [x for line in self.lines if len(line.xs) > 1 for x in line.xs] or [0.0, 1.0]
        series = [
            Series(line.name, line.xs, line.ys)
            if len(line.xs) > 1
            else Series(line.name, [min(xs), max(xs)], line.ys * 2)
            for line in self.lines
        ]
        return Chart(self.title, self.x_label, self.y_label, series)


def loss_panels(plan: Plan, results: Results) -> list[Panel]:
    """Return loss by role over the optimizer steps: a panel per model and role, a line per row (mean over its seeds).

    Held-out losses are used if every run logged some (`eval_data` among the training options), else training losses.
    Their roles come from the labels that a run trained on, so only runs on the same labels share a panel.
    """
    trained = [run for run in plan.runs if run.labelling is not None and results.logs.get(run.directory)]
    held_out = bool(trained) and all(
        any("eval_loss_token_mean" in entry for entry in results.logs[run.directory]) for run in trained
    )
    prefix, kind = ("eval_", "held-out loss") if held_out else ("", "training loss")
    panels = []
    for model in dict.fromkeys(run.model for run in trained):
        for key, role in LOGGED.items():
            together = held_out or key == "loss_token_mean"
            for labels, rows in _rows_by_labels(trained, model, together).items():
                lines = [_mean_over_seeds(results, runs, prefix + key) for runs in rows.values()]
                lines = [line for line in lines if len(line.xs) > 1]
                if lines:
                    title = f"{model}: {kind}, {role}" + (f"\nby {labels}" if labels else "")
                    panels.append(Panel(title, "optimizer step", "nats per token", lines))
    return panels


def reward_panels(plan: Plan, results: Results) -> list[Panel]:
    """Return reward, entropy and the gradient's variance over the optimizer steps of reinforcement learning.

    There is a panel per model and number that runs logged, with a line per row: the mean over its seeds.
    """
    rows: dict[Row, list[Run]] = {}
    for run in plan.runs:
        if run.command == "grpo" and results.logs.get(run.directory):
            rows.setdefault(run.row, []).append(run)
    panels = []
    for model in dict.fromkeys(row[0] for row in rows):
        for key, (title, unit) in REWARDS.items():
            lines = [_mean_over_seeds(results, runs, key) for row, runs in rows.items() if row[0] == model]
            lines = [line for line in lines if len(line.xs) > 1]
            if lines:
                panels.append(Panel(f"{model}: {title}", "optimizer step", unit, lines))
    return panels


def _rows_by_labels(runs: list[Run], model: str, together: bool) -> dict[str, dict[Row, list[Run]]]:
    """Return name of the labelled data set ("" if all are combined) → row → the model's runs."""
    groups: dict[str, dict[Row, list[Run]]] = {}
    for run in runs:
        if run.model == model and run.labelling is not None:
            labels = "" if together else run.labelling.directory.rpartition("/")[2]
            groups.setdefault(labels, {}).setdefault(run.row, []).append(run)
    return groups


def sweep_panels(experiment: Experiment, plan: Plan, results: Results) -> list[Panel]:
    """Return each measure over RFT's 1/τ, a panel per model, if a method was run at two or more values.

    There is a line per method and remaining setting, with its intervals; the rows compared with and the untrained
    model are levels.
    """
    panels = []
    for model in experiment.models:
        lines = _sweeps(plan, model)
        if not any(len(points) > 1 for points in lines.values()):
            continue
        levels = {
            run.row: run.title
            for run in plan.runs
            if run.model == model and run.method in (UNTRAINED, experiment.compare_with)
        }
        for measure in results.measures:
            drawn = [_sweep_line(results, name, points, measure.name) for name, points in lines.items()]
            drawn = [line for line in drawn if len(line.xs) > 1]
            for row, title in levels.items():
                cell = results.cells[row].get(measure.name)
                if cell is not None and drawn:
                    name = f"{title}, {row[2]}" if row[2] else title
                    drawn.append(Line(name, [0.0], [cell.mean.estimate]))
            if drawn:
                y_label = "nats per token" if measure.is_loss else "score"
                panels.append(Panel(f"{model}: {measure.title}", "1/τ", y_label, drawn))
    return panels


def _sweeps(plan: Plan, model: str) -> dict[str, dict[float, Row]]:
    """Return line's name → 1/τ → row, for the methods that have a 1/τ."""
    lines: dict[str, dict[float, Row]] = {}
    for run in plan.runs:
        if run.model != model or run.training.get("weighting") != "rft":
            continue
        others = ", ".join(part for part in run.setting.split(", ") if part and not part.startswith("inv_tau="))
        name = f"{run.title}, {others}" if others else run.title
        inv_tau = float(run.training.get("inv_tau", _DEFAULT_INV_TAU))
        lines.setdefault(name, {}).setdefault(inv_tau, run.row)
    return lines


def _sweep_line(results: Results, name: str, points: dict[float, Row], measure: str) -> Line:
    cells = {x: results.cells[row][measure].mean for x, row in sorted(points.items()) if measure in results.cells[row]}
    means = list(cells.values())
    return Line(name, list(cells), [m.estimate for m in means], [m.low for m in means], [m.high for m in means])


def _mean_over_seeds(results: Results, runs: list[Run], key: str) -> Line:
    by_step: dict[float, list[float]] = {}
    for run in runs:
        for entry in results.logs[run.directory]:
            if key in entry and math.isfinite(entry[key]):
                by_step.setdefault(float(entry["step"]), []).append(float(entry[key]))
    complete = {step: values for step, values in sorted(by_step.items()) if len(values) == len(runs)}
    name = f"{runs[0].title}, {runs[0].setting}" if runs[0].setting else runs[0].title
    return Line(name, list(complete), [sum(values) / len(values) for values in complete.values()])
