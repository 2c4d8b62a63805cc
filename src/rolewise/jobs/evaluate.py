"""The job of `rolewise eval`: a model plays suites, with raw answers, verdicts and a summary as the result."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest, read_json_lines, write_json, write_json_lines
from rolewise.core.limits import parse_json, read_yaml
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.run_directory import CONFIG_FILE
from rolewise.data.render import tokenizer_fingerprint
from rolewise.engines.base import Sampling
from rolewise.evaluation.accuracy import Score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.played_log import PlayedLog
from rolewise.evaluation.prompting import Prompter
from rolewise.evaluation.runner import Runner, draw
from rolewise.evaluation.suite import Suite, SuiteSettings, failing_in_one_line
from rolewise.evaluation.suites import make_suite
from rolewise.jobs.answering_run import ELSEWHERE, ENGINE_FILE, SUMMARY_FILE, AnsweringRun
from rolewise.jobs.engines import open_tokenizer
from rolewise.jobs.eval_report import suite_notes, write_eval_report
from rolewise.options.answers import EvalOptions
from rolewise.reporting.content import REPORT_FILE

ANSWERS_FOLDER = "answers"
VERDICTS_FOLDER = "verdicts"
OFFICIAL_FOLDER = "official"
_ELSEWHERE = ELSEWHERE | {"against", "data_dir", "cache_dir", "judge"}
"""Options that do not affect the answers; a judge's own model counts apart."""


@dataclass(frozen=True)
class EvalResult:
    """A finished evaluation.

    Attributes:
        path: output directory.
        scores: suite → its summary.
        examples: suite → score of every example by id.
        titles: suite → its title in tables.
        untested: suites that have only been run on made-up data.
        versions: suite → identification of its tasks and its rule.
        settings: the run's options.
        notes: notes for the reader, e.g. on input that the chat template can't represent.
        was_finished: True if the evaluation had already been finished.
    """

    path: Path
    scores: dict[str, list[Score]]
    examples: dict[str, dict[str, float]]
    titles: dict[str, str]
    untested: list[str]
    versions: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    notes: list[str]
    was_finished: bool


def evaluate(options: EvalOptions, progress: Progress | None = None) -> EvalResult:
    """Play suites and write the result atomically to `options.output`; a killed run loses no finished example.

    Args:
        options: the suites, the model and their settings.
        progress: progress display; None shows nothing.

    Raises:
        InputError: for a suite, model, data or judge that can't be used, or an output that holds something else.
        EngineError: if the server goes away.
    """
    load_plugins(split_list(options.plugin or ""))
    names = split_list(options.suite)
    if not names:
        raise InputError(f"suite is {options.suite!r}, which names no suite; name one, e.g. gsm8k")
    if len(set(names)) < len(names):
        raise InputError(f"suite {options.suite!r} names a suite twice; name each once")
    tokenizer = open_tokenizer(options)
    prompter = Prompter(tokenizer, options.chat_template, options.tool_format)
    settings = suite_settings(options)
    with ExitStack() as stack:
        suites: dict[str, Suite] = {}
        for name in names:
            suites[name] = make_suite(name, settings)
            stack.callback(suites[name].close)
        _check_samples(options.samples, suites)
        drawn = {name: draw(_examples(name, suite), options.limit, options.seed) for name, suite in suites.items()}
        run = _run_directory(options, suites, tokenizer_fingerprint(tokenizer))
        if run.finished():
            notes = run.notes_on_finished()
            result = read_eval(run.output, was_finished=True)
            return replace(result, notes=[*result.notes, *notes])
        with run.opened():
            _play(options, suites, drawn, prompter, tokenizer, run, progress or Progress(disable=True))
    return read_eval(run.output, was_finished=False)


def _check_samples(samples: int, suites: Mapping[str, Suite]) -> None:
    """Check that no suite that takes one answer per question gets several.

    Raises:
        InputError: naming the suites.
    """
    single = [name for name, suite in suites.items() if not suite.takes_samples]
    if samples > 1 and single:
        raise InputError(
            f"samples is {samples}, but {', '.join(single)} takes one answer per question; leave samples out there, "
            "and run the mathematics suites in a separate command"
        )


def _examples(name: str, suite: Suite) -> list[Example]:
    with failing_in_one_line(f"suite {name}: its examples"):
        examples = list(suite.examples())
        ids = Counter(example.id for example in examples)
    if not examples:
        raise InputError(f"suite {name} has no examples")
    [(most, count)] = ids.most_common(1)
    if count > 1:
        raise InputError(f"suite {name} has {count} examples with the id {most!r}; each needs a unique id")
    return examples


def _version(name: str, suite: Suite) -> dict[str, Any]:
    with failing_in_one_line(f"suite {name}: its version"):
        version = suite.version()
        json.dumps(version)  # it goes into the summary, so fail before the work starts
    return version


def read_eval(path: str | Path, *, was_finished: bool = True) -> EvalResult:
    """Read the result from a directory that `evaluate` wrote.

    Raises:
        InputError: if there is none.
    """
    path = Path(path)
    try:
        summary = parse_json((path / SUMMARY_FILE).read_text(encoding="utf-8"))
        scores = {
            name: [Score.from_json(line) for line in entry["scores"]] for name, entry in summary["suites"].items()
        }
        examples = {
            name: {record["id"]: float(record["score"]) for record in read_json_lines(_verdict_file(path, name))}
            for name in scores
        }
        titles = {name: entry["title"] for name, entry in summary["suites"].items()}
        untested = [name for name, entry in summary["suites"].items() if entry["untested"]]
        versions = {name: dict(entry["version"]) for name, entry in summary["suites"].items()}
        settings = dict(read_yaml(path / CONFIG_FILE))
        notes = list(summary["notes"])
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: holds no finished evaluation; give the --output of a rolewise eval") from error
    return EvalResult(path, scores, examples, titles, untested, versions, settings, notes, was_finished)


def suite_settings(options: EvalOptions) -> SuiteSettings:
    """Return the settings that suites may read, from the options and the environment.

    Raises:
        InputError: for a judge that is not written as `name=value,…`, or a data folder that does not exist.
    """
    data = options.data_dir or os.environ.get("ROLEWISE_DATA")
    if data is not None and not Path(data).is_dir():
        raise InputError(
            f"{data}: no such folder; local copies of data sets are expected there (data_dir, ROLEWISE_DATA)"
        )
    default_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rolewise"
    return SuiteSettings(
        data=None if data is None else Path(data),
        # Suites may start processes with another working directory.
        cache=Path(options.cache_dir or os.environ.get("ROLEWISE_CACHE") or default_cache).absolute(),
        native_tools=options.native_tools,
        samples=options.samples,
        judge=_mapping(options.judge),
    )


def _play(
    options: EvalOptions,
    suites: Mapping[str, Suite],
    drawn: Mapping[str, list[Example]],
    prompter: Prompter,
    tokenizer: Any,
    run: AnsweringRun,
    progress: Progress,
) -> None:
    logs = {name: PlayedLog(run.work / f"{number}.jsonl") for number, name in enumerate(suites)}
    if any(len(logs[name].ids) < len(drawn[name]) for name in suites):
        resumes = any(log.ids for log in logs.values())
        with run.engine(tokenizer, resumes=resumes) as engine:
            sampling = Sampling(
                temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, seed=options.seed
            )
            runner = Runner(engine, prompter, sampling, options.max_new_tokens)
            for name, suite in suites.items():
                with run.timed(name), logs[name] as log:
                    _play_suite(name, suite, drawn[name], runner, log, progress)
                run.keep_notes([*prompter.notes, *engine.notes])
                write_json(run.work / ENGINE_FILE, engine.describe())
    _write_results(suites, drawn, logs, run)
    run.publish()


def _play_suite(
    name: str, suite: Suite, examples: Sequence[Example], runner: Runner, log: PlayedLog, progress: Progress
) -> None:
    total, count = log.total, len(log.ids)
    task = progress.add_task(_said(name, total, count), total=len(examples), completed=count)
    for played in runner.play(suite, [example for example in examples if example.id not in log.ids]):
        log.add(played)
        total, count = total + played.verdict.score, count + 1
        progress.update(task, completed=count, description=_said(name, total, count))


def _said(name: str, total: float, count: int) -> str:
    return f"{name} · {total / count:.1%}" if count else name


def _write_results(
    suites: Mapping[str, Suite],
    drawn: Mapping[str, list[Example]],
    logs: Mapping[str, PlayedLog],
    run: AnsweringRun,
) -> None:
    summary: dict[str, Any] = {"suites": {}, "notes": run.notes()}
    shown: dict[str, list[dict[str, Any]]] = {}
    for name, suite in suites.items():
        # In the suite's order, not in the order of completion, so that equal runs give equal files.
        by_id = {record["id"]: record for record in logs[name].records()}
        records = [by_id[example.id] for example in drawn[name]]
        results = [
            (example, Verdict(record["score"], record["reason"], record["detail"]))
            for example, record in zip(drawn[name], records, strict=True)
        ]
        answers = ({"id": r["id"], "category": r["category"], "asked": r["asked"]} for r in records)
        verdicts = ({key: r[key] for key in ("id", "category", "score", "reason", "detail")} for r in records)
        write_json_lines(run.results / ANSWERS_FOLDER / f"{_file_name(name)}.jsonl", answers)
        write_json_lines(_verdict_file(run.results, name), verdicts)
        official = _owned(run.results / OFFICIAL_FOLDER / _file_name(name))
        with official as folder, failing_in_one_line(f"suite {name}: its official files"):
            suite.write_official(results, folder)
        with failing_in_one_line(f"suite {name}: its summary"):
            scores = [score.to_json() for score in suite.summarise(results)]
        version = _version(name, suite)
        with failing_in_one_line(f"suite {name}: its notes"):
            summary["notes"] += [f"{name}: {note}" for note in suite.notes]
        summary["notes"] += suite_notes(name, records, version)
        summary["suites"][name] = {
            "title": suite.title,
            "untested": suite.untested,
            "examples": len(records),
            "scores": scores,
            "version": version,
        }
        shown[name] = records
    write_json(run.results / SUMMARY_FILE, summary)
    write_eval_report(run.results / REPORT_FILE, run.output.name, summary, shown)


@contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    """Provide a folder that is removed again if it stays empty."""
    folder.mkdir(parents=True)
    yield folder
    for path in (folder, folder.parent):
        if not any(path.iterdir()):
            path.rmdir()


def _run_directory(options: EvalOptions, suites: Mapping[str, Suite], tokenizer: str) -> AnsweringRun:
    settings = asdict(options) | {"suite": ",".join(suites)}  # in one form, regardless of how the list was written
    # The address and key of judge and simulator do not affect their replies.
    judge = {key: value for key, value in _mapping(options.judge).items() if not key.endswith(("url", "key"))}
    identity = {
        "tokenizer": tokenizer,
        "settings": {key: value for key, value in settings.items() if key not in _ELSEWHERE},
        "judge": judge,
        "suites": {name: _version(name, suite) for name, suite in suites.items()},
        "plugins": plugin_digests(split_list(options.plugin or "")),
    }
    return AnsweringRun(options, options.output, "eval", settings, identity)


def _mapping(text: str | None) -> dict[str, str]:
    """Read `a=1,b=2`, or a mapping as JSON, which is how a YAML file's mapping arrives.

    Raises:
        InputError: for any other form.
    """
    if not text:
        return {}
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return {str(key): str(entry) for key, entry in value.items()}
    pairs = [entry.partition("=") for entry in split_list(text)]
    if not all(equals and name and entry for name, equals, entry in pairs):
        raise InputError(f"judge is {text!r}; give it as url=http://localhost:8000/v1,model=NAME")
    return {name: entry for name, _, entry in pairs}


def _verdict_file(path: Path, name: str) -> Path:
    return path / VERDICTS_FOLDER / f"{_file_name(name)}.jsonl"


def _file_name(suite: str) -> str:
    """Convert a suite's name to a file name; a digest replaces a long part, since many parts may follow the colon."""
    base, colon, parts = suite.partition(":")
    base = base if len(base) <= 60 else f"{base[:40]}-{digest(base)}"
    if not colon:
        return base
    kept = "".join(c if c.isalnum() or c in "_+-" else "_" for c in parts)
    return f"{base}-{kept}" if len(kept) <= 60 else f"{base}-{digest(suite)}"
