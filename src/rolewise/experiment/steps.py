"""The steps of an experiment's runs: where each result lies, what makes it, and the options that it is made with."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from rolewise.core.plugins import plugin_digests
from rolewise.experiment.config import RENDERING_KEYS, Experiment, slug
from rolewise.experiment.inputs import fingerprint
from rolewise.experiment.measuring import LOSSES_FILE
from rolewise.experiment.plan import PLACES, Labelling, Plan, Run, plan_of
from rolewise.experiment.stages import Stage, StageRecord, as_json
from rolewise.jobs.evaluate import SUMMARY_FILE
from rolewise.jobs.options import MAX_LENGTH


class Steps:
    """Stages of an experiment's runs, and the options that make them."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._output = Path(experiment.output)
        self._plugins = plugin_digests(experiment.plugin)
        self._fingerprint = cache(fingerprint)

    def with_labels_of_before(self, plan: Plan, record: StageRecord) -> Plan:
        """The plan with the labels that a run which does not read them was begun with.

        On which ones it trains follows from the other methods (see `plan_experiment`). Other methods now must not make
        it another run.
        """
        kept: dict[tuple[str, str, str], Labelling] = {}  # by row: all seeds on the same
        for run in plan.runs:
            if run.labelling is not None and not run.reads_labels and run.row not in kept:
                before = self._labels_of_before(run, run.labelling, record)
                kept |= {run.row: before} if before is not None else {}
        return plan_of([replace(run, labelling=kept.get(run.row, run.labelling)) for run in plan.runs])

    def _labels_of_before(self, run: Run, now: Labelling, record: StageRecord) -> Labelling | None:
        """What the run was begun with, if it was and those labels are still of the same model and data."""
        begun = record.settings(train_place(run))
        place = record.place(begun["labels"]) if begun is not None else None
        if begun is None or place is None:
            return None
        places = {name: now.options[name] for name in PLACES}
        before = Labelling(place, now.model, {**begun["labels"]["options"], **places})
        return before if as_json(self.label(before).settings) == begun["labels"] else None

    def all(self, plan: Plan) -> list[Stage]:
        """Every stage of a plan."""
        stages = [self.label(labelling) for labelling in plan.labellings]
        for run in plan.runs:
            stages += [self.train(run)] if run.labelling is not None else []
            stages += self.measures(run)
        return stages

    def label(self, labelling: Labelling) -> Stage:
        """A labelled data set."""
        settings = {
            "model": self._experiment.models[labelling.model],
            "options": {name: value for name, value in labelling.options.items() if name not in PLACES},
            "data": self._fingerprint(self._experiment.data["data"]),
            "general": self._fingerprint(self._experiment.data.get("general")),
            "plugins": self._plugins,
        }
        return Stage(labelling.directory, settings)

    def train(self, run: Run) -> Stage:
        """A trained model or adapter."""
        assert run.labelling is not None
        labels = self.label(run.labelling)
        settings = {"labels": labels.settings, "options": run.training, "seed": run.seed}
        return Stage(train_place(run), settings)

    def measures(self, run: Run) -> list[Stage]:
        """What is measured of a run: losses by role, then each suite."""
        losses = [] if self._experiment.role_losses is None else [self.losses(run)]
        return [*losses, *(self.suite(run, name) for name in self._experiment.suites)]

    def losses(self, run: Run) -> Stage:
        """Losses by role."""
        data = {"data": self._fingerprint(self._experiment.role_losses), "rendering": self._rendering()}
        return Stage(losses_place(run), {**self._measured(run), **data}, LOSSES_FILE)

    def suite(self, run: Run, name: str) -> Stage:
        """An evaluation."""
        settings = {**self._measured(run), "options": self._suite_options(name), "plugins": self._plugins}
        return Stage(suite_place(run, name), settings, SUMMARY_FILE)

    def label_options(self, labelling: Labelling) -> dict[str, Any]:
        """Options of `rolewise label`."""
        return {
            "model": self._experiment.models[labelling.model],
            "output": self._path(labelling.directory),
            **labelling.options,
        }

    def train_options(self, run: Run) -> dict[str, Any]:
        """Options of `rolewise sft`."""
        assert run.labelling is not None
        return {
            "model": self._experiment.models[run.model],
            "data": self._path(run.labelling.directory),
            "output": self._path(train_place(run)),
            **run.training,
            "seed": run.seed,
            **self._common(),
        }

    def measure_task(self, run: Run, wanted: list[Stage], failed: Path) -> dict[str, Any]:
        """The task of `measuring.measure` that makes the wanted ones of `measures`."""
        places = [stage.place for stage in wanted]
        suites = {suite_place(run, name): self._suite_options(name) for name in self._experiment.suites}
        losses = losses_place(run)
        losses_task = {"data": self._experiment.role_losses, "rendering": self._rendering()}
        return {
            "model": self._model(run),
            **self._common(),
            "role_losses": {**losses_task, "output": self._path(losses)} if losses in places else None,
            "suites": [{**suites[place], "output": self._path(place)} for place in suites if place in places],
            "failed": str(failed),
        }

    def _measured(self, run: Run) -> dict[str, Any]:
        if run.labelling is None:
            return {"model": self._experiment.models[run.model]}
        return {"train": self.train(run).settings}

    def _model(self, run: Run) -> str:
        return self._experiment.models[run.model] if run.labelling is None else self._path(train_place(run))

    def _suite_options(self, name: str) -> dict[str, Any]:
        return {**self._experiment.evaluation, **self._experiment.suites[name], "suite": name}

    def _rendering(self) -> dict[str, Any]:
        given = {name: self._experiment.data[name] for name in RENDERING_KEYS if name in self._experiment.data}
        return {"max_length": MAX_LENGTH, **given}

    def _common(self) -> dict[str, Any]:
        """Options of every command."""
        return {
            "plugin": ",".join(self._experiment.plugin) or None,
            "trust_remote_code": self._experiment.trust_remote_code,
        }

    def _path(self, place: str) -> str:
        return str(self._output / place)


def train_place(run: Run) -> str:
    """Directory of a run's model, below the experiment's output."""
    return f"{run.directory}/train"


def losses_place(run: Run) -> str:
    """Directory of a run's losses by role."""
    return f"{run.directory}/role_losses"


def suite_place(run: Run, name: str) -> str:
    """Directory of a run's evaluation on a suite."""
    return f"{run.directory}/eval-{slug(name)}"
