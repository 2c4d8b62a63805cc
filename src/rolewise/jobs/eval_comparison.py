"""Comparison of two evaluations: their differences besides the model, and the difference in their scores."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rolewise.core.errors import InputError
from rolewise.evaluation.accuracy import compare_runs
from rolewise.reporting.html import Table

if TYPE_CHECKING:
    from rolewise.jobs.evaluate import EvalResult

_TASKS = ("data", "queries", "files", "tables")
"""Entries of a suite's version that identify its tasks."""
_IMPLIED = ("sha256", "tools")
"""Entries implied by others: a checker's digest by its version, the place of the tools by `native_tools`."""
_ASKED = ("native_tools", "tool_format", "chat_template", "max_new_tokens", "temperature", "top_p", "top_k", "samples")
"""Settings that change the model's prompts or its answers."""
_SHOWN_CHARACTERS = 60


def check_comparable(first: "EvalResult", suites: Sequence[str]) -> None:
    """Check, before playing anything, that a run of these suites can be compared with another.

    Raises:
        InputError: if the other has none of them.
    """
    if not any(suite in first.scores for suite in suites):
        raise InputError(
            f"against: {first.path} has {', '.join(first.scores)}, but none of {', '.join(suites)} to compare with"
        )


def comparison_notes(first: "EvalResult", second: "EvalResult") -> list[str]:
    """List the differences between two runs besides the model, one line each, for the suites that both have."""
    notes = [
        f"{name} is {_short(first.settings[name])} in {first.path} and {_short(second.settings[name])} in {second.path}"
        for name in _ASKED
        if name in first.settings and name in second.settings and first.settings[name] != second.settings[name]
    ]
    for suite in _shared_suites(first, second):
        a, b = first.versions[suite], second.versions[suite]
        if _other_tasks(a, b):
            notes.append(f"{suite}: not compared, since {first.path} and {second.path} were played on different data")
            continue
        for name, one, other in _differences(a, b):
            if name.split()[0] not in (*_TASKS, *_IMPLIED):
                notes.append(f"{suite}: {name} is {_short(one)} in {first.path} and {_short(other)} in {second.path}")
    return notes


def comparison_table(first: "EvalResult", second: "EvalResult") -> Table:
    """Compare the second run with the first, suite by suite, on the examples that both played. Suites with different
    data are left out, since there an id stands for two examples.

    Raises:
        InputError: if they share no example.
    """
    rows: list[list[str | float]] = []
    for suite in _shared_suites(first, second):
        a, b = first.examples[suite], second.examples[suite]
        shared = [key for key in a if key in b]
        if not shared or _other_tasks(first.versions[suite], second.versions[suite]):
            continue
        compared = compare_runs(a, b)
        rows.append(
            [
                second.titles[suite],
                f"{sum(a[key] for key in shared) / len(shared):.1%}",
                f"{sum(b[key] for key in shared) / len(shared):.1%}",
                f"{compared.difference:+.1%}",
                f"{compared.p:.3g} ({compared.test})",
                compared.count,
            ]
        )
    if not rows:
        raise InputError(
            f"{first.path} and {second.path} share no example; compare runs of the same suites on the same data"
        )
    columns = ["suite", first.path.name, second.path.name, "difference, 95 %", "p", "examples"]
    return Table("Comparison on shared examples", columns, rows)


def _shared_suites(first: "EvalResult", second: "EvalResult") -> list[str]:
    return [suite for suite in second.examples if suite in first.examples]


def _other_tasks(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return True if two versions of a suite have different tasks in a file that both contain."""
    return any(
        name.split()[0] in _TASKS and one is not None and other is not None for name, one, other in _differences(a, b)
    )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each entry, nested ones included, that differs between the two: its name and both values (None: absent)."""
    for key in dict.fromkeys([*a, *b]):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{before}{key} ")
        elif one != other:
            yield f"{before}{key}", one, other


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
