"""Read an experiment file, check it key by key, and hold it as plain values."""

import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.limits import read_yaml
from rolewise.core.option_fields import fields_of
from rolewise.evaluation.suites import SUITES
from rolewise.experiment_runner.option_values import StepOptions, mapping, text, unknown
from rolewise.jobs.methods import JOINED, METHODS, REINFORCEMENTS, Method, find_method
from rolewise.options.answers import EvalOptions, SampleOptions
from rolewise.options.labelling import LabelOptions
from rolewise.options.table import RENAMED, OptionTable
from rolewise.options.training import WITHOUT_EFFECT, GRPOOptions, SFTOptions
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.sft import WeightedSFTConfig

DATA_KEYS = tuple(
    option.name for option in fields_of(LabelOptions).values() if option.group == "data" and option.name != "plugin"
)
RENDERING_KEYS = ("chat_template", "tool_format", "max_length")
KEYS = (
    *("name", "output", "models", "data", "methods", "seeds", "sample", "label", "training", "grpo", "evaluation"),
    *("measure", "compare_with", "launch", "plugin", "trust_remote_code"),
)
MEASURE_KEYS = ("role_losses", "suites", "untrained")
LAUNCHED = {"label": "label", "training": "sft", "grpo": "grpo"}
"""Key under `launch` → the command that it starts."""
UNTRAINED = "untrained"
"""Row of an untrained model."""

_GIVEN = dict.fromkeys(("model", "data", "output", "plan"), "the experiment sets it; leave it out")
_EVERYWHERE = dict.fromkeys(("plugin", "trust_remote_code"), "give it at the top of the file")
_DATA = dict.fromkeys(DATA_KEYS, "give it under data")
_OF_TRAINERS = {
    **dict.fromkeys(WITHOUT_EFFECT, "has no effect there; leave it out"),
    **_GIVEN,
    **_EVERYWHERE,
    **_DATA,
    "weighting": "the method sets it; your own method may name one (methods[…].weighting)",
    "seed": "give seeds: [0, 1, …]",
}
SAMPLE = StepOptions(OptionTable("rolewise sample", [SampleOptions]), {**_GIVEN, **_EVERYWHERE, **_DATA})
LABEL = StepOptions(OptionTable("rolewise label", [LabelOptions]), {**_GIVEN, **_EVERYWHERE, **_DATA})
TRAINING = StepOptions(OptionTable("rolewise sft", [SFTOptions, WeightedSFTConfig]), _OF_TRAINERS)
GRPO = StepOptions(
    OptionTable("rolewise grpo", [GRPOOptions, WeightedGRPOConfig]),
    {**_OF_TRAINERS, "weighting": "the method sets it; your own method may name one (methods[…].grpo)"},
)
SECTIONS = {"sample": SAMPLE, "label": LABEL, "grpo": GRPO}
"""Sections of a method's entry for steps other than fine-tuning, whose options are in the entry itself."""
EVALUATION = StepOptions(
    OptionTable("rolewise eval", [EvalOptions]),
    {**_GIVEN, **_EVERYWHERE, "suite": "name it under measure.suites", "against": "give compare_with"},
)
_DATA_KINDS = StepOptions(OptionTable("data", [LabelOptions]), {})


@dataclass(frozen=True)
class MethodEntry:
    """A method with the settings to try; each is a list of one value or of the values of a sweep.

    Attributes:
        method: the method.
        seeds: seeds of training; None for the experiment's.
        sample, label, training, grpo: options of `rolewise sample`, `label`, `sft` and `grpo`.
    """

    method: Method
    seeds: list[int] | None
    sample: dict[str, list[Any]]
    label: dict[str, list[Any]]
    training: dict[str, list[Any]]
    grpo: dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The content of an experiment file.

    Attributes:
        name: heading of the report.
        output: directory of all output.
        models: name → directory or hub id.
        data: options of `rolewise label` that select the input, including `data`.
        methods: entries in the order of the table.
        seeds: seeds of training.
        sample, label, training, grpo: shared options of each step as lists of values.
        evaluation: shared options of `rolewise eval`.
        role_losses: name → conversations with true roles, or a labelled data set, to measure losses by role on; a
            single one may have the name "".
        suites: name → the suite's own options.
        untrained: True if the untrained models are measured, too.
        compare_with: name of the method that all others are compared with.
        launch: command (`label`, `sft` or `grpo`) → the words before `-m rolewise` that start it.
        plugin: plugin files for every command.
        trust_remote_code: value for every command.
    """

    name: str
    output: str
    models: dict[str, str]
    data: dict[str, Any]
    methods: list[MethodEntry]
    seeds: list[int]
    sample: dict[str, list[Any]]
    label: dict[str, list[Any]]
    training: dict[str, list[Any]]
    grpo: dict[str, list[Any]]
    evaluation: dict[str, Any]
    role_losses: dict[str, str]
    suites: dict[str, dict[str, Any]]
    untrained: bool
    compare_with: str
    launch: dict[str, list[str]]
    plugin: list[str] = field(default_factory=list)
    trust_remote_code: bool = False


def read_experiment(path: str | Path, output: str | None = None) -> Experiment:
    """Read the experiment in a YAML file.

    Args:
        path: the file.
        output: output directory; default: the file's own.

    Raises:
        InputError: naming file and key, if something can't be read, is unknown, missing or of the wrong kind.
    """
    content = _read_yaml(path)
    try:
        return _experiment({**content, "output": output} if output else content, Path(path).stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_yaml(path: str | Path) -> dict[str, Any]:
    content = read_yaml(path, "experiment file")
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected `key: value` lines, found {'nothing' if content is None else 'something else'}"
        )
    return content


def _experiment(content: Mapping[str, Any], stem: str) -> Experiment:
    for key in content:
        if key not in KEYS:
            raise InputError(unknown("key of an experiment", key, KEYS))
    missing = [key for key in ("output", "models", "data", "methods") if content.get(key) is None]
    if missing:
        raise InputError(f"missing: {', '.join(missing)}")
    methods = _methods(content["methods"])
    names = [entry.method.name for entry in methods]
    measure = mapping("measure", content.get("measure"), MEASURE_KEYS)
    evaluation = _values("evaluation", EVALUATION, content.get("evaluation"))
    suites = _suites(measure.get("suites"), evaluation, bool(content.get("plugin")))
    role_losses = _role_losses(measure.get("role_losses"))
    return Experiment(
        name=text("name", content.get("name") or stem),
        output=text("output", content["output"]),
        models=_models(content["models"]),
        data=_data(content["data"]),
        methods=methods,
        seeds=_seeds("seeds", content.get("seeds", [0])),
        sample=_lists("sample", SAMPLE, content.get("sample")),
        label=_shared_label(content.get("label")),
        training=_lists("training", TRAINING, content.get("training")),
        grpo=_lists("grpo", GRPO, content.get("grpo")),
        evaluation=evaluation,
        role_losses=role_losses,
        suites=suites,
        untrained=_flag("measure.untrained", measure.get("untrained", True)),
        compare_with=_compared(content.get("compare_with"), names),
        launch=_launch(content.get("launch")),
        plugin=_texts("plugin", content.get("plugin")),
        trust_remote_code=_flag("trust_remote_code", content.get("trust_remote_code", False)),
    )


def _models(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        models = {text("models", name): text(f"models.{name}", source) for name, source in value.items()}
    else:
        sources: list[tuple[str, str]] = []
        for number, entry in enumerate(value if isinstance(value, list) else [value]):
            where = f"models[{number}]"
            if isinstance(entry, dict):
                sources += [(text(where, name), text(f"{where}.{name}", source)) for name, source in entry.items()]
            else:
                sources.append((Path(text(where, entry)).name, entry))
        models = dict(sources)
        if len(models) < len(sources):
            raise InputError("models: two have the same name; give them names (models: {name: path})")
    if not models:
        raise InputError("models is empty; name at least one")
    return models


def _data(value: Any) -> dict[str, Any]:
    values = {"train": value} if isinstance(value, str | list) else mapping("data", value, ("train", *DATA_KEYS))
    if not values.get("train"):
        raise InputError("data.train is missing: give the source of the conversations")
    named = {"data" if key == "train" else key: entry for key, entry in values.items()}
    return {
        name: _DATA_KINDS.check(f"data.{'train' if name == 'data' else name}", name, entry)
        for name, entry in named.items()
    }


def _methods(value: Any) -> list[MethodEntry]:
    if not isinstance(value, list) or not value:
        raise InputError(f"methods is {value!r}; expected a list, e.g. [sft, shad-rft]")
    return [_method(f"methods[{number}]", entry) for number, entry in enumerate(value)]


def _method(where: str, value: Any) -> MethodEntry:
    """Read one entry: a name, or a mapping with `name`, fine-tuning options, and options of other steps by section."""
    options = {"name": value} if isinstance(value, str) else dict(mapping(where, value))
    name = text(f"{where}.name", options.pop("name", None))
    seeds = _seeds(f"{where}.seeds", options.pop("seeds")) if "seeds" in options else None
    given = {section for section in SECTIONS if section in options}
    sections = {section: dict(mapping(f"{where}.{section}", options.pop(section, None))) for section in SECTIONS}
    if "weighting" in options or "weighting" in sections["grpo"]:
        method = _own_method(where, name, options, sections, "sample" in given)
    else:
        found = find_method(name)
        if found is None:
            raise InputError(f"{where}: {unknown('method', name, _names_like(name))}")
        method = found
        if "method" in sections["label"]:
            raise InputError(f"{where}.label.method: {name} has its own; give your own method another name")
    if sections["label"] and method.label is None:
        raise InputError(f"{where}.label: {name} needs no labels; leave it out")
    for section, part in (("sample", method.sample), ("grpo", method.grpo)):
        if sections[section] and part is None:
            raise InputError(f"{where}.{section}: {name} has no such step; leave it out")
    if method.sft is None and options:
        raise InputError(f"{where}.{next(iter(options))}: {name} has no fine-tuning; give options under {where}.grpo")
    for option in options:
        other = next((key for key, kinds in SECTIONS.items() if option in kinds and option not in TRAINING), None)
        if other is not None:
            raise InputError(
                f"{where}.{option} is an option of {SECTIONS[other].command}; give it as {where}.{other}.{option}"
            )
    lists = {section: _lists(f"{where}.{section}", SECTIONS[section], own) for section, own in sections.items()}
    return MethodEntry(method, seeds, training=_lists(where, TRAINING, options), **lists)


def _names_like(name: str) -> list[str]:
    """Return the methods that `name` may be a misspelling of."""
    if JOINED not in name:
        return [*METHODS, *REINFORCEMENTS]
    return [f"{tuned}{JOINED}{reinforced}" for tuned in METHODS for reinforced in REINFORCEMENTS]


def _own_method(
    where: str, name: str, options: dict[str, Any], sections: dict[str, dict[str, Any]], samples: bool
) -> Method:
    """Return a user-defined method; the weightings that define it are removed from the options."""
    if name == UNTRAINED:
        raise InputError(f"{where}.name: {name} is the name of the untrained models; choose another name")
    if find_method(name) is not None:
        raise InputError(f"{where}.weighting: {name} has its own; give your own method another name")
    weightings = {}
    for key, place, part in (
        ("sft", f"{where}.weighting", options),
        ("grpo", f"{where}.grpo.weighting", sections["grpo"]),
    ):
        if "weighting" in part:
            weightings[key] = {"weighting": text(place, part.pop("weighting"))}
    if "sft" not in weightings and (samples or sections["label"]):
        raise InputError(
            f"{where}.weighting is missing: samples and labels are used for fine-tuning; name one, e.g. none"
        )
    label: dict[str, Any] | None = {} if sections["label"] else None
    return Method(name, name, label, weightings.get("sft"), {} if samples else None, weightings.get("grpo"))


def _lists(where: str, kinds: StepOptions, value: Any) -> dict[str, list[Any]]:
    return {
        name: kinds.alternatives(f"{where}.{name}", name, entry)
        for name, entry in mapping(where, value).items()
        if name not in RENAMED or entry is not None  # config.yaml of an earlier version lists every option
    }


def _shared_label(value: Any) -> dict[str, list[Any]]:
    if "method" in mapping("label", value):
        raise InputError("label.method: each method has its own; leave it out")
    return _lists("label", LABEL, value)


def _values(where: str, kinds: StepOptions, value: Any) -> dict[str, Any]:
    return {name: kinds.check(f"{where}.{name}", name, entry) for name, entry in mapping(where, value).items()}


def _suites(value: Any, shared: Mapping[str, Any], has_plugins: bool) -> dict[str, dict[str, Any]]:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        value = {text(f"measure.suites[{number}]", name): None for number, name in enumerate(value)}
    suites = mapping("measure.suites", value)
    for name in suites:
        if name.partition(":")[0] not in SUITES and not has_plugins:
            raise InputError(f"measure.suites.{name}: {unknown('suite', name, SUITES)}")
    _refuse_alike("measure.suites", suites)
    read = {name: _values(f"measure.suites.{name}", EVALUATION, options) for name, options in suites.items()}
    for name, options in read.items():
        _check_evaluation(name, shared, options)
    return read


def _check_evaluation(suite: str, shared: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check a suite's options before spending hours of training."""
    try:
        EvalOptions(model="", suite=suite, output="", **{**shared, **own})
    except InputError as error:
        option = str(error).split()[0]
        place = "evaluation" if option in shared and option not in own else f"measure.suites.{suite}"
        raise InputError(f"{place}.{error}") from error


def _role_losses(value: Any) -> dict[str, str]:
    """Read data sets by name; `{data: …}` and a text are a single one without a name."""
    if isinstance(value, str):
        return {"": text("measure.role_losses", value)}
    sets = {}
    for name, entry in mapping("measure.role_losses", value).items():
        where = f"measure.role_losses.{name}"
        sets[text(where, name)] = _DATA_KINDS.check(
            where, "data", entry if isinstance(entry, list) else text(where, entry)
        )
    _refuse_alike("measure.role_losses", sets)
    return {"": sets["data"]} if sets.keys() == {"data"} else sets


def _seeds(where: str, value: Any) -> list[int]:
    seeds = value if isinstance(value, list) else [value]
    for number, seed in enumerate(seeds):
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 32:
            raise InputError(f"{where}[{number}] is {seed!r}; expected a whole number from 0 to 2³² − 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"{where} is empty or names a seed twice")
    return seeds


def _compared(value: Any, names: Sequence[str]) -> str:
    if value is None:
        return "sft" if "sft" in names else names[0]
    if value not in names:
        raise InputError(f"compare_with: {value!r} is not among the methods ({', '.join(dict.fromkeys(names))})")
    return str(value)


def _launch(value: Any) -> dict[str, list[str]]:
    """Read how labelling and training are started: one command for all, or one each."""
    if isinstance(value, str):
        value = dict.fromkeys(LAUNCHED, value)
    given = mapping("launch", value, LAUNCHED)
    return {
        command: _words(f"launch.{key}", given[key]) if key in given else [sys.executable]
        for key, command in LAUNCHED.items()
    }


def _words(where: str, value: Any) -> list[str]:
    try:
        return shlex.split(text(where, value))
    except ValueError as error:
        raise InputError(f"{where} is {value!r}, which is not a command ({error})") from error


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; expected true or false")
    return value


def _texts(where: str, value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [] if value is None else [value]
    return [text(f"{where}[{number}]", entry) for number, entry in enumerate(entries)]


def _refuse_alike(where: str, names: Collection[str]) -> None:
    """Check that no two names would put their results into the same directory."""
    places: dict[str, str] = {}
    for name in names:
        other = places.setdefault(slug(name), name)
        if other != name:
            raise InputError(f"{where}: {other!r} and {name!r} would share one directory; choose other names")


def slug(name: str) -> str:
    """Convert a name to a directory name: without leading dots, and no longer than file systems accept."""
    text = re.sub(r"[^\w.=,+-]|^\.+", "_", name)
    in_bytes = text.encode()
    return text if len(in_bytes) <= 100 else f"{in_bytes[:80].decode(errors='ignore')}-{digest(name)}"
