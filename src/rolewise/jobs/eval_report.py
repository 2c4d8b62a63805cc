"""Tables and report page of an evaluation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.evaluation.accuracy import Score
from rolewise.reporting.html import Generation, Table, write_report

SHOWN_EXAMPLES = 8
"""Number of examples per suite whose answers the page shows; the answers folder has all of them."""
SHOWN_CHARACTERS = 4000
UNTESTED = "untested on real data"


def scores_table(title: str, scores: Sequence[Score], *, untested: bool = False) -> Table:
    """Return a table of a suite's scores with their 95 % intervals."""
    rows: list[list[str | float]] = [
        [score.name, _percent(score.value), _ends(score), score.count, score.note] for score in scores
    ]
    return Table(f"{title} ({UNTESTED})" if untested else title, ["", "score", "95 %", "examples", ""], rows)


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


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _ends(score: Score) -> str:
    return "–" if math.isnan(score.low) else f"{score.low:.1%} to {score.high:.1%}"
