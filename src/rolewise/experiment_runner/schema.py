"""The JSON Schema of an experiment file."""

from typing import Any

from rolewise.experiment_runner.config import (
    DATA_KEYS,
    EVALUATION,
    GRPO,
    KEYS,
    LABEL,
    LAUNCHED,
    MEASURE_KEYS,
    SAMPLE,
    TRAINING,
)
from rolewise.experiment_runner.option_values import StepOptions

_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_NAMED = {"type": "object", "additionalProperties": _TEXT}


def experiment_schema() -> dict[str, Any]:
    """Return the schema: each section's options, with a value or a list of values to compare."""
    data = {key: LABEL.table.schema()["properties"][key] for key in DATA_KEYS}
    options = {"sample": _step(SAMPLE), "label": _step(LABEL), "grpo": _step(GRPO), "evaluation": _options(EVALUATION)}
    steps = {name: _reference(name) for name in ("sample", "label", "grpo")}
    method = {**_step(TRAINING), **steps, "name": _TEXT, "weighting": _TEXT, "seeds": {}}
    suite = {"anyOf": [_reference("evaluation"), {"type": "null"}]}
    measure = {
        "role_losses": {"anyOf": [_TEXT, _NAMED]},
        "suites": {"anyOf": [_TEXTS, {"type": "object", "additionalProperties": suite}]},
        "untrained": {"type": "boolean"},
    }
    assert measure.keys() == set(MEASURE_KEYS)
    properties: dict[str, Any] = {
        "name": _TEXT,
        "output": _TEXT,
        "models": {"anyOf": [_TEXT, _NAMED, {"type": "array", "items": {"anyOf": [_TEXT, _NAMED]}}]},
        "data": {"anyOf": [_TEXTS, _object({"train": _TEXTS, **data})]},
        "methods": {"type": "array", "items": {"anyOf": [_TEXT, {**_object(method), "required": ["name"]}]}},
        "seeds": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
        **steps,
        "training": _object(_step(TRAINING)),
        "evaluation": _reference("evaluation"),
        "measure": _object(measure),
        "compare_with": _TEXT,
        "launch": {"anyOf": [_TEXT, _object(dict.fromkeys(LAUNCHED, _TEXT))]},
        "plugin": _TEXTS,
        "trust_remote_code": {"type": "boolean"},
    }
    assert properties.keys() == set(KEYS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rolewise experiment",
        **_object(properties),
        "required": ["output", "models", "data", "methods"],
        "$defs": {name: _object(own) for name, own in options.items()},
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _options(step: StepOptions) -> dict[str, Any]:
    properties: dict[str, Any] = step.table.schema()["properties"]
    return {name: entry for name, entry in properties.items() if not step.reserves(name)}


def _step(step: StepOptions) -> dict[str, Any]:
    """Return the options of a section in which a list means one run per value."""
    properties = {}
    for name, entry in _options(step).items():
        value = {key: part for key, part in entry.items() if key not in ("description", "default")}
        told = {key: entry[key] for key in ("description", "default") if key in entry}
        properties[name] = {"anyOf": [value, {"type": "array", "items": value}], **told}
    return properties
