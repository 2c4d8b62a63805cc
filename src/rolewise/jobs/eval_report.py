"""Tables and the page of an evaluation, and the comparison of two."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise.core.errors import InputError
from rolewise.evaluation.accuracy import Score, compare_runs
from rolewise.reporting.html import Generation, Table, write_report

if TYPE_CHECKING:
    from rolewise.jobs.evaluate import EvalResult

SHOWN_EXAMPLES = 8
"""Answers of each suite on the page; all of them are in the folder of answers."""
SHOWN_CHARACTERS = 4000
UNTESTED = "untested on real data"


def scores_table(title: str, scores: Sequence[Score], *, untested: bool = False) -> Table:
    """A suite's scores with their 95 % intervals."""
    rows: list[list[str | float]] = [
        [score.name, _percent(score.value), _ends(score), score.count, score.note] for score in scores
    ]
    return Table(f"{title} ({UNTESTED})" if untested else title, ["", "score", "95 %", "examples", ""], rows)


def comparison_table(first: "EvalResult", second: "EvalResult") -> Table:
    """The second run less the first, suite by suite, on the examples that both played.

    Raises:
        InputError: if they share no example.
    """
    rows: list[list[str | float]] = []
    for suite in second.examples:
        a, b = first.examples.get(suite, {}), second.examples[suite]
        shared = [key for key in a if key in b]
        if not shared:
            continue
        compared = compare_runs(a, b)
        rows.append(
            [
                second.titles[suite],
                _percent(sum(a[key] for key in shared) / len(shared)),
                _percent(sum(b[key] for key in shared) / len(shared)),
                f"{compared.difference:+.1%}",
                f"{compared.p:.3g} ({compared.test})",
                compared.count,
            ]
        )
    if not rows:
        raise InputError(f"{first.path} and {second.path} share no example; compare runs of the same suites")
    columns = ["suite", first.path.name, second.path.name, "difference, 95 %", "p", "examples"]
    return Table("Compared on the examples of both", columns, rows)


def check_comparable(first: "EvalResult", suites: Sequence[str]) -> None:
    """See before anything is played whether a run of these suites can be compared with another.

    Raises:
        InputError: if the other has none of them.
    """
    if not any(suite in first.scores for suite in suites):
        raise InputError(
            f"against: {first.path} has {', '.join(first.scores)}, and none of {', '.join(suites)} to compare with"
        )


def write_eval_report(
    path: Path, name: str, summary: Mapping[str, Any], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Write the page: scores of each suite, what a reader must know, and the first answers."""
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
    """A conversation of several questions, without the answer to the last."""
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
