"""Plan of an experiment: every combination as a run, and each step that several runs share only once."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolewise.core.components import Components
from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.plugins import load_plugins
from rolewise.experiment_runner.config import UNTRAINED, Experiment, MethodEntry, slug
from rolewise.experiment_runner.option_checks import (
    check_reinforcement,
    check_sft,
    defaults_of,
    label_options,
    read_by,
    sampling_options,
)
from rolewise.experiment_runner.runs import PLACES, Labelling, Plan, Run, Sampling, reference_row
from rolewise.jobs.label_methods import settings_of
from rolewise.jobs.methods import fine_tuning_of
from rolewise.jobs.sample import CONVERSATIONS_FILE
from rolewise.labelling.registry import LABELLERS
from rolewise.options.labelling import LabelOptions
from rolewise.reporting.content import Table
from rolewise.weighting.registry import REGION_WEIGHTINGS, WEIGHTINGS

Lists = Mapping[str, list[Any]]


def plan_experiment(experiment: Experiment) -> Plan:
    """Return every combination of models, methods, settings and seeds.

    A method that needs no labels trains on the first labelling that another method requests, SHAD's before others: it
    does not read the roles, but logs its losses by them, so that curves can be compared. Methods that continue from
    equal fine-tunings share a single one, which is also that of a separate row if there is one.

    Raises:
        InputError: for incompatible options, or an ambiguous row to compare with.
    """
    load_plugins(experiment.plugin)
    found: list[Run] = []
    for name in experiment.models:
        if experiment.untrained and (experiment.role_losses or experiment.suites):
            found.append(Run(f"runs/{slug(name)}/{UNTRAINED}", name, UNTRAINED, "untrained", ""))
        for index in range(len(experiment.methods)):
            found += _Combinations(experiment, name, index).runs()
    rows: dict[str, Run] = {}
    for run in found:
        rows.setdefault(digest([run.method, _identity(run)]), run)
    fine_tunings = {_identity(run): run for run in reversed(rows.values()) if run.after is None}
    for run in found:
        if run.after is not None:
            fine_tunings.setdefault(_identity(run.after), run.after)
    plan = Plan([_continued(run, fine_tunings) for run in rows.values()])
    _refuse_shared_places(plan)
    for run in plan.runs:
        reference_row(plan, run, experiment.compare_with)
    return plan


def plan_table(experiment: Experiment, plan: Plan) -> Table:
    """Return the matrix as a table, one line per row of the results."""
    rows: dict[tuple[str, str, str], list[Run]] = {}
    for run in plan.runs:
        rows.setdefault(run.row, []).append(run)
    losses = [f"losses by role ({name})" if name else "losses by role" for name in experiment.role_losses]
    measures = [*losses, *experiment.suites]
    lines: list[list[str | float]] = [
        [
            model,
            runs[0].title,
            setting or "–",
            ", ".join(str(run.seed) for run in runs if run.seed is not None) or "–",
            runs[0].labels.directory if runs[0].labels else "–",
        ]
        for (model, _, setting), runs in rows.items()
    ]
    trained, labelled = sum(run.seed is not None for run in plan.runs), len(plan.labellings)
    others = len(plan.only_continued)
    note = f"{trained} run{'s' * (trained != 1)}, {labelled} labelled data set{'s' * (labelled != 1)}; "
    if others:
        note += f"{others} fine-tuning{'s' * (others != 1)} more, which runs continue from; "
    note += f"each run measured by: {', '.join(measures) or 'nothing'}; compared with {experiment.compare_with}"
    return Table(f"Plan of {experiment.name}", ["model", "method", "setting", "seeds", "labels"], lines, note)


@dataclass(frozen=True)
class _Combinations:
    """The runs and steps of an entry of `methods`, given by its index, with a model."""

    experiment: Experiment
    model: str
    index: int

    @property
    def entry(self) -> MethodEntry:
        return self.experiment.methods[self.index]

    @property
    def seeds(self) -> list[int]:
        return self.entry.seeds or self.experiment.seeds

    def runs(self) -> Iterator[Run]:
        if self.entry.method.grpo is None:
            yield from self.fine_tuned()
            return
        bases: list[Run | None] = [None]
        if self.entry.method.sft is not None:
            base = fine_tuning_of(self.entry.method)
            bases = list(self.fine_tuned(base.name, base.title))
        for after in bases:
            yield from self.reinforced(after)

    def fine_tuned(self, name: str | None = None, title: str | None = None) -> Iterator[Run]:
        """Yield a run for each setting and seed of the entry's fine-tuning; default name: the method's."""
        experiment, method, own = self.experiment, self.entry.method, self.entry.training
        name, title = name or method.name, title or method.title
        assert method.sft is not None
        common = _read(experiment.training, method.sft["weighting"], WEIGHTINGS)
        swept = [k for k, v in common.items() if len(v) > 1 and k not in own]
        for labelling, label_setting in self.labellings():
            for training in _combinations({**_single(method.sft), **common, **own}):
                check_sft(experiment, training, self.index)
                shared = {k: _value(training[k]) for k in swept}
                setting = _joined(_written(training, swept), _written(training, own), label_setting)
                for seed in self.seeds:
                    yield Run(
                        f"{self.directory(name, setting)}/seed-{seed}",
                        self.model,
                        name,
                        title,
                        setting,
                        shared,
                        seed,
                        "sft",
                        {"generations": 0, **training},
                        labelling,
                        reads_labels=method.label is not None,
                    )

    def reinforced(self, after: Run | None) -> Iterator[Run]:
        """Yield a run for each setting of the entry's reinforcement learning, with the seed of the run it continues."""
        experiment, method = self.experiment, self.entry.method
        assert method.grpo is not None
        common = _read(experiment.grpo, method.grpo["weighting"], REGION_WEIGHTINGS, WEIGHTINGS)
        swept = [k for k, v in common.items() if len(v) > 1 and k not in self.entry.grpo]
        told = [*swept, *self.told("grpo")]
        for training in _combinations({**_single(method.grpo), **common, **self.entry.grpo}):
            check_reinforcement(experiment, training, self.index)
            setting = _joined(after.setting if after is not None else "", _written(training, told, "grpo."))
            shared = {
                **(after.shared if after is not None else {}),
                **{f"grpo.{k}": _value(training[k]) for k in swept},
            }
            for seed in self.seeds if after is None else [after.seed]:
                yield Run(
                    f"{self.directory(method.name, setting)}/seed-{seed}",
                    self.model,
                    method.name,
                    method.title,
                    setting,
                    shared,
                    seed,
                    "grpo",
                    {"generations": 0, **training},
                    after=after,
                )

    def labellings(self) -> Iterator[tuple[Labelling, str]]:
        """Yield each labelling that the entry requests, with the text that distinguishes it from the entry's others."""
        experiment, method = self.experiment, self.entry.method
        if method.sample is not None:
            for sampling, setting in self.samplings(method.sample):
                for labelling, label_setting in self.own_labellings(sampling):
                    yield labelling, _joined(setting, label_setting)
        elif method.label is not None:
            yield from self.own_labellings(None)
        else:
            others = [
                i for i, e in enumerate(experiment.methods) if e.method.label is not None and e.method.sample is None
            ]
            # SHAD's before others': the papers draw the curves by its roles.
            others.sort(key=lambda i: (experiment.methods[i].method.label or {}).get("method") != "shad")
            if others:
                yield next(replace(self, index=others[0]).own_labellings(None))[0], ""
            else:
                yield self.labelling({"method": "regex"}, None), ""

    def own_labellings(self, sampling: Sampling | None) -> Iterator[tuple[Labelling, str]]:
        label = self.entry.method.label
        if label is None:  # free, rule-based labels: the weighting does not read them
            yield self.labelling({"method": "regex"}, None, sampling), ""
            return
        told = self.told("label")
        method = (self.entry.label.get("method") or [label.get("method", LabelOptions.method)])[0]
        shared = _read(self.experiment.label, method, LABELLERS)
        for values in _combinations({**_single(label), **shared, **self.entry.label}):
            varied = [k for k in values if k in told or len(self.experiment.label.get(k, ())) > 1]
            yield self.labelling(values, self.index, sampling), _written(values, varied, "label.")

    def labelling(self, values: Mapping[str, Any], index: int | None, sampling: Sampling | None = None) -> Labelling:
        checked = settings_of(label_options(self.experiment, values, index))
        complete = {k: v for k, v in checked.items() if k not in ("model", "output")}
        identity: Any = {k: v for k, v in complete.items() if k not in PLACES}
        if sampling is not None:  # which has already read the data; general chat must still be read
            place = Path(self.experiment.output) / sampling.directory / CONVERSATIONS_FILE
            complete |= {"data": json.dumps([str(place)]), "format": None, "limit": None, "skip_invalid": False}
            identity = [identity, sampling.directory]
        name = f"{slug(complete['method'])}-{digest(identity)[:8]}"
        return Labelling(f"labels/{slug(self.model)}/{name}", self.model, complete, sampling)

    def samplings(self, sample: Mapping[str, Any]) -> Iterator[tuple[Sampling, str]]:
        """Yield each sampling that the entry requests, with the text that distinguishes it from the entry's others."""
        told = self.told("sample")
        for values in _combinations({**_single(sample), **self.experiment.sample, **self.entry.sample}):
            checked = dataclasses.asdict(sampling_options(self.experiment, values, self.index))
            complete = {k: v for k, v in checked.items() if k not in ("model", "output")}
            told_by = digest({k: v for k, v in complete.items() if k not in PLACES})[:8]
            varied = [k for k in values if k in told or len(self.experiment.sample.get(k, ())) > 1]
            directory = f"samples/{slug(self.model)}/{slug(complete['check'])}-{told_by}"
            yield Sampling(directory, self.model, complete), _written(values, varied, "sample.")

    def told(self, section: str) -> list[str]:
        """Return the entry's own options of a section that distinguish its rows from others.

        Options that distinguish nothing, e.g. the location of the preferences, would only lengthen the row's name.
        """
        part = "grpo" if section == "grpo" else "sft"
        alike = [e for e in self.experiment.methods if _part(e, part) == _part(self.entry, part)]
        lists: Lists = getattr(self.entry, section)
        return [k for k, values in lists.items() if len(values) > 1 or len(alike) > 1]

    def directory(self, name: str, setting: str) -> str:
        return f"runs/{slug(self.model)}/{slug(name)}/{slug(setting.replace(', ', ',')) or 'default'}"


def _part(entry: MethodEntry, part: str) -> Any:
    """Return the key shared by entries whose settings of a part must be distinguished."""
    method = entry.method
    joined = method.sft is not None and method.grpo is not None
    return fine_tuning_of(method) if joined and part == "sft" else method


def _continued(run: Run, fine_tunings: Mapping[str, Run]) -> Run:
    return run if run.after is None else replace(run, after=fine_tunings[_identity(run.after)])


def _refuse_shared_places(plan: Plan) -> None:
    for what, directories in (
        ("runs", [run.directory for run in (*plan.runs, *plan.only_continued)]),
        ("labellings", [labelling.directory for labelling in plan.labellings]),
    ):
        same = {d for d in directories if directories.count(d) > 1}
        if same:
            raise InputError(
                f"two {what} would share {min(same)}; give models and methods names that differ in letters"
            )


def _identity(run: Run) -> str:
    """Return the key shared by equal trainings, whether or not a default is spelled out."""
    defaults = defaults_of(run.command) if run.command else {}
    begun = [run.model, run.labelling and run.labelling.directory, run.after and _identity(run.after)]
    return digest([*begun, run.command, {**defaults, **run.training}, run.seed])


def _read(lists: Lists, part: str, *components: Components[Any]) -> dict[str, list[Any]]:
    """Return shared options without those read only by other weightings or labellers, which would add equal runs."""
    return {name: values for name, values in lists.items() if read_by(components, part, name)}


def _single(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in values.items()}


def _combinations(lists: Lists) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _written(values: Mapping[str, Any], names: Any, prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}={_value(values[name])}" for name in names)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
