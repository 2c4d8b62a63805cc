"""Rejection sampling for RSFT: a model answers each question several times, right answers become conversations.

This is the job of `rolewise sample`. `rolewise label` and `rolewise sft` read the result like any conversations.
"""

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rolewise import __version__
from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json, write_text
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.run_directory import RunDirectory
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
from rolewise.jobs.engines import engine_fingerprint, open_engine, open_tokenizer
from rolewise.jobs.resumed_answers import check_finished, check_resumed
from rolewise.options.answers import SampleOptions
from rolewise.reporting.html import Table

CONVERSATIONS_FILE = "conversations.jsonl"
ANSWERS_FILE = "answers.jsonl"
SUMMARY_FILE = "summary.json"
LOG_FILE = "log.jsonl"
ENGINE_FILE = "engine.json"
NOTES_FILE = "notes.json"
ELSEWHERE = {"model", "data", "output", "server", "served_model", "api_key", "concurrency", "batch_size", "plugin"}
"""Options for locations and speed: they do not affect the answers. For `served_model`, the served model itself is
checked."""


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
            "model": engine_fingerprint(options),
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "data": digest([as_record(conversation) for conversation in conversations]),
            "settings": {key: value for key, value in settings.items() if key not in ELSEWHERE},
            "plugins": plugin_digests(split_list(options.plugin or "")),
            "version": __version__,
        }
        run = RunDirectory(options.output, "sample", settings, identity)
        if not run.finished():
            with run.opened(not_worth_keeping=[ENGINE_FILE, NOTES_FILE]):
                with run.timed("sample"):
                    _play(options, suite, prompter, tokenizer, run, progress or Progress(disable=True))
                _write(options, suite, mix.rejected, run)
            return _read(run.output, was_finished=False)
        notes = check_finished(options, run.output)
    result = _read(run.output, was_finished=True)
    return replace(result, notes=[*result.notes, *notes])


def _play(
    options: SampleOptions,
    suite: RejectionSampling,
    prompter: Prompter,
    tokenizer: Any,
    run: RunDirectory,
    progress: Progress,
) -> None:
    log = PlayedLog(run.work / LOG_FILE)
    left = [example for example in suite.examples() if example.id not in log.ids]
    if not left:
        return
    task = progress.add_task("sample", total=len(suite.examples()), completed=len(log.ids))
    with open_engine(options, tokenizer) as engine, log:
        if log.ids:
            earlier = json.loads((run.work / ENGINE_FILE).read_text(encoding="utf-8"))
            check_resumed(earlier, engine.describe(), run.partial)
        write_json(run.work / ENGINE_FILE, engine.describe())
        sampling = Sampling(
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, seed=options.seed
        )
        total, count = log.total, len(log.ids)
        earlier_notes = said = _notes(run)
        for played in Runner(engine, prompter, sampling).play(suite, left):
            notes = list(dict.fromkeys([*earlier_notes, *prompter.notes, *engine.notes]))
            if notes != said:
                write_json(run.work / NOTES_FILE, said := notes)  # before the answer, which is not requested again
            log.add(played)
            total, count = total + played.verdict.score, count + 1
            progress.update(task, completed=count, description=f"sample · {total / count:.1%} right")


def _write(options: SampleOptions, suite: RejectionSampling, rejected: list[Rejected], run: RunDirectory) -> None:
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
    write_text(run.results / ANSWERS_FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    right = [sum(record["detail"]["right"]) for _, record in details]
    summary = SampleSummary(
        questions=len(details),
        unchecked=suite.unchecked,
        answers=sum(len(record["detail"]["right"]) for _, record in details),
        right=sum(right),
        without=sum(count == 0 for count in right),
        kept=len(kept),
        notes=_notes(run),
    )
    write_json(run.results / SUMMARY_FILE, asdict(summary))
    write_rejected(rejected, run.results)
    engine = json.loads((run.work / ENGINE_FILE).read_text(encoding="utf-8"))
    run.publish({"model": options.model, "engine": engine})


def _notes(run: RunDirectory) -> list[str]:
    """Return the notes so far, including those of earlier starts."""
    path = run.work / NOTES_FILE
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _read(path: Path, *, was_finished: bool) -> SampleResult:
    summary = SampleSummary(**json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8")))
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
