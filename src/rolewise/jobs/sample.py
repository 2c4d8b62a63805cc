"""Rejection sampling for RSFT: a model answers each question several times, right answers become conversations.

This is the job of `rolewise sample`. `rolewise label` and `rolewise sft` read the result like any conversations.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest, read_json, write_json, write_json_lines
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.data.readers import Rejected, write_conversations, write_rejected
from rolewise.data.readers.write import as_record
from rolewise.data.render import tokenizer_fingerprint
from rolewise.data.sources import SourceMix, parse_sources
from rolewise.engines.base import Sampling
from rolewise.evaluation.answer_checks import make_checker
from rolewise.evaluation.played_log import PlayedLog
from rolewise.evaluation.prompting import Prompter
from rolewise.evaluation.rejection_sampling import RejectionSampling, answered, right_answers
from rolewise.evaluation.runner import Runner
from rolewise.jobs.answering_run import ELSEWHERE, SUMMARY_FILE, AnsweringRun
from rolewise.jobs.engines import open_tokenizer
from rolewise.options.answers import SampleOptions
from rolewise.reporting.html import Table

CONVERSATIONS_FILE = "conversations.jsonl"
ANSWERS_FILE = "answers.jsonl"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class SampleSummary:
    """Numbers of a sampling run.

    Attributes:
        questions: questions asked; `unchecked` others were not, since they contain nothing to check.
        answers: answers to them, of which `right` are right.
        without: questions without a right answer.
        kept: conversations written.
        notes: notes for the reader, e.g. on input that the chat template can't represent.
    """

    questions: int
    unchecked: int
    answers: int
    right: int
    without: int
    kept: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SampleResult:
    """A finished sampling run: its path, the `conversations` to train on, its summary, and notes for the user if it had
    been finished before."""

    path: Path
    conversations: Path
    summary: SampleSummary
    was_finished: bool
    notes: list[str] = field(default_factory=list)


def sample(options: SampleOptions, progress: Progress | None = None) -> SampleResult:
    """Sample, check and write atomically to `options.output`; a killed run loses no finished question.

    Raises:
        InputError: for unusable data, model, checker or options, or an output that holds something else.
        EngineError: if the server goes away.
    """
    load_plugins(split_list(options.plugin or ""))
    tokenizer = open_tokenizer(options)
    prompter = Prompter(tokenizer, options.chat_template, options.tool_format)
    checker = make_checker(options.check)
    with ExitStack() as stack:
        stack.callback(checker.close)
        mix = SourceMix(
            parse_sources(options.data), format=options.format, skip_invalid=options.skip_invalid, limit=options.limit
        )
        conversations = list(mix)
        suite = RejectionSampling(
            conversations, checker, samples=options.samples, max_new_tokens=options.max_new_tokens
        )
        if not suite.examples():
            raise InputError(f"{options.data}: has no reference that check {options.check} can read; give another")
        settings = asdict(options)
        identity = {
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "data": digest([as_record(conversation) for conversation in conversations]),
            "settings": {key: value for key, value in settings.items() if key not in ELSEWHERE | {"data"}},
            "plugins": plugin_digests(split_list(options.plugin or "")),
        }
        run = AnsweringRun(options, options.output, "sample", settings, identity)
        if not run.finished():
            with run.opened():
                with run.timed("sample"):
                    _play(options, suite, prompter, tokenizer, run, progress or Progress(disable=True))
                _write(options, suite, mix.rejected, run)
            return _read(run.output, was_finished=False)
        notes = run.notes_on_finished()
    result = _read(run.output, was_finished=True)
    return replace(result, notes=[*result.notes, *notes])


def _play(
    options: SampleOptions,
    suite: RejectionSampling,
    prompter: Prompter,
    tokenizer: Any,
    run: AnsweringRun,
    progress: Progress,
) -> None:
    log = PlayedLog(run.work / LOG_FILE)
    left = [example for example in suite.examples() if example.id not in log.ids]
    if not left:
        return
    task = progress.add_task("sample", total=len(suite.examples()), completed=len(log.ids))
    with run.engine(tokenizer, resumes=bool(log.ids)) as engine, log:
        sampling = Sampling(
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, seed=options.seed
        )
        total, count = log.total, len(log.ids)
        for played in Runner(engine, prompter, sampling).play(suite, left):
            run.keep_notes([*prompter.notes, *engine.notes])  # before the answer, which is not requested again
            log.add(played)
            total, count = total + played.verdict.score, count + 1
            progress.update(task, completed=count, description=f"sample · {total / count:.1%} right")


def _write(options: SampleOptions, suite: RejectionSampling, rejected: list[Rejected], run: AnsweringRun) -> None:
    by_id = {record["id"]: record for record in PlayedLog(run.work / LOG_FILE).records()}
    # In the data's order, not in the order of completion, so that equal runs give equal files.
    details = [(example.data, by_id[example.id]) for example in suite.examples()]
    kept = [
        answered(question, answer)
        for question, record in details
        for answer in right_answers(record["detail"], options.keep)
    ]
    write_conversations(kept, run.results / CONVERSATIONS_FILE)
    lines = ({"source": question.source, **r["detail"], "error": r["reason"]} for question, r in details)
    write_json_lines(run.results / ANSWERS_FILE, lines)
    right = [sum(record["detail"]["right"]) for _, record in details]
    summary = SampleSummary(
        questions=len(details),
        unchecked=suite.unchecked,
        answers=sum(len(record["detail"]["right"]) for _, record in details),
        right=sum(right),
        without=sum(count == 0 for count in right),
        kept=len(kept),
        notes=run.notes(),
    )
    write_json(run.results / SUMMARY_FILE, asdict(summary))
    write_rejected(rejected, run.results)
    run.publish()


def _read(path: Path, *, was_finished: bool) -> SampleResult:
    summary = SampleSummary(**read_json(path / SUMMARY_FILE))
    return SampleResult(path, path / CONVERSATIONS_FILE, summary, was_finished, summary.notes)


def summary_table(summary: SampleSummary) -> Table:
    """Return the summary as a table."""
    share = summary.right / summary.answers if summary.answers else 0.0
    rows: list[list[str | float]] = [
        ["questions", summary.questions],
        ["skipped, nothing to check", summary.unchecked],
        ["answers", summary.answers],
        ["right", f"{summary.right:,} ({share:.1%})"],
        ["questions without a right answer", summary.without],
        ["conversations kept", summary.kept],
    ]
    return Table("Samples", ["", "count"], rows)
