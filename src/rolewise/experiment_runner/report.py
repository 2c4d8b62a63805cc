"""Final files of an experiment: table, report, plots, and every number. Equal results give equal bytes."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.files import write_text
from rolewise.core.statistics import Interval
from rolewise.experiment_runner.config import UNTRAINED, Experiment
from rolewise.experiment_runner.plots import draw_curves, draw_sweep
from rolewise.experiment_runner.results import Cell, Measure, Results, Row
from rolewise.experiment_runner.runs import Plan, Run
from rolewise.experiment_runner.series import loss_panels, reward_panels, sweep_panels
from rolewise.reporting.content import REPORT_FILE, Table
from rolewise.reporting.html import write_report

TABLE_FILE, CSV_FILE, RESULTS_FILE = "table.md", "table.csv", "results.json"
LOSS_PLOT, REWARD_PLOT, SWEEP_PLOT = "loss_by_role.svg", "reward.svg", "score_over_inv_tau.svg"
NOTHING = "–"
_OVER_EXAMPLES = "†"


def write_results(experiment: Experiment, plan: Plan, results: Results) -> list[Table]:
    """Write all files to the experiment's directory; return tables for a terminal, one per measure."""
    output = Path(experiment.output)
    failed: list[Table] = []
    if results.failures:
        rows: list[list[str | float]] = [[failure.place, failure.reason] for failure in results.failures]
        failed = [Table("Failed", ["step", "reason"], rows, "Rerun the command to retry these.")]
    tables = [results_table(experiment, plan, results), *failed]
    write_text(output / TABLE_FILE, "\n".join(_markdown(table) for table in tables) + _bullets(results.notes))
    write_text(output / CSV_FILE, _csv(experiment, plan, results))
    text = json.dumps(_numbers(experiment, plan, results), indent=2, ensure_ascii=False)
    write_text(output / RESULTS_FILE, text + "\n")
    losses, rewards = loss_panels(plan, results), reward_panels(plan, results)
    sweeps = sweep_panels(experiment, plan, results)
    for path, panels, draw in (
        (output / LOSS_PLOT, losses, draw_curves),
        (output / REWARD_PLOT, rewards, draw_curves),
        (output / SWEEP_PLOT, sweeps, draw_sweep),
    ):
        if panels:
            draw(path, panels)
        else:
            path.unlink(missing_ok=True)
    write_report(
        output / REPORT_FILE,
        title=experiment.name,
        subtitle=f"{_count(plan)} trained models, compared with {_title(plan, experiment.compare_with)}",
        summary=tables,
        samples=[],
        curves=[panel.chart() for panel in (*losses, *rewards, *sweeps)],
        notes=results.notes,
    )
    return [*(_measure_table(experiment, plan, results, measure) for measure in results.measures), *failed]


def results_table(experiment: Experiment, plan: Plan, results: Results) -> Table:
    """Return a table with a line per model, method and setting, and two columns per measure: mean and difference."""
    reference = _title(plan, experiment.compare_with)
    columns = ["model", "method", "setting", "seeds"]
    for measure in results.measures:
        columns += [measure.title, f"less {reference}"]
    rows: list[list[str | float]] = []
    for row, runs in _rows(plan).items():
        line: list[str | float] = [row[0], runs[0].title, row[2] or NOTHING, _seeds(runs, results)]
        for measure in results.measures:
            cell = results.cells[row].get(measure.name)
            line += [NOTHING, NOTHING] if cell is None else [_value(cell, measure), _difference(cell, measure)]
        rows.append(line)
    return Table(experiment.name, columns, rows, _legend(results.measures))


def _measure_table(experiment: Experiment, plan: Plan, results: Results, measure: Measure) -> Table:
    """Return the table of one measure, with its mean and difference."""
    rows: list[list[str | float]] = []
    for row, runs in _rows(plan).items():
        cell = results.cells[row].get(measure.name)
        shown = [NOTHING, NOTHING] if cell is None else [_value(cell, measure), _difference(cell, measure)]
        rows.append([row[0], runs[0].title, row[2] or NOTHING, _seeds(runs, results), *shown])
    columns = ["model", "method", "setting", "seeds", "mean", f"less {_title(plan, experiment.compare_with)}"]
    return Table(measure.title, columns, rows, _legend([measure]))


def _legend(measures: list[Measure]) -> str:
    parts = [f"Means with 95 % intervals, over seeds by Student's t; {_OVER_EXAMPLES} one seed, over its examples."]
    if any(measure.is_loss for measure in measures):
        parts.append(
            "Losses: nats per token, averaged per sample, then over samples; p by the paired t test over seeds."
        )
    if any(not measure.is_loss for measure in measures):
        parts.append("Suites: differences and p on the same examples, pooled over all seeds.")
    return " ".join(parts)


def _seeds(runs: list[Run], results: Results) -> str:
    if runs[0].method == UNTRAINED:
        return NOTHING
    complete = sum(all(m.name in results.measured[run.directory] for m in results.measures) for run in runs)
    return str(len(runs)) if complete == len(runs) else f"{complete} of {len(runs)}"


def _value(cell: Cell, measure: Measure) -> str:
    return _interval(cell.mean, measure) + (_OVER_EXAMPLES if cell.over == "examples" else "")


def _difference(cell: Cell, measure: Measure) -> str:
    if cell.difference is None:
        return NOTHING
    p = "p –" if cell.difference.p is None else f"p = {cell.difference.p:.3f}"
    return f"{_interval(cell.difference.difference, measure, '+')}, {p}"


def _interval(interval: Interval, measure: Measure, sign: str = "") -> str:
    spec = f"{sign}.3f" if measure.is_loss else f"{sign}.1%"
    if math.isnan(interval.low) or math.isnan(interval.high):
        return f"{_number(interval.estimate, spec)} [{NOTHING}]"
    return f"{_number(interval.estimate, spec)} [{_number(interval.low, spec)}, {_number(interval.high, spec)}]"


def _number(value: float, spec: str) -> str:
    text = format(value, spec)
    return text.lstrip("-") if text.strip("-0.%") == "" else text  # no −0.000


def _rows(plan: Plan) -> dict[Row, list[Run]]:
    rows: dict[Row, list[Run]] = {}
    for run in plan.runs:
        rows.setdefault(run.row, []).append(run)
    return rows


def _title(plan: Plan, method: str) -> str:
    return next(run.title for run in plan.runs if run.method == method)


def _count(plan: Plan) -> int:
    return sum(run.seed is not None for run in plan.runs)


def _markdown(table: Table) -> str:
    lines = [f"## {table.title}", ""]
    body: list[Sequence[str | float]] = [table.columns, ["---"] * len(table.columns), *table.rows]
    for cells in body:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |")
    return "\n".join([*lines, "", table.note, ""])


def _bullets(notes: list[str]) -> str:
    return "".join(f"\n- {note}" for note in notes) + "\n" if notes else ""


def _csv(experiment: Experiment, plan: Plan, results: Results) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    parts = ("", " low", " high", " over", " less", " less low", " less high", " p", " test", " pairs")
    heads = [f"{measure.name}{part}" for measure in results.measures for part in parts]
    writer.writerow(["model", "method", "setting", "seeds", *heads])
    for row, runs in _rows(plan).items():
        cells = [results.cells[row].get(measure.name) for measure in results.measures]
        numbers = [number for cell in cells for number in _cell_numbers(cell, len(parts))]
        writer.writerow([*row, _seeds(runs, results), *numbers])
    for failure in results.failures:
        writer.writerow(["failed", failure.place, failure.reason])
    return stream.getvalue()


def _cell_numbers(cell: Cell | None, width: int) -> list[Any]:
    if cell is None:
        return [""] * width
    found = cell.difference
    compared: list[Any] = [""] * 6
    if found is not None:
        compared = [*_ends(found.difference), _rounded(found.p), found.test, found.count]
    numbers = [*_ends(cell.mean), cell.over, *compared]
    return ["" if number is None else number for number in numbers]


def _ends(interval: Interval) -> list[float | None]:
    return [_rounded(value) for value in (interval.estimate, interval.low, interval.high)]


def _rounded(value: float | None) -> float | None:
    """Round to six digits; a killed and resumed run may differ only beyond those."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _numbers(experiment: Experiment, plan: Plan, results: Results) -> dict[str, Any]:
    """Return every number, as JSON values."""
    rows = []
    for row, _ in _rows(plan).items():
        cells = {}
        for name, cell in results.cells[row].items():
            found = cell.difference
            cells[name] = {
                "mean": _ends(cell.mean),
                "over": cell.over,
                "seeds": cell.seeds,
                "difference": found
                and {
                    "difference": _ends(found.difference),
                    "p": _rounded(found.p),
                    "test": found.test,
                    "pairs": found.count,
                },
            }
        rows.append({"model": row[0], "method": row[1], "setting": row[2], "measures": cells})
    runs = [
        {
            "directory": run.directory,
            "model": run.model,
            "method": run.method,
            "setting": run.setting,
            "seed": run.seed,
            "after": run.after and run.after.directory,
            "labels": run.labels and run.labels.directory,
            "options": run.training,
            "measures": {name: _ends(found.value) for name, found in results.measured[run.directory].items()},
            "suites": {
                suite: [score.to_json() for score in scores]
                for suite, scores in results.scores.get(run.directory, {}).items()
            },
        }
        for run in plan.runs
    ]
    failures = [{"step": failure.place, "why": failure.reason} for failure in results.failures]
    head = {"name": experiment.name, "compare_with": experiment.compare_with, "models": experiment.models}
    return {**head, "rows": rows, "runs": runs, "failures": failures, "notes": results.notes}
