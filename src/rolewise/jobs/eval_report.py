"""Tables, notes and report page of an evaluation."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.evaluation.accuracy import Score
from rolewise.evaluation.sources import UNKNOWN_FILE
from rolewise.reporting.html import Generation, Table, write_report

SHOWN_EXAMPLES = 8
"""Number of examples per suite whose answers the page shows; the answers folder has all of them."""
SHOWN_CHARACTERS = 4000
UNTESTED = "untested on real data"


def scores_table(title: str, scores: Sequence[Score], *, untested: bool = False) -> Table:
    """Return a table of a suite's scores with their 95 % intervals."""
    rows: list[list[str | float]] = [
        [score.name, f"{score.value:.1%}", _ends(score), score.count, score.note] for score in scores
    ]
    return Table(f"{title} ({UNTESTED})" if untested else title, ["", "score", "95 %", "examples", ""], rows)


def suite_notes(name: str, records: Sequence[Mapping[str, Any]], version: Mapping[str, Any]) -> list[str]:
    """Return the notes on one suite to read before its scores, which may say little about the model.

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


def write_eval_report(
    path: Path, name: str, summary: Mapping[str, Any], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Write the page: scores of each suite, notes for the reader, and the first answers."""
    tables, generations = [], []
    for suite, entry in summary["suites"].items():
        scores = [Score.from_json(line) for line in entry["scores"]]
        tables.append(scores_table(entry["title"], scores, untested=entry["untested"]))
        for record in records[suite][:SHOWN_EXAMPLES]:
            if not record["asked"]:
                continue
            asked = record["asked"][-1]
            answers = [(f"answer {i}", _cut(text)) for i, text in enumerate(asked["answers"], start=1)]
            verdict = f"{record['score']:g}" + (f": {record['reason']}" if record["reason"] else "")
            prompt = record["asked"][0]["prompt"] if len(record["asked"]) == 1 else _written(record["asked"])
            generations.append(
                Generation(f"{entry['title']} · {record['id']}\n\n{_cut(prompt)}", [*answers, ("verdict", verdict)])
            )
    write_report(path, title=name, summary=tables, samples=[], generations=generations, notes=summary["notes"])


def _written(asked: Sequence[Mapping[str, Any]]) -> str:
    """Format a conversation of several questions, without the answer to the last."""
    messages = [message for step in asked for message in step["messages"]]
    return "\n\n".join(
        f"[{message['role']}] {message.get('content') or message.get('tool_calls')}" for message in messages
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} … ({len(text):,} characters)"


def _ends(score: Score) -> str:
    return "–" if math.isnan(score.low) else f"{score.low:.1%} to {score.high:.1%}"
