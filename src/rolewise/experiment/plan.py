"""From an experiment to its runs: every combination once, and one labelling for all runs that read the same."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.plugins import load_plugins
from rolewise.experiment.config import UNTRAINED, Experiment, MethodEntry, slug
from rolewise.jobs.label_methods import check_method
from rolewise.jobs.options import LabelOptions, SFTOptions
from rolewise.jobs.sft import check_training
from rolewise.labelling.labellers import PLANNED, find_labeller
from rolewise.reporting.content import Table
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting import make_weighting

_OF_SFT = {f.name: f.default for f in dataclasses.fields(SFTOptions) if f.default is not dataclasses.MISSING}

PLACES = ("data", "general", "plugin")
"""Options of a labelling that say where something lies; its content counts."""


@dataclass(frozen=True)
class Labelling:
    """One labelled data set.

    Attributes:
        directory: below the experiment's output, with `/`.
        model: name of the model.
        options: of `rolewise label`, but for what says where things lie.
    """

    directory: str
    model: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training, or a model as it was, and what is measured of it.

    Attributes:
        directory: below the experiment's output, with `/`.
        model: name of the model.
        method: name of the method; `UNTRAINED` for none.
        title: of the method, for tables.
        setting: the options that tell this row from others of the method, as text.
        shared: the part of them that all methods go through.
        seed: of training; None for a model as it was.
        labelling: what is trained on; None for a model as it was.
        reads_labels: whether the labels make a difference to the training, or only to what is logged of it.
        training: options of `rolewise sft`, but for what says where things lie.
    """

    directory: str
    model: str
    method: str
    title: str
    setting: str
    shared: str
    seed: int | None
    labelling: Labelling | None
    training: dict[str, Any]
    reads_labels: bool = True

    @property
    def row(self) -> tuple[str, str, str]:
        """The row of the table that the run counts for."""
        return self.model, self.method, self.setting


@dataclass(frozen=True)
class Plan:
    """What an experiment comes to, in the order in which it is done."""

    labellings: list[Labelling]
    runs: list[Run]


def plan_experiment(experiment: Experiment) -> Plan:
    """Every combination of models, methods, settings and seeds.

    A method that needs no labels trains on the first labelling that another method asks for, SHAD's before others: it
    does not read the roles, but logs its losses by them, so that curves can be compared.

    Raises:
        InputError: for options that do not go together, or a row to compare with that is not one.
    """
    load_plugins(experiment.plugin)
    runs: dict[str, Run] = {}
    for name in experiment.models:
        if experiment.untrained and (experiment.role_losses or experiment.suites):
            directory = f"runs/{slug(name)}/{UNTRAINED}"
            runs[directory] = Run(directory, name, UNTRAINED, "untrained", "", "", None, None, {})
        for index, entry in enumerate(experiment.methods):
            for run in _runs_of(experiment, name, entry, f"methods[{index}]"):
                runs.setdefault(_identity(run), run)
    plan = plan_of(list(runs.values()))
    for what, directories in (
        ("runs", [run.directory for run in plan.runs]),
        ("labellings", [labelling.directory for labelling in plan.labellings]),
    ):
        same = {d for d in directories if directories.count(d) > 1}
        if same:
            raise InputError(
                f"two {what} would lie in {min(same)}; give models and methods names that differ in letters"
            )
    for run in plan.runs:
        reference_row(plan, run, experiment.compare_with)
    return plan


def plan_of(runs: list[Run]) -> Plan:
    """A plan of these runs and of the labellings that they need."""
    return Plan(list({run.labelling.directory: run.labelling for run in runs if run.labelling}.values()), runs)


def reference_row(plan: Plan, run: Run, method: str) -> tuple[str, str, str] | None:
    """The row of `method` that a run's row is compared with: of the same model and shared settings; None for itself.

    Raises:
        InputError: if several rows could be meant.
    """
    if run.method in (UNTRAINED, method):
        return None
    rows = list(dict.fromkeys(r.row for r in plan.runs if r.model == run.model and r.method == method))
    if len(rows) > 1:
        rows = list(
            dict.fromkeys(r.row for r in plan.runs if (r.model, r.method, r.shared) == (run.model, method, run.shared))
        )
    if len(rows) != 1:
        raise InputError(f"compare_with: {method} has several settings of its own; give it one")
    return rows[0]


def plan_table(experiment: Experiment, plan: Plan) -> Table:
    """The matrix: a line per row of the results."""
    rows: dict[tuple[str, str, str], list[Run]] = {}
    for run in plan.runs:
        rows.setdefault(run.row, []).append(run)
    measures = [*(["losses by role"] if experiment.role_losses else []), *experiment.suites]
    lines: list[list[str | float]] = [
        [
            model,
            runs[0].title,
            setting or "–",
            ", ".join(str(run.seed) for run in runs if run.seed is not None) or "–",
            runs[0].labelling.directory if runs[0].labelling else "–",
        ]
        for (model, _, setting), runs in rows.items()
    ]
    trained, labelled = sum(run.seed is not None for run in plan.runs), len(plan.labellings)
    note = (
        f"{trained} run{'s' * (trained != 1)}, {labelled} labelled data set{'s' * (labelled != 1)}; each run measured "
        f"by: {', '.join(measures) or 'nothing'}; compared with {experiment.compare_with}"
    )
    return Table(f"Plan of {experiment.name}", ["model", "method", "setting", "seeds", "labels"], lines, note)


def _runs_of(experiment: Experiment, model: str, entry: MethodEntry, where: str) -> Iterator[Run]:
    method = entry.method
    if method.sample is not None:
        raise InputError(f"{where}: {method.name} samples its data; run rolewise sample and give that as data.train")
    for label, label_setting in _labelled(experiment, entry):
        labelling = _labelling(experiment, model, label)
        lists = {**{k: [v] for k, v in method.sft.items()}, **experiment.training, **entry.training}
        for training in _combinations(lists):
            _check_training(training, entry, where)
            swept = [k for k, v in experiment.training.items() if len(v) > 1 and k not in entry.training]
            shared = _written({k: training[k] for k in swept})
            own = _written({k: training[k] for k in entry.training})
            setting = ", ".join(part for part in (shared, own, label_setting) if part)
            directory = f"runs/{slug(model)}/{slug(method.name)}/{slug(setting.replace(', ', ',')) or 'default'}"
            for seed in experiment.seeds:
                yield Run(
                    f"{directory}/seed-{seed}",
                    model,
                    method.name,
                    method.title,
                    setting,
                    shared,
                    seed,
                    labelling,
                    {"generations": 0, **training},
                    reads_labels=method.label is not None,
                )


@dataclass(frozen=True)
class _LabelOptions:
    """Options of a labelling, and the entry of `methods` that asks for it, by its place; None if none does."""

    values: dict[str, Any]
    entry: int | None


def _labelled(experiment: Experiment, entry: MethodEntry) -> Iterator[tuple[_LabelOptions, str]]:
    """Options of each labelling that an entry asks for, and what tells it from the entry's others, as text."""
    if entry.method.label is None:
        others = [other for other in experiment.methods if other.method.label is not None]
        # SHAD's before others': by its roles the papers draw the curves.
        others.sort(key=lambda other: (other.method.label or {}).get("method") != "shad")
        rules = _LabelOptions({"method": "regex"}, None)
        yield (next(_labelled(experiment, others[0]))[0] if others else rules), ""
        return
    own = {**{k: [v] for k, v in entry.method.label.items()}, **experiment.label, **entry.label}
    # What tells nothing apart, e.g. where the preferences lie, would only make the row's name long.
    alone = sum(other.method == entry.method for other in experiment.methods) == 1
    told = [k for k, values in entry.label.items() if len(values) > 1 or not alone]
    place = next(i for i, other in enumerate(experiment.methods) if other is entry)
    for options in _combinations(own):
        varied = [k for k in options if k in told or len(experiment.label.get(k, ())) > 1]
        yield _LabelOptions(options, place), _written({f"label.{k}": options[k] for k in varied})


def _labelling(experiment: Experiment, model: str, label: _LabelOptions) -> Labelling:
    try:
        options = LabelOptions(
            model="",
            output="",
            trust_remote_code=experiment.trust_remote_code,
            plugin=",".join(experiment.plugin) or None,
            **experiment.data,
            **label.values,
        )
        if options.method in PLANNED:
            check_method(options)
        else:
            find_labeller(options.method)
    except InputError as error:
        raise InputError(f"{_place(experiment, label, str(error).split()[0])}.{error}") from error
    complete = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("model", "output", "plan")}
    told_by = digest({k: v for k, v in complete.items() if k not in PLACES})[:8]
    return Labelling(f"labels/{slug(model)}/{slug(complete['method'])}-{told_by}", model, complete)


def _place(experiment: Experiment, label: _LabelOptions, option: str) -> str:
    """The section of the file that an option of a labelling stands in."""
    if option in experiment.data:
        return "data"
    if label.entry is None or (option in experiment.label and option not in experiment.methods[label.entry].label):
        return "label"
    return f"methods[{label.entry}].label"


def _check_training(options: Mapping[str, Any], entry: MethodEntry, where: str) -> None:
    own = {name: value for name, value in options.items() if name in _OF_SFT}
    theirs = {name: value for name, value in options.items() if name not in _OF_SFT}
    try:
        weighting = make_weighting(SFTOptions(model="", data="", output="", **own).weighting)
        check_training(WeightedSFTConfig(output_dir="", **{"report_to": "none", **theirs}))
    except (InputError, ValueError, TypeError, ImportError) as error:  # the latter three are Transformers' and TRL's
        option = str(error).split()[0]
        own_place = option == "weighting" or option in entry.training
        place = f"{where}." if own_place else "training." if option in options else f"{where}: "
        raise InputError(place + " ".join(str(error).split())) from error
    if entry.method.label is None and (weighting.needs_roles or weighting.needs_scores):
        raise InputError(
            f"{where}: weighting {options['weighting']} reads labels; say which, e.g. label: {{method: shad}}"
        )


def _combinations(lists: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _written(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())


def _identity(run: Run) -> str:
    """What two entries that ask for the same run have in common, whether they spell a default out or not."""
    assert run.labelling is not None
    return digest([run.model, run.method, run.labelling.directory, {**_OF_SFT, **run.training}, run.seed])
