"""Steps of an experiment's runs: the location of each result, the command that creates it, and its options."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rolewise.core.plugins import plugin_digests
from rolewise.evaluation.suites import conversations_of
from rolewise.experiment_runner.config import RENDERING_KEYS, Experiment, slug
from rolewise.experiment_runner.inputs import fingerprint
from rolewise.experiment_runner.measuring import LOSSES_FILE
from rolewise.experiment_runner.option_checks import common, data_of
from rolewise.experiment_runner.runs import PLACES, Labelling, Plan, Run, Sampling
from rolewise.experiment_runner.stages import Stage, StageRecord, as_json
from rolewise.jobs.answering_run import SUMMARY_FILE
from rolewise.options.training import GRPOOptions
from rolewise.training.settings import MAX_LENGTH

MERGE = "merge"
"""Not a rolewise command: merges a fine-tuning's adapter with its base, since only a whole model can continue."""
MERGED_FILE = "config.json"


@dataclass(frozen=True)
class Task:
    """A stage that a separate process creates.

    Attributes:
        stage: the result.
        command: rolewise command, or `MERGE`.
        options: options of the command.
    """

    stage: Stage
    command: str
    options: dict[str, Any]


class Steps:
    """Stages of an experiment's runs, and the options that create them."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._output = Path(experiment.output)
        self._plugins = plugin_digests(experiment.plugin)
        self._fingerprint = cache(fingerprint)

    def with_labels_of_before(self, plan: Plan, record: StageRecord) -> Plan:
        """Return the plan in which runs that do not read labels keep the labels that they were started with.

        The other methods determine which labels such a run trains on (see `plan_experiment`). A change of the other
        methods must not turn it into a different run.
        """
        kept: dict[tuple[str, str, str], Labelling] = {}  # by row: all seeds use the same

        def with_labels(run: Run) -> Run:
            if run.after is not None:
                return replace(run, after=with_labels(run.after))
            if run.labelling is None or run.reads_labels:
                return run
            if run.row not in kept:
                before = self._labels_of_before(run, run.labelling, record)
                kept.update({run.row: before} if before is not None else {})
            return replace(run, labelling=kept.get(run.row, run.labelling))

        return Plan([with_labels(run) for run in plan.runs])

    def _labels_of_before(self, run: Run, now: Labelling, record: StageRecord) -> Labelling | None:
        """Return the labels that the run was started with, if any and if they still have the same model and data."""
        begun = record.settings(train_place(run))
        place = record.place(begun["labels"]) if begun is not None else None
        if begun is None or place is None:
            return None
        places = {name: now.options[name] for name in PLACES}
        before = Labelling(place, now.model, {**begun["labels"]["options"], **places}, now.sampling)
        return before if as_json(self.label(before).settings) == begun["labels"] else None

    def all(self, plan: Plan) -> list[Stage]:
        """Return every stage of a plan, each once."""
        stages = [task.stage for run in plan.runs for task in self.tasks(run)]
        stages += [stage for run in plan.runs for stage in self.measures(run)]
        return list({stage.place: stage for stage in stages}.values())

    def tasks(self, run: Run) -> list[Task]:
        """Return the tasks for a run's model, in order, with its training last; none for an untrained model."""
        if run.command is None:
            return []
        train = Task(self.train(run), run.command, self.train_options(run))
        if run.after is not None:
            return [*self.tasks(run.after), *self._merging(run.after), train]
        if run.labelling is None:
            return [train]
        label = Task(self.label(run.labelling), "label", self.label_options(run.labelling))
        return [*self._sampling(run.labelling), label, train]

    def _sampling(self, labelling: Labelling) -> list[Task]:
        sampling = labelling.sampling
        if sampling is None:
            return []
        options = {
            "model": self._experiment.models[sampling.model],
            "output": self._path(sampling.directory),
            **sampling.options,
        }
        return [Task(self.sample(sampling), "sample", options)]

    def _merging(self, run: Run) -> list[Task]:
        if not needs_merging(run):
            return []
        options = {
            "adapter": self._path(train_place(run)),
            "output": self._path(merged_place(run)),
            "dtype": run.training.get("dtype", "float32"),
            "trust_remote_code": self._experiment.trust_remote_code,
        }
        return [Task(Stage(merged_place(run), {"train": self.train(run).settings}, MERGED_FILE), MERGE, options)]

    def sample(self, sampling: Sampling) -> Stage:
        """Return the stage of a model's right answers."""
        settings = {
            "model": self._experiment.models[sampling.model],
            "options": {name: value for name, value in sampling.options.items() if name not in PLACES},
            "data": self._fingerprint(self._experiment.data["data"]),
            "plugins": self._plugins,
        }
        return Stage(sampling.directory, settings)

    def label(self, labelling: Labelling) -> Stage:
        """Return the stage of a labelled data set."""
        sampling, data = labelling.sampling, self._experiment.data
        settings = {
            "model": self._experiment.models[labelling.model],
            "options": {name: value for name, value in labelling.options.items() if name not in PLACES},
            "data": self._fingerprint(data["data"]) if sampling is None else self.sample(sampling).settings,
            "general": self._fingerprint(data.get("general")),
            "plugins": self._plugins,
        }
        return Stage(labelling.directory, settings)

    def train(self, run: Run) -> Stage:
        """Return the stage of a trained model or adapter."""
        begun: dict[str, Any]
        if run.labelling is not None:
            begun = {"labels": self.label(run.labelling).settings}
        else:
            data = self._data_of_prompts()
            begun = {
                **self._begun_from(run),
                "data": self._fingerprint(data.pop("data")),
                "reading": data,
                "plugins": self._plugins,
            }
        return Stage(train_place(run), {**begun, "options": run.training, "seed": run.seed})

    def measures(self, run: Run) -> list[Stage]:
        """Return the stages of a run's measurements: losses by role, then each suite."""
        losses = [self.losses(run, name) for name in self._experiment.role_losses]
        return [*losses, *(self.suite(run, name) for name in self._experiment.suites)]

    def losses(self, run: Run, name: str) -> Stage:
        """Return the stage of the losses by role on the data set of that name."""
        data = {"data": self._fingerprint(self._experiment.role_losses[name]), "rendering": self._rendering()}
        return Stage(losses_place(run, name), {**self._measured(run), **data}, LOSSES_FILE)

    def suite(self, run: Run, name: str) -> Stage:
        """Return the stage of an evaluation on a suite."""
        settings = {**self._measured(run), "options": self._suite_options(name), "plugins": self._plugins}
        sources = conversations_of(name)
        if sources is not None:
            settings["data"] = self._fingerprint(sources)
        return Stage(suite_place(run, name), settings, SUMMARY_FILE)

    def label_options(self, labelling: Labelling) -> dict[str, Any]:
        """Return options of `rolewise label`."""
        return {
            "model": self._experiment.models[labelling.model],
            "output": self._path(labelling.directory),
            **labelling.options,
        }

    def train_options(self, run: Run) -> dict[str, Any]:
        """Return options of `rolewise sft` or `rolewise grpo`."""
        model = self._experiment.models[run.model]
        if run.after is not None:
            model = self._path(merged_place(run.after) if needs_merging(run.after) else train_place(run.after))
        labels = run.labelling
        return {
            "model": model,
            **(self._data_of_prompts() if labels is None else {"data": self._path(labels.directory)}),
            "output": self._path(train_place(run)),
            **run.training,
            "seed": run.seed,
            **common(self._experiment),
        }

    def measure_task(self, run: Run, wanted: list[Stage], failed: Path) -> dict[str, Any]:
        """Return the task of `measuring.measure` that creates the wanted stages of `measures`."""
        places = [stage.place for stage in wanted]
        suites = {suite_place(run, name): self._suite_options(name) for name in self._experiment.suites}
        losses = {losses_place(run, name): data for name, data in self._experiment.role_losses.items()}
        return {
            "model": self._model(run),
            **common(self._experiment),
            "role_losses": [
                {"data": losses[place], "rendering": self._rendering(), "output": self._path(place)}
                for place in losses
                if place in places
            ],
            "suites": [{**suites[place], "output": self._path(place)} for place in suites if place in places],
            "failed": str(failed),
        }

    def _measured(self, run: Run) -> dict[str, Any]:
        if run.command is None:
            return {"model": self._experiment.models[run.model]}
        return {"train": self.train(run).settings}

    def _begun_from(self, run: Run) -> dict[str, Any]:
        """Return the model that reinforcement learning starts from."""
        if run.after is None:
            return {"model": self._experiment.models[run.model]}
        return {"after": self.train(run.after).settings}

    def _model(self, run: Run) -> str:
        return self._experiment.models[run.model] if run.command is None else self._path(train_place(run))

    def _data_of_prompts(self) -> dict[str, Any]:
        return data_of(self._experiment, GRPOOptions)

    def _suite_options(self, name: str) -> dict[str, Any]:
        return {**self._experiment.evaluation, **self._experiment.suites[name], "suite": name}

    def _rendering(self) -> dict[str, Any]:
        given = {name: self._experiment.data[name] for name in RENDERING_KEYS if name in self._experiment.data}
        return {"max_length": MAX_LENGTH, **given}

    def _path(self, place: str) -> str:
        return str(self._output / place)


def train_place(run: Run) -> str:
    """Return the directory of a run's model, below the experiment's output."""
    return f"{run.directory}/train"


def needs_merging(run: Run) -> bool:
    """Return True if a fine-tuning creates an adapter, on top of which no other can be trained."""
    return bool(run.training.get("lora", True))


def merged_place(run: Run) -> str:
    """Return the directory of a fine-tuning's adapter merged into its base, below the experiment's output."""
    return f"{run.directory}/merged"


def losses_place(run: Run, name: str) -> str:
    """Return the directory of a run's losses by role on the data set of that name."""
    return f"{run.directory}/role_losses" + (f"-{slug(name)}" if name else "")


def suite_place(run: Run, name: str) -> str:
    """Return the directory of a run's evaluation on a suite."""
    return f"{run.directory}/eval-{slug(name)}"
