"""The job of `rolewise warmup`, RFTT's first phase: teaches a model functional tokens from trees."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rolewise.core.behaviour import BehaviourSet, behaviours_of
from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json, write_json_lines
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.engines.base import Sampling
from rolewise.jobs.answering_run import ELSEWHERE, SUMMARY_FILE, AnsweringRun, SummarisedResult
from rolewise.jobs.engines import open_tokenizer
from rolewise.options.training import WarmupOptions
from rolewise.reporting.content import Table
from rolewise.search.tree import Tree, read_trees
from rolewise.search.verdicts import VerdictWriter
from rolewise.search.warmup_data import Pair, WarmupPaths, WarmupSample, WarmupSettings, choose
from rolewise.training import processes
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting import make_weighting

CONVERSATIONS_FILE = "conversations.jsonl"
VERDICTS_FILE = "verdicts.jsonl"
_ELSEWHERE = ELSEWHERE | {"trees", "behaviours"}
_OF_DATA = (
    *("merged", "plain", "limit", "verify_tokens", "temperature", "data_seed", "behaviours", "chat_template"),
    *("model", "trees", "output", "server", "served_model", "api_key", "concurrency"),
    *("dtype", "batch_size", "trust_remote_code"),
)


class WarmupData(SummarisedResult):
    """Data built from trees: number of samples per kind, dropped samples with reasons, behaviours and lengths. Its
    directory has `conversations.jsonl`."""

    @property
    def conversations(self) -> Path:
        """File to train on."""
        return self.path / CONVERSATIONS_FILE


def check_training_options(options: WarmupOptions, training: WeightedSFTConfig) -> None:
    """Check for errors that would appear only after the data is built, or in one of several processes.

    Raises:
        InputError: for an unknown weighting, or one that needs more than roles; for trees with several processes.
    """
    if options.trees is not None and processes.count() > 1:
        raise InputError(
            "the data is built by one process; build it first (data_only), then train on it (data) with several"
        )
    if options.data_only:
        return
    load_plugins(split_list(options.plugin or ""))
    if make_weighting(training.weighting, training.weighting_args).needs_scores:
        raise InputError(
            f"weighting {training.weighting} needs a labelled data set, but these are conversations with functional "
            "tokens; choose another"
        )


def data_directory(options: WarmupOptions) -> str:
    """Return the directory of the data: the output itself if only data is requested, else one beside it."""
    return options.output if options.data_only else f"{options.output.rstrip('/')}-data"


def make_warmup_data(options: WarmupOptions, progress: Progress | None = None) -> WarmupData:
    """Build conversations from `options.trees` atomically; a killed run requests no verify step twice.

    Raises:
        InputError: for trees that are unusable or yield no sample, or an output that holds something else.
        EngineError: if the server goes away.
    """
    if options.trees is None:
        raise InputError("data is built from trees; give trees, or train on existing data")
    behaviours = behaviours_of(options.model, options.behaviours)
    wanted = WarmupSettings(merged=options.merged, plain=options.plain, limit=options.limit, seed=options.data_seed)
    trees = _read_trees(options.trees)
    settings = {name: getattr(options, name) for name in _OF_DATA}
    identity = {
        "trees": digest([digest(tree.as_record()) for tree in trees]),
        "behaviours": digest(behaviours.as_record()),
        "settings": {k: v for k, v in settings.items() if k not in _ELSEWHERE},
    }
    config = {**settings, "output": data_directory(options), "data_only": True}
    run = AnsweringRun(options, data_directory(options), "warmup", config, identity)
    if run.finished():
        return WarmupData.read(run.output, run.notes_on_finished(), was_finished=True)
    paths = WarmupPaths(behaviours, wanted)
    try:
        found: list[tuple[Tree, list[Pair], list[WarmupSample]]] = [(tree, *paths.look_at(tree)) for tree in trees]
    except InputError as error:
        raise InputError(f"{options.trees}: {error}") from error
    if not paths.counts.with_right:
        raise InputError(
            f"{options.trees}: none of {len(trees):,} trees has a right path, so there is nothing to learn; search "
            "with more rollouts, easier questions or a stronger model"
        )
    with run.opened():
        with run.timed("verify"):
            verdicts = _verdicts(options, found, run, progress or Progress(disable=True))
        samples = []
        for tree, pairs, plain in found:
            merged = [paths.merge(pair, verdicts[_name(tree, number)]) for number, pair in enumerate(pairs)]
            samples += [sample for sample in merged if sample is not None] + plain
        chosen = choose(samples, wanted, paths.counts)
        if not chosen:
            told = "; ".join(f"{reason} ({count})" for reason, count in paths.counts.dropped.most_common())
            raise InputError(f"{options.trees}: no sample is left ({told})")
        summary, notes = _summarise(paths, chosen, behaviours)
        _write(chosen, behaviours, run, summary, notes)
        run.publish()
    return WarmupData.read(run.output, was_finished=False)


def quality_tables(summary: dict[str, Any]) -> list[Table]:
    """Return tables that describe the data."""
    counts = [
        ["trees", summary["trees"]],
        ["with a right path", summary["with_right"]],
        ["with a right and a wrong one", summary["with_both"]],
        ["samples merged by a verify step", summary["merged"]],
        ["right paths alone", summary["plain"]],
        *([f"dropped: {reason}", count] for reason, count in summary["dropped"].items()),
        ["words per sample, median", summary["words"]["median"]],
        ["words per sample, maximum", summary["words"]["longest"]],
    ]
    steps = sum(summary["behaviours"].values())
    shares = [[name, f"{count:,}", f"{count / steps:.1%}"] for name, count in summary["behaviours"].items()]
    return [
        Table("Warm-up data", ["", "count"], [[str(name), f"{count:,}"] for name, count in counts]),
        Table("Steps by behaviour", ["behaviour", "steps", "share"], [list(row) for row in shares]),
    ]


def _read_trees(path: str) -> list[Tree]:
    """Read the trees of a file.

    Raises:
        InputError: if there are none, or two for one question.
    """
    trees = list(read_trees(path))
    if not trees:
        raise InputError(f"{path}: contains no trees; create some with rolewise search")
    [(most, count)] = Counter(tree.question.id for tree in trees).most_common(1)
    if count > 1:
        raise InputError(f"{path}: {count} trees belong to the question {most!r}; keep one of them")
    return trees


def _verdicts(
    options: WarmupOptions,
    found: Sequence[tuple[Tree, list[Pair], list[WarmupSample]]],
    run: AnsweringRun,
    progress: Progress,
) -> dict[str, str]:
    """Return the verify step of each pair by name; steps of an earlier start were saved line by line."""
    log = run.work / VERDICTS_FILE
    verdicts = dict(_read_verdicts(log))
    wanted = {_name(tree, number): pair for tree, pairs, _ in found for number, pair in enumerate(pairs)}
    missing = {name: pair for name, pair in wanted.items() if name not in verdicts}
    if missing:
        task = progress.add_task("verify steps", total=len(wanted), completed=len(wanted) - len(missing))
        tokenizer = open_tokenizer(options)
        sampling = Sampling(
            max_new_tokens=options.verify_tokens, temperature=options.temperature, top_p=0.95, seed=options.data_seed
        )
        with run.engine(tokenizer, resumes=bool(verdicts)) as engine, log.open("a", encoding="utf-8") as stream:
            writer = VerdictWriter(engine, tokenizer, sampling, options.chat_template)
            for name, text in writer.write(missing.items()):
                verdicts[name] = text
                stream.write(json.dumps([name, text]) + "\n")
                stream.flush()
                progress.advance(task)
    return verdicts


def _read_verdicts(log: Path) -> list[tuple[str, str]]:
    """Read the saved verify steps; remove a last line that a kill cut short."""
    if not log.exists():
        return []
    whole = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    log.write_bytes(b"".join(whole))
    return [(name, text) for name, text in map(json.loads, whole)]


def _name(tree: Tree, number: int) -> str:
    return f"{tree.question.id} {number}"


def _summarise(
    paths: WarmupPaths, samples: Sequence[WarmupSample], behaviours: BehaviourSet
) -> tuple[dict[str, Any], list[str]]:
    counts = paths.counts
    steps = Counter(step.behaviour for sample in samples for step in sample.steps)
    words = sorted(sum(len(step.text.split()) for step in sample.steps) for sample in samples)
    summary = {
        "trees": counts.trees,
        "with_right": counts.with_right,
        "with_both": counts.with_both,
        "merged": sum(sample.kind == "merged" for sample in samples),
        "plain": sum(sample.kind == "plain" for sample in samples),
        "dropped": dict(counts.dropped.most_common()),
        "behaviours": {behaviour.name: steps[behaviour.name] for behaviour in behaviours},
        "words": {"median": words[len(words) // 2], "longest": words[-1]},
    }
    notes = []
    if counts.process_rewards < counts.with_right:
        notes.append(
            "Paths were ranked by the mean value of their nodes if no process-reward model had judged every step"
        )
    if counts.cut_off:
        notes.append(
            f"{counts.cut_off:,} of {counts.steps:,} steps of the selected paths were cut off in the search; the model "
            "learns to close a step there. Search with more step_tokens if there are many"
        )
    never = [name for name, count in summary["behaviours"].items() if not count]  # type: ignore[attr-defined]
    if never:
        notes.append(f"No sample shows {', '.join(never)}: the model will not learn these functional tokens here")
    return summary, notes


def _write(
    samples: Sequence[WarmupSample],
    behaviours: BehaviourSet,
    run: AnsweringRun,
    summary: dict[str, Any],
    notes: Sequence[str],
) -> None:
    records = [
        {
            "messages": [
                {"role": "user", "content": sample.question.text},
                {"role": "assistant", "content": sample.content(behaviours)},
            ],
            "kind": sample.kind,
            "tree": sample.question.id,
            "leaves": list(sample.nodes),
        }
        for sample in samples
    ]
    write_json_lines(run.results / CONVERSATIONS_FILE, records)
    write_json(run.results / SUMMARY_FILE, {**summary, "notes": list(notes)})
