"""The job of `rolewise solve`: answers questions by tree search and voting."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rolewise.core.files import read_json, read_json_lines, write_json, write_json_lines
from rolewise.core.statistics import Interval
from rolewise.data.readers import write_rejected
from rolewise.jobs.answering_run import SUMMARY_FILE, AnsweringRun, SummarisedResult
from rolewise.jobs.questions import Questions
from rolewise.jobs.search import (
    grow,
    notes_of,
    prepare,
    summarise,
    summary_table,
    write_report,
)
from rolewise.jobs.solve_plot import draw_accuracy
from rolewise.options.answers import SolveOptions
from rolewise.reporting.content import REPORT_FILE, Table
from rolewise.search.judges import MathValues
from rolewise.search.settings import VoteBy
from rolewise.search.tree import TREES_FILE, Node, Question, Step, Tree, write_trees
from rolewise.search.value_registry import MATH
from rolewise.search.values import Leaf
from rolewise.search.votes import VOTES, CurvePoint, accuracy_curve, vote

ANSWERS_FILE = "answers.jsonl"
CURVE_FILE = "curve.json"
PLOT_FILE = "accuracy.svg"
CURVE_ROWS = 8
"""Maximum rows of the displayed table; the file has every point."""


@dataclass(frozen=True)
class SolveResult(SummarisedResult):
    """Result of solving questions.

    Attributes:
        answers: the lines of `answers.jsonl`.
        curve: accuracy over rollouts, if references are known.
    """

    answers: list[dict[str, Any]]
    curve: list[CurvePoint]


def solve(options: SolveOptions, progress: Progress | None = None) -> SolveResult:
    """Search for each question, vote, and write the result atomically to `options.output`.

    Raises:
        InputError: for unusable questions, model or options, or an output that holds something else.
        EngineError: if the server goes away.
    """
    single = None
    if options.question is not None:
        single = Questions([Question("question", options.question.strip())], unanswered=1, rejected=[])
    prepared = prepare(options, single)
    references = {question.id: question.reference for question in prepared.questions.questions}
    # Otherwise the reference would guide the search, and votes by value would choose it.
    asked = [replace(question, reference=None) for question in prepared.questions.questions]
    prepared = replace(prepared, questions=replace(prepared.questions, questions=asked))
    identity = {**prepared.identity, "vote": options.vote, "trees": options.trees}
    run = AnsweringRun(options, options.output, "solve", asdict(options), identity)
    if run.finished():
        return read_solved(run.output, run.notes_on_finished(), was_finished=True)
    with run.opened():
        with run.timed("search"):
            trees = grow(options, prepared, run, progress or Progress(disable=True), blind=True)
        _mark(trees, references, options)
        _write(options, trees, run, notes_of(prepared, run))
        write_rejected(prepared.questions.rejected, run.results)
        run.publish()
    return read_solved(run.output, [], was_finished=False)


def answer_record(tree: Tree, by: Any) -> dict[str, Any]:
    """Return a tree's elected answer, with the text of the best path to it."""
    elected = vote(tree, by)
    steps = [] if elected.leaf is None else tree.steps(tree.nodes[elected.leaf])
    return {
        "id": tree.question.id,
        "question": tree.question.text,
        "answer": elected.answer,
        "votes": elected.votes,
        "share": round(elected.share, 4),
        "value": round(elected.value, 4),
        "rollouts": len(tree.rollouts),
        "reference": tree.question.reference,
        "right": elected.right,
        "solution": [asdict(step) for step in steps],
    }


def _mark(trees: Sequence[Tree], references: Mapping[str, str | None], options: SolveOptions) -> None:
    """Record which paths are right, now that the search is over."""
    leaves: list[tuple[Node, Leaf]] = []
    for tree in trees:
        tree.question = replace(tree.question, reference=references[tree.question.id])
        if tree.question.reference is None:
            continue
        for leaf in tree.leaves():
            steps = tuple(tree.steps(leaf))
            if options.value != MATH:  # the function determines the answer
                steps = () if leaf.answer is None else (Step("output", rf"\boxed{{{leaf.answer}}}"),)
            leaves.append((leaf, Leaf(tree.question, steps, cut_off=not leaf.closed)))
    values = MathValues(numeric=options.numeric)
    try:
        for (node, _), judgement in zip(leaves, values.judge([leaf for _, leaf in leaves]), strict=True):
            node.right = bool(judgement.right)
    finally:
        values.close()


def _write(options: SolveOptions, trees: Sequence[Tree], run: AnsweringRun, notes: Sequence[str]) -> None:
    records = [answer_record(tree, options.vote) for tree in trees]
    write_json_lines(run.results / ANSWERS_FILE, records)
    summary = summarise(trees)
    write_json(run.results / SUMMARY_FILE, {**summary, "notes": list(notes)})
    # By value only if something other than the reference provides the values.
    ways: list[VoteBy] = list(VOTES) if options.process_reward is not None or options.value != MATH else ["majority"]
    curve = accuracy_curve(trees, ways)
    tables = [summary_table(summary, note="")]
    if curve:
        write_json(run.results / CURVE_FILE, [asdict(point) for point in curve])
        draw_accuracy(run.results / PLOT_FILE, curve)
        tables.append(curve_table(curve))
    if options.trees:
        write_trees(run.results / TREES_FILE, trees)
    write_report(run.results / REPORT_FILE, trees, run.output.name, tables, notes)


def curve_table(curve: Sequence[CurvePoint]) -> Table:
    """Return accuracy over rollouts as a table: after 1, 2, 4, … and after the last."""
    shown = [point for point in curve if point.rollouts & (point.rollouts - 1) == 0][: CURVE_ROWS - 1]
    if curve[-1] not in shown:
        shown.append(curve[-1])
    ways = list(curve[-1].accuracy)
    rows: list[list[str | float]] = [
        [str(point.rollouts), *(f"{point.accuracy[by]:.1%}" for by in ways), f"{point.found:.1%}"] for point in shown
    ]
    return Table(
        "Right answers by number of rollouts",
        ["rollouts", *(f"by {by}" for by in ways), "on any path"],
        rows,
        note="Shares of the questions with a reference; Wilson's 95 % intervals.",
    )


def read_solved(path: str | Path, more_notes: Sequence[str] = (), *, was_finished: bool = True) -> SolveResult:
    """Read the result from a directory that `solve` wrote."""
    path = Path(path)
    answers = read_json_lines(path / ANSWERS_FILE)
    curve_file = path / CURVE_FILE
    points = read_json(curve_file) if curve_file.exists() else []
    curve = [
        CurvePoint(
            point["rollouts"],
            {by: Interval(**interval) for by, interval in point["accuracy"].items()},
            Interval(**point["found"]),
        )
        for point in points
    ]
    return SolveResult.read(path, more_notes, was_finished=was_finished, answers=answers, curve=curve)
