"""Measurements of an experiment's runs, and the summary of each row: mean, interval, comparison.

Shapes: S seeds or samples.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from rolewise.core.errors import InputError
from rolewise.core.files import read_json_lines
from rolewise.core.statistics import Interval, paired_interval
from rolewise.evaluation.accuracy import Score, compare_runs
from rolewise.evaluation.role_losses import GROUPS
from rolewise.experiment_runner.config import Experiment
from rolewise.experiment_runner.measuring import ALL_TOKENS, LOSSES_FILE
from rolewise.experiment_runner.runs import Plan, Run, reference_row
from rolewise.experiment_runner.steps import losses_place, suite_place, train_place
from rolewise.jobs.answering_run import SUMMARY_FILE
from rolewise.jobs.evaluate import read_eval
from rolewise.jobs.training_run import LOG_FILE

ROLES = (ALL_TOKENS, *(group.label for group in GROUPS))
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Failure:
    """A failed step: its directory below the experiment's, and the reason in one line."""

    place: str
    reason: str


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        name: unique, e.g. `loss: reasoning` or `gsm8k`.
        title: heading of the column.
        is_loss: True for a loss in nats, lower is better; False for a share, higher is better.
    """

    name: str
    title: str
    is_loss: bool


@dataclass(frozen=True)
class Measurement:
    """One measure of one run.

    Attributes:
        value: the estimate, with the interval over its examples.
        examples: example → its value; examples without a value are left out.
    """

    value: Interval
    examples: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """A row minus the row that it is compared with.

    Attributes:
        difference: the difference with its 95 % interval.
        p: two-sided p-value; None if the data is insufficient.
        test: test that gave `p`.
        count: number of pairs.
    """

    difference: Interval
    p: float | None
    test: str
    count: int


@dataclass(frozen=True)
class Cell:
    """One measure of a row.

    Attributes:
        mean: mean over the seeds; its interval is over the seeds or, for a single seed, over the examples.
        over: `seeds` or `examples`.
        seeds: number of measured seeds.
        difference: None for the row that others are compared with, and if nothing can be paired.
    """

    mean: Interval
    over: str
    seeds: int
    difference: Difference | None


@dataclass(frozen=True)
class Results:
    """All measurements.

    Attributes:
        measures: the columns.
        cells: row → measure's name → cell; a measure that no seed has is absent.
        measured: run's directory → measure's name → measurement.
        scores: run's directory → suite → all lines of its summary.
        logs: run's directory → log lines of its training.
        notes: notes for the reader on the suites.
        failures: failed steps.
    """

    measures: list[Measure]
    cells: dict[Row, dict[str, Cell]] = field(default_factory=dict)
    measured: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    scores: dict[str, dict[str, list[Score]]] = field(default_factory=dict)
    logs: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def collect(experiment: Experiment, plan: Plan, failures: list[Failure]) -> Results:
    """Read the results of the finished steps, and compare the rows.

    Raises:
        InputError: for a file that has been damaged.
    """
    output = Path(experiment.output)
    titles = dict.fromkeys(experiment.suites, "")
    results = Results([], failures=failures)
    notes: dict[str, None] = {}
    for run in plan.runs:
        measured = results.measured.setdefault(run.directory, {})
        for name in experiment.role_losses:
            losses = output / losses_place(run, name) / LOSSES_FILE
            if losses.exists():
                measured |= read_losses(losses, name)
        for name in experiment.suites:
            evaluated = output / suite_place(run, name)
            if not (evaluated / SUMMARY_FILE).exists():
                continue
            result = read_eval(evaluated)
            scores = result.scores[name]
            results.scores.setdefault(run.directory, {})[name] = scores
            overall = Interval(scores[0].value, scores[0].low, scores[0].high)
            measured[name] = Measurement(overall, result.examples[name])
            titles[name] = result.titles[name]
            notes |= dict.fromkeys(result.notes)
            if name in result.untested:
                notes[f"{result.titles[name]}: untested on real data."] = None
            if scores[0].note:
                notes[f"{result.titles[name]}: {scores[0].note}."] = None
        log = output / train_place(run) / LOG_FILE
        if log.exists():
            with _undamaged(log):
                results.logs[run.directory] = read_json_lines(log)
    for name in experiment.role_losses:
        titles_of = {role: f"{name}: loss, {role}" if name else f"loss, {role}" for role in ROLES}
        results.measures.extend(Measure(_loss_name(role, name), title, True) for role, title in titles_of.items())
    results.measures.extend(Measure(name, titles[name] or name, False) for name in experiment.suites)
    results.notes.extend(notes)
    _compare(experiment, plan, results)
    return results


def _loss_name(role: str, data: str) -> str:
    return f"loss on {data}: {role}" if data else f"loss: {role}"


def read_losses(path: Path, data: str = "") -> dict[str, Measurement]:
    """Return the mean over samples of the losses in a file of `measuring.measure_role_losses`, by measure's name.

    Args:
        path: the file.
        data: name of the data set that was measured.

    Raises:
        InputError: for a file with other content.
    """
    found = {}
    with _undamaged(path):
        by_sample = json.loads(path.read_text(encoding="utf-8"))
        for role in ROLES:
            examples = {str(i): float(loss) for i, loss in enumerate(by_sample[role]) if loss is not None}
            if examples:
                found[_loss_name(role, data)] = Measurement(paired_interval(list(examples.values())), examples)
    return found


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Report an unreadable file: files are written atomically, so it was damaged later and its step must be redone."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; remove {path.parent} and rerun the command") from error


def _compare(experiment: Experiment, plan: Plan, results: Results) -> None:
    rows: dict[Row, list[Run]] = {}
    for run in plan.runs:
        rows.setdefault(run.row, []).append(run)
    for row, runs in rows.items():
        reference = reference_row(plan, runs[0], experiment.compare_with)
        cells = results.cells.setdefault(row, {})
        for measure in results.measures:
            own = _by_seed(runs, measure.name, results.measured)
            if not own:
                continue
            theirs = _by_seed(rows[reference], measure.name, results.measured) if reference else {}
            cells[measure.name] = cell(own, theirs, is_loss=measure.is_loss)


def _by_seed(
    runs: list[Run], measure: str, measured: Mapping[str, Mapping[str, Measurement]]
) -> dict[int | None, Measurement]:
    return {run.seed: measured[run.directory][measure] for run in runs if measure in measured[run.directory]}


def cell(own: Mapping[Any, Measurement], theirs: Mapping[Any, Measurement], *, is_loss: bool) -> Cell:
    """Compute the mean over seeds with its interval, and the paired comparison with another row.

    Args:
        own, theirs: seed → measurement; `theirs` may be empty.
        is_loss: pair seeds (or, for a single one, samples) by Student's t, since losses vary with the seed; else pair
            examples, pooled over the seeds, since that is where right and wrong vary.
    """
    values = [measurement.value.estimate for measurement in own.values()]
    single = len(values) == 1
    mean = next(iter(own.values())).value if single else paired_interval(values)
    if not is_loss:  # a share lies between 0 and 1, whatever Student's t gives for few seeds
        mean = Interval(mean.estimate, max(mean.low, 0.0), min(mean.high, 1.0))
    shared = [seed for seed in own if seed in theirs]
    difference = None
    if shared and is_loss:
        difference = _compare_losses([(own[seed], theirs[seed]) for seed in shared])
    elif shared:
        first, second = (
            {f"{seed}/{key}": value for seed in shared for key, value in side[seed].examples.items()}
            for side in (theirs, own)
        )
        if first.keys() & second.keys():
            compared = compare_runs(first, second)
            difference = Difference(compared.difference, compared.p, compared.test, compared.count)
    return Cell(mean, "examples" if single else "seeds", len(values), difference)


def _compare_losses(pairs: list[tuple[Measurement, Measurement]]) -> Difference | None:
    if len(pairs) > 1:
        test = "paired t over seeds"
        ours, others = ([pair[side].value.estimate for pair in pairs] for side in (0, 1))
    else:
        test = "paired t over samples"
        own, theirs = pairs[0]
        keys = [key for key in own.examples if key in theirs.examples]
        ours, others = [own.examples[key] for key in keys], [theirs.examples[key] for key in keys]
    if not ours:
        return None
    differences_S = np.subtract(ours, others)
    # Equal differences have no spread for testing their mean.
    told = len(ours) > 1 and np.ptp(differences_S) > 0
    p = float(stats.ttest_rel(ours, others).pvalue) if told else None
    return Difference(paired_interval(differences_S), p, test, len(ours))
