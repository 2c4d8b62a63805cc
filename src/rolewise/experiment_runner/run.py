"""The job of `rolewise experiment`: labels, trains and measures whatever is not done yet, and writes the table."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import unwritable, write_json, write_text
from rolewise.experiment_runner.config import Experiment
from rolewise.experiment_runner.inputs import check_inputs
from rolewise.experiment_runner.plan import plan_experiment
from rolewise.experiment_runner.report import write_results
from rolewise.experiment_runner.results import Failure, collect
from rolewise.experiment_runner.runs import Plan, Run
from rolewise.experiment_runner.stages import StageRecord, run_command
from rolewise.experiment_runner.steps import MERGE, Steps, Task, train_place
from rolewise.jobs.sample import CONVERSATIONS_FILE
from rolewise.reporting.content import Table

LOCK_FILE = ".lock"
MEASURING = "rolewise.cli.steps.measuring"
MERGING = "rolewise.cli.steps.merging"
_SHOWN_CHARACTERS = 70


@dataclass(frozen=True)
class ExperimentResult:
    """Result of an experiment.

    Attributes:
        path: the experiment's directory, with `table.md`, `table.csv`, `report.html`, `results.json` and the plots.
        tables: one table per measure and, if something failed, a table of failures.
        failures: failed steps; rerun the command to retry them.
        worked: number of steps worked on this time.
    """

    path: Path
    tables: list[Table]
    failures: list[Failure]
    worked: int


def run_experiment(
    experiment: Experiment, progress: Progress | None = None, plan: Plan | None = None
) -> ExperimentResult:
    """Complete all runs one after another, and write table, report and plots.

    Every step has its own directory below `experiment.output` and is skipped once that exists. A failed run is
    recorded, and the others continue.

    Args:
        experiment: result of `read_experiment`.
        progress: progress display; None shows nothing.
        plan: result of `plan_experiment`, if it has already been called.

    Raises:
        InputError: before anything runs, for missing inputs, a directory with other content, or another process at
            work in it.
    """
    plan = plan or plan_experiment(experiment)
    check_inputs(experiment)
    output = Path(experiment.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK_FILE, timeout=0):
            steps, record = Steps(experiment), StageRecord(output)
            plan = steps.with_labels_of_before(plan, record)
            runner = _Runner(experiment, plan, steps, record, progress or Progress(disable=True))
            failures = runner.run()
            results = collect(experiment, plan, failures)
            return ExperimentResult(output, write_results(experiment, plan, results), failures, runner.worked)
    except Timeout:
        raise InputError(
            f"{output}: another process is working on this experiment; wait for it, or choose another output"
        ) from None
    except OSError as error:
        raise unwritable(output, error) from error


class _Runner:
    """Runs the steps. `worked` counts those that were not done yet."""

    def __init__(
        self, experiment: Experiment, plan: Plan, steps: Steps, record: StageRecord, progress: Progress
    ) -> None:
        self._experiment = experiment
        self._plan = plan
        self._steps = steps
        self._record = record
        self._progress = progress
        self._output = Path(experiment.output)
        self._failed: dict[str, str] = {}  # place → reason
        self.worked = 0

    def run(self) -> list[Failure]:
        for stage in self._steps.all(self._plan):
            self._record.check(stage)
        name = self._experiment.name
        self._bar = self._progress.add_task(name, total=len(self._plan.runs))
        for run in self._plan.runs:
            if self._trained(run):
                self._measure(run)
            self._progress.advance(self._bar)
        self._progress.update(self._bar, description=name)
        return [Failure(place, reason) for place, reason in self._failed.items()]

    def _trained(self, run: Run) -> bool:
        """Complete the steps that the run's model needs; return True if the model exists."""
        for task in self._steps.tasks(run):
            if not self._done(task):
                self._failed.setdefault(train_place(run), f"not started, since {task.stage.place} failed")
                return False
            if task.command == "sample" and not (self._output / task.stage.place / CONVERSATIONS_FILE).stat().st_size:
                self._failed[train_place(run)] = (
                    f"no answer in {task.stage.place} is right, so there is nothing to tune on"
                )
                return False
        return True

    def _done(self, task: Task) -> bool:
        """Do a task, unless it is done or has already failed; return True if its result exists."""
        stage = task.stage
        if stage.place in self._failed:
            return False
        if self._record.finished(stage):
            return True
        self._record.begin(stage)
        place = self._output / stage.place
        config = place.with_name(f"{place.name}.yaml")
        write_text(config, yaml.safe_dump(task.options, sort_keys=False, allow_unicode=True))
        words = [sys.executable, "-m", MERGING, str(config)]
        if task.command != MERGE:
            launch = self._experiment.launch.get(task.command, [sys.executable])
            words = [*launch, "-m", "rolewise", task.command, "--config", str(config)]
        failure = self._work(words, place.with_name(f"{place.name}.log"), stage.place)
        if self._record.finished(stage):
            return True
        self._failed[stage.place] = failure or "ended without a result"
        return False

    def _measure(self, run: Run) -> None:
        """Take all missing measurements, in a single process."""
        unfinished = [stage for stage in self._steps.measures(run) if not self._record.finished(stage)]
        if not unfinished:
            return
        for stage in unfinished:
            self._record.begin(stage)
        folder = self._output / run.directory
        task, failed = folder / "measure.json", folder / "measure-failed.json"
        failed.unlink(missing_ok=True)
        write_json(task, self._steps.measure_task(run, unfinished, failed))
        crash = self._work([sys.executable, "-m", MEASURING, str(task)], folder / "measure.log", run.directory)
        reasons = json.loads(failed.read_text(encoding="utf-8")) if failed.exists() else {}
        failed.unlink(missing_ok=True)
        for stage in unfinished:
            if not self._record.finished(stage):
                reason = reasons.get(str(self._output / stage.place))
                self._failed[stage.place] = reason or crash or "ended without a result"

    def _work(self, words: list[str], log: Path, place: str) -> str | None:
        self.worked += 1
        say = self._saying(place)
        say("")
        return run_command(words, log, say)

    def _saying(self, place: str) -> Callable[[str], None]:
        def say(line: str) -> None:
            parts = [self._experiment.name, place, line[:_SHOWN_CHARACTERS]]
            self._progress.update(self._bar, description=" · ".join(filter(None, parts)))

        return say
