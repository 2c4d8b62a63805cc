"""Notes on a suite's answers to read before its scores: reasons why the scores may say little about the model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rolewise.evaluation.sources import UNKNOWN_FILE


def suite_notes(name: str, records: Sequence[Mapping[str, Any]], version: Mapping[str, Any]) -> list[str]:
    """Return the notes on one suite.

    Args:
        name: name of the suite.
        records: its played examples, as `PlayedLog` keeps them.
        version: version of its data and rules, as `Suite.version` returns it.
    """
    steps = [(record["id"], step) for record in records for step in record["asked"]]
    errors = {example: step["error"] for example, step in reversed(steps) if step.get("error")}
    empty = {example for example, step in steps if any(not text.strip() for text in step["answers"])}
    cut = {example for example, step in steps if "length" in step["finish_reasons"]}
    notes = []
    if errors:
        notes.append(f"{_of(errors, records)} got no answer; the first: {next(reversed(errors.values()))}")
    if empty:
        notes.append(f"{_of(empty, records)} got an empty answer")
    if cut:
        notes.append(f"{_of(cut, records)} got an answer that was cut off at the maximum length (max_new_tokens)")
    if UNKNOWN_FILE in json.dumps(version):
        notes.append("played on a local copy that differs from the pinned file; its digest is in summary.json")
    return [f"{name}: {note}" for note in notes]


def _of(some: Mapping[str, Any] | set[str], records: Sequence[Any]) -> str:
    return f"{len(some)} of {len(records)} examples"
