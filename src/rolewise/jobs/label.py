"""The labelling job: conversations in, a labelled data set out. What `rolewise label` runs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from rolewise import __version__
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledInfo, TokenLabels, load_labelled, save_labelled
from rolewise.data.prepare import PreparedData, prepare
from rolewise.data.readers import write_rejected
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.options import LabelOptions
from rolewise.jobs.view import REPORT_FILE, write_labelled_report
from rolewise.labelling.checks import Checks
from rolewise.labelling.cost import estimate_cost
from rolewise.labelling.labellers import SHAD as SHAD_METHOD
from rolewise.labelling.labellers import LabellingContext, checked, find_labeller
from rolewise.labelling.shad import SHAD, SHADConfig, SHADPlan
from rolewise.reporting.html import Table
from rolewise.training import processes
from rolewise.training.models import count_parameters, load_tokenizer, model_fingerprint

INPUTS = ("model", "data", "general", "chat_template", "plugin", "output")
"""Options that say where something lies. What is read there counts, by its hash, not its place."""


@dataclass(frozen=True)
class LabelPlan:
    """What a labelling job would do; `shad` is None for the regex."""

    data: PreparedData
    renderer: Renderer
    tokenizer: Any
    shad: SHADPlan | None


def plan_labelling(options: LabelOptions) -> LabelPlan:
    """Read, render and plan, without loading the model.

    Raises:
        InputError: for data, a template or options that can't be used.
    """
    processes.start()  # they meet before the long work, and what depends on their number comes after
    load_plugins(split_list(options.plugin or ""))
    if options.method != SHAD_METHOD:
        find_labeller(options.method)  # an unknown name is told before anything is read
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    renderer = Renderer(
        tokenizer,
        chat_template=options.chat_template,
        tool_format=options.tool_format,
        max_length=options.max_length,
    )
    data = prepare(
        options.data,
        renderer,
        format=options.format,
        limit=options.limit,
        skip_invalid=options.skip_invalid,
        general=options.general,
        general_share=options.general_share,
    )
    shad = _shad(options).plan(data.samples) if options.method == SHAD_METHOD else None
    return LabelPlan(data, renderer, tokenizer, shad)


def label(options: LabelOptions, progress: Progress | None = None, plan: LabelPlan | None = None) -> LabelResult:
    """Label a data set and write it to `options.output`, whole or not at all; a killed run goes on where it was.

    Raises:
        InputError: as `plan_labelling`, or if the output can't be written or holds something else.
    """
    processes.start()
    plan = plan or plan_labelling(options)
    progress = progress or Progress(disable=True)
    settings = {name: value for name, value in asdict(options).items() if name != "plan"}
    choices = {name: value for name, value in settings.items() if name not in INPUTS}
    model_hash = model_fingerprint(options.model, trust_remote_code=options.trust_remote_code) if plan.shad else ""
    identity = {
        "model": model_hash,
        "data": plan.data.sha256,
        "rendering": plan.renderer.fingerprint(),
        "plugins": plugin_digests(split_list(options.plugin or "")),
        # What defaults came to as well: they may depend on the machine, and differ in another version.
        "settings": {**choices, **_settled(plan)},
        "version": __version__,
    }
    run = RunDirectory(options.output, "label", settings, identity, writes=processes.is_main())
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened():
        processes.wait()  # for the directories
        with run.timed("label"):
            labels, excluded = _label(options, plan, run.work, progress)
        checks: Checks = (None, None)  # what several processes find, the main one tells
        if processes.is_main():
            info = LabelledInfo(
                method=options.method,
                model=options.model,
                model_hash=model_hash,
                tokenizer=tokenizer_fingerprint(plan.tokenizer),
                rendering=plan.renderer.fingerprint(),
                threshold=options.threshold if plan.shad else None,
                format_quantile=options.format_quantile if plan.shad else None,
                counts={},
                settings={"data_sha256": plan.data.sha256, **choices, **_settled(plan)},
                versions=package_versions(),
                notes=plan.data.notes,
                chat_template=plan.renderer.given_template,
            )
            with run.timed("write"):
                save_labelled(run.results, plan.data.all_samples, labels, excluded, info)
                write_rejected(plan.data.rejected, run.results)
                report = run.results / REPORT_FILE
                checks = write_labelled_report(load_labelled(run.results), report, title=run.output.name)
            run.publish({"data_sha256": plan.data.sha256, "rejected": len(plan.data.rejected)})
        processes.wait()  # for the results
    return read_result(load_labelled(run.output), was_finished=False, checks=checks)


def _label(
    options: LabelOptions, plan: LabelPlan, work: Path, progress: Progress
) -> tuple[Iterable[TokenLabels], Iterable[bool]]:
    """Labels of all samples, general chat last, and which of them the reported metrics must leave out."""
    samples, general = plan.data.samples, plan.data.general
    labels: Iterable[TokenLabels]
    excluded: Iterable[bool]
    if plan.shad is not None:
        labels, excluded = _shad(options).label(samples, work, progress, plan.shad)
    else:
        context = LabellingContext(options.model, options.trust_remote_code, work, progress)
        labels = checked(find_labeller(options.method)(samples, context), samples, options.method)
        excluded = repeat(False, len(samples))
    return chain(labels, map(_plain_labels, general)), chain(excluded, repeat(False, len(general)))


def _settled(plan: LabelPlan) -> dict[str, Any]:
    """Settings whose defaults depended on the data or the machine, as they were in the end."""
    if plan.shad is None:
        return {}
    tuning = plan.shad.tuning
    return {
        "learning_rate": tuning.learning_rate,
        "batch_size": tuning.batch_size,
        "batch_tokens": plan.shad.batch_tokens,
        "pairs": [len(pairs) for pairs in plan.shad.pairs],
    }


def plan_table(options: LabelOptions, plan: LabelPlan) -> Table:
    """What the job would do and cost, without doing it."""
    data = plan.data
    rows: list[list[str | float]] = [
        ["conversations", data.conversations],
        ["samples", len(data.samples)],
        ["samples of general chat", len(data.general)],
        ["left out", len(data.rejected)],
        ["format of the data", data.format],
        ["tokens", data.tokens],
        ["of them with loss", data.loss_tokens],
    ]
    if plan.shad is not None:
        parameters, text_config = count_parameters(options.model, trust_remote_code=options.trust_remote_code)
        cost = estimate_cost(plan.shad, parameters, text_config, data.loss_tokens / data.tokens)
        rows += [
            ["models to tune", len(plan.shad.pairs)],
            ["shuffled pairs, each", len(plan.shad.pairs[0])],
            ["tokens to tune on", plan.shad.tokens_to_tune],
            ["tokens to score, twice", plan.shad.tokens_to_score],
            ["device", plan.shad.device],
            ["time, roughly", f"{max(0.1, cost.seconds / 60):.1f} min"],
            ["memory, roughly", f"{max(0.1, cost.memory_bytes / 2**30):.1f} GiB"],
        ]
    return Table("Plan", ["", "value"], rows)


def _plain_labels(sample: RenderedSample) -> TokenLabels:
    return TokenLabels.without_losses(np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT).astype(np.uint8))


def _shad(options: LabelOptions) -> SHAD:
    names = SHADConfig.__dataclass_fields__.keys() & options.__dataclass_fields__.keys()
    return SHAD(
        options.model,
        SHADConfig(**{name: getattr(options, name) for name in names}),
        max_length=options.max_length,
        trust_remote_code=options.trust_remote_code,
    )
