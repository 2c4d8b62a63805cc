"""Tree search over questions: the job of `rolewise search` and the basis of `rolewise solve`."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from rolewise.core.behaviour import BehaviourSet, behaviours_of
from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json, write_text
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.statistics import wilson
from rolewise.data.chat_template import template_text
from rolewise.data.readers import describe_rejects, write_rejected
from rolewise.data.render import tokenizer_fingerprint
from rolewise.jobs.answering_run import ELSEWHERE, ENGINE_FILE, SUMMARY_FILE, AnsweringRun, SummarisedResult
from rolewise.jobs.engines import open_tokenizer
from rolewise.jobs.path_judges import check_values, open_values, values_identity
from rolewise.jobs.questions import Questions, read_questions
from rolewise.options.answers import SearchOptions
from rolewise.reporting.content import REPORT_FILE, Table
from rolewise.reporting.tree_html import write_tree_report
from rolewise.search.policies import Policy, PromptPolicy, TokenPolicy
from rolewise.search.tree import TREES_FILE, Question, Tree, tree_from, write_trees
from rolewise.search.tree_search import TreeSearch
from rolewise.search.votes import vote

KEPT_TREES = "trees"
_ELSEWHERE = ELSEWHERE | {"data", "trees", "vote"}
"""Options that do not affect the trees: locations, speed, further use of the trees."""
GUIDED = "The references guided the search; rolewise solve measures the answers without them."
NODES_ON_PAGE = 100_000
"""Maximum number of nodes, over all trees, in the report; `rolewise view` shows more."""


class SearchResult(SummarisedResult):
    """A finished search, whose directory has `trees.jsonl`."""


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to start: the inputs that its options name have been read and checked."""

    tokenizer: PreTrainedTokenizerBase
    policy: Policy
    questions: Questions
    notes: list[str]
    identity: dict[str, Any]


def search_trees(options: SearchOptions, progress: Progress | None = None) -> SearchResult:
    """Search a tree for each question and write the result atomically to `options.output`.

    A killed run loses no finished rollout. With one rollout at a time per tree, its results equal those of an
    uninterrupted run, up to the rounding of the model's arithmetic.

    Raises:
        InputError: for unusable questions, model, value or options, or an output that holds something else.
        EngineError: if the server goes away.
    """
    prepared = prepare(options)
    run = AnsweringRun(options, options.output, "search", asdict(options), prepared.identity)
    if run.finished():
        return SearchResult.read(run.output, run.notes_on_finished(), was_finished=True)
    with run.opened():
        with run.timed("search"):
            trees = grow(options, prepared, run, progress or Progress(disable=True))
        notes = notes_of(prepared, run)
        summary = summarise(trees)
        write_trees(run.results / TREES_FILE, trees)
        write_json(run.results / SUMMARY_FILE, {**summary, "notes": notes})
        write_report(run.results / REPORT_FILE, trees, run.output.name, [summary_table(summary)], notes)
        write_rejected(prepared.questions.rejected, run.results)
        run.publish()
    return SearchResult.read(run.output, was_finished=False)


def prepare(options: SearchOptions, questions: Questions | None = None) -> Prepared:
    """Read the inputs that the options name, except the model.

    Args:
        options: options of the search.
        questions: questions to use instead of those in `options.data`.

    Raises:
        InputError: for an unusable input.
    """
    load_plugins(split_list(options.plugin or ""))
    tokenizer = open_tokenizer(options)
    behaviours = behaviours_of(options.model, options.behaviours)
    policy, notes = _policy(options, tokenizer, behaviours)
    check_values(options)  # reports an unknown name before any work
    if questions is None:
        questions = read_questions(
            options.data, format=options.format, skip_invalid=options.skip_invalid, limit=options.limit
        )
    settings = {key: value for key, value in asdict(options).items() if key not in _ELSEWHERE}
    identity = {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "template": digest(template_text(tokenizer, options.chat_template)),
        "questions": digest([asdict(question) for question in questions.questions]),
        "behaviours": digest(behaviours.as_record()),
        "settings": {**settings, "policy": policy.kind, "behaviours": None, "chat_template": None}
        | values_identity(options),
        "plugins": plugin_digests(split_list(options.plugin or "")),
    }
    return Prepared(tokenizer, policy, questions, [*notes, *describe_rejects(questions.rejected)], identity)


def grow(
    options: SearchOptions, prepared: Prepared, run: AnsweringRun, progress: Progress, *, blind: bool = False
) -> list[Tree]:
    """Return the trees in the order of the questions, continuing those of an earlier start.

    The engine's description and the notes (`notes_of`) are written to the run's working directory.

    Args:
        blind: the questions have no references; do not report that.
    """
    questions = prepared.questions.questions
    keeper = _Keeper(run.work / KEPT_TREES, questions)
    begun = keeper.trees()
    settings = options.settings()
    done = {tree.question.id: tree for tree in begun.values() if tree.ended is not None}
    if len(done) < len(questions):
        bar = _Bar(progress, len(questions), settings.rollouts, begun, blind=blind)
        with ExitStack() as stack:
            values = open_values(options, blind=blind)
            stack.callback(values.close)
            engine = stack.enter_context(run.engine(prepared.tokenizer, resumes=bool(begun)))
            trees = TreeSearch(engine, prepared.policy, values, settings)

            def keep_notes() -> None:
                run.keep_notes([*trees.notes, *values.notes, *engine.notes])

            def after_rollout(tree: Tree) -> None:
                keep_notes()  # before the tree: a finished tree is not processed again
                keeper.keep(tree)
                bar.rollout(tree)

            for tree in trees.run(questions, begun=begun, on_rollout=after_rollout):
                if tree.question.id not in done:
                    keeper.keep(tree)
                    done[tree.question.id] = tree
                bar.ended(tree)
            keep_notes()
            usage = getattr(engine, "usage", None)
            facts = {**engine.describe(), **({} if usage is None else {"usage": asdict(usage)})}
            write_json(run.work / ENGINE_FILE, facts)
    return [done[question.id] for question in questions]


def notes_of(prepared: Prepared, run: AnsweringRun) -> list[str]:
    """Return the notes for the reader on the trees from `grow`, over all starts of the run."""
    return list(dict.fromkeys([*prepared.notes, *run.notes()]))


def summarise(trees: Sequence[Tree]) -> dict[str, Any]:
    """Return the numbers that describe a search: how many trees, how large, how often right."""
    known = [tree for tree in trees if tree.question.reference is not None]
    leaves = [(tree, tree.nodes[number]) for tree in trees for number in dict.fromkeys(tree.rollouts)]
    ended: dict[str, int] = {}
    for tree in trees:
        ended[str(tree.ended)] = ended.get(str(tree.ended), 0) + 1
    right = sum(any(tree.nodes[number].right for number in tree.rollouts) for tree in known)
    first = sum(bool(tree.rollouts) and tree.nodes[tree.rollouts[0]].right is True for tree in known)
    majority = sum(vote(tree).right is True for tree in known)
    return {
        "policy": trees[0].policy,
        "questions": len(trees),
        "with_reference": len(known),
        "rollouts": sum(len(tree.rollouts) for tree in trees),
        "nodes": sum(len(tree.nodes) - 1 for tree in trees),
        "mean_depth": fmean(tree.depth(leaf) for tree, leaf in leaves) if leaves else 0.0,
        "paths": len(leaves),
        "paths_with_answer": sum(leaf.answer is not None for _, leaf in leaves),
        "generated_tokens": sum(tree.tokens for tree in trees),
        "ended": ended,
        "right": {"first rollout": first, "majority": majority, "any rollout": right},
    }


def summary_table(summary: dict[str, Any], note: str = GUIDED) -> Table:
    """Return the summary as a table; shares have Wilson's 95 % intervals over questions."""
    rows: list[list[str | float]] = [
        ["questions, of which with a reference", f"{summary['questions']:,}, {summary['with_reference']:,}"],
        ["rollouts", f"{summary['rollouts']:,}"],
        ["steps in the trees", f"{summary['nodes']:,}"],
        ["paths, of which with an answer", f"{summary['paths']:,}, {summary['paths_with_answer']:,}"],
        ["steps per path", f"{summary['mean_depth']:.1f}"],
        ["tokens generated", f"{summary['generated_tokens']:,}"],
        ["ended by", ", ".join(f"{name} {count:,}" for name, count in sorted(summary["ended"].items()))],
    ]
    if known := summary["with_reference"]:
        rows += [[f"right, {name}", f"{wilson(count, known):.1%}"] for name, count in summary["right"].items()]
    return Table("Search", ["", ""], rows, note if known else "")


def write_report(path: Path, trees: Sequence[Tree], title: str, tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Write the page of the first trees, as many as a browser opens without delay."""
    shown: list[Tree] = []
    nodes = 0
    for tree in trees:
        nodes += len(tree.nodes)
        if shown and nodes > NODES_ON_PAGE:
            break
        shown.append(tree)
    subtitle = f"{len(trees):,} questions" + (f", the first {len(shown):,} shown" if len(shown) < len(trees) else "")
    write_tree_report(path, shown, title=title, subtitle=subtitle, summary=tables, notes=notes)


def _policy(
    options: SearchOptions, tokenizer: PreTrainedTokenizerBase, behaviours: BehaviourSet
) -> tuple[Policy, list[str]]:
    """Return the policy that requests steps, and a note on the choice."""
    if options.policy == "prompts":
        return PromptPolicy(tokenizer, behaviours, options.chat_template), []
    has_them = set(behaviours.tokens) <= set(tokenizer.get_vocab())
    if options.policy == "tokens" or has_them:
        return TokenPolicy(tokenizer, behaviours, options.chat_template), []
    said = "The model has no functional tokens: it is prompted for each kind of step (policy prompts)"
    return PromptPolicy(tokenizer, behaviours, options.chat_template), [said]


class _Keeper:
    """Saves each tree to its own file after every rollout, so that a kill loses only the rollouts in progress."""

    def __init__(self, folder: Path, questions: Sequence[Question]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._places = {question.id: place for place, question in enumerate(questions)}

    def keep(self, tree: Tree) -> None:
        """Write the current state of the tree."""
        write_text(self._path(tree.question.id), json.dumps(tree.as_record(), ensure_ascii=False))

    def trees(self) -> dict[str, Tree]:
        """Return the saved trees, by question id."""
        kept = {}
        for name in self._places:
            path = self._path(name)
            if path.exists():
                try:
                    kept[name] = tree_from(json.loads(path.read_bytes()))
                except (ValueError, InputError) as error:
                    raise InputError(f"{path}: {error}; remove it to search this question again") from error
        return kept

    def _path(self, question: str) -> Path:
        return self._folder / f"{self._places[question]:06d}.json"


class _Bar:
    """Progress bar of rollouts; unless the search is blind, also counts finished questions with a right answer."""

    def __init__(
        self, progress: Progress, questions: int, rollouts: int, begun: dict[str, Tree], *, blind: bool
    ) -> None:
        self._progress, self._questions, self._rollouts = progress, questions, rollouts
        self._ended: set[str] = set()
        self._right = 0
        self._blind = blind
        self._counted = {name: len(tree.rollouts) for name, tree in begun.items() if tree.ended is None}
        completed = sum(self._counted.values())
        self._task = progress.add_task("search", total=questions * rollouts, completed=completed)

    def rollout(self, tree: Tree) -> None:
        """Count a finished rollout, and its tree if that has ended."""
        self._counted[tree.question.id] = self._counted.get(tree.question.id, 0) + 1
        if tree.ended is not None:
            self.ended(tree)  # first, so that the line of the last rollout includes its tree
        self._progress.advance(self._task)

    def ended(self, tree: Tree) -> None:
        """Count a finished tree; a repeated call counts once."""
        if tree.question.id in self._ended:
            return
        self._ended.add(tree.question.id)
        self._right += any(tree.nodes[number].right for number in tree.rollouts)
        said = f"search · {len(self._ended)} of {self._questions} questions"
        if not self._blind:
            said += f", {self._right} with a right answer"
        self._progress.update(self._task, description=said)
        # Rollouts that a tree skips by ending early count as done, too.
        self._progress.advance(self._task, self._rollouts - self._counted.get(tree.question.id, 0))
