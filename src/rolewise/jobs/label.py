"""The job of `rolewise label`: labels conversations and writes a labelled data set."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from rolewise import __version__
from rolewise.core.behaviour import RFTT, BehaviourSet, behaviours_of
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins, plugin_digests
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.labelled import LabelledInfo, TokenLabels, load_labelled, save_labelled
from rolewise.data.prepare import PreparedData, prepare
from rolewise.data.readers import Rejected, write_rejected
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.jobs.label_methods import Measured, make_labeller, plan_measuring, settings_of
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.view import write_run_report
from rolewise.labelling.checks import Checks, unfit_model
from rolewise.labelling.contrast import ContrastLabels, ContrastPlan
from rolewise.labelling.cost import estimate_cost
from rolewise.labelling.labellers import Labeller, LabellingContext, checked
from rolewise.labelling.settings.base import MeasuringConfig
from rolewise.labelling.tuned_losses import TunedLossesPlan
from rolewise.options.labelling import LabelOptions
from rolewise.reporting.html import Table
from rolewise.training import processes
from rolewise.training.functional_tokens import add_to_tokenizer
from rolewise.training.models import count_parameters, load_tokenizer, model_fingerprint

INPUTS = ("model", "data", "general", "chat_template", "plugin", "output", "preferences", "reward_model", "behaviours")
"""Options that hold locations. The hash of their content identifies a run, not the location."""


@dataclass(frozen=True)
class LabelPlan:
    """Plan of a labelling job.

    Attributes:
        labeller: a labeller that only reads, such as the regex; None for one that measures.
        measured: a labeller that measures losses; None for the others.
        behaviours: behaviours for `functional`; None for all others.
    """

    data: PreparedData
    renderer: Renderer
    tokenizer: Any
    labeller: Labeller | None
    measured: Measured | None
    behaviours: BehaviourSet | None = None

    @property
    def rejected(self) -> list[Rejected]:
        """Skipped conversations and preference pairs."""
        return [*self.data.rejected, *(self.measured.rejected if self.measured else [])]

    @property
    def shortage(self) -> str | None:
        """Note for the user if the data provides fewer histories, or examples to tune on, than the settings request."""
        if self.measured is not None and isinstance(self.measured.plan, ContrastPlan):
            few = self.measured.plan.fewest
            wanted: int = getattr(self.measured.labeller.settings, "histories", few)
            short = f"some answers are contrasted with {few} instead of the requested {wanted} other histories"
            return f"{short}: the data has no more" if few < wanted else None
        if self.measured is None or not isinstance(self.measured.plan, TunedLossesPlan):
            return None
        config, work = self.measured.labeller.settings, self.measured.plan
        asked: int = getattr(config, "min_pairs", getattr(config, "min_references", 0))
        drawn = min(work.examples, default=asked)
        return f"{drawn} {work.kind} instead of the requested {asked}: the data has no more" if drawn < asked else None


def plan_labelling(options: LabelOptions) -> LabelPlan:
    """Read, render and plan, without loading the model.

    Raises:
        InputError: for unusable data, an unusable template or unusable options.
    """
    processes.start()  # they meet before the long work and before anything that depends on their number
    load_plugins(split_list(options.plugin or ""))
    labeller = make_labeller(options)  # reports an unknown name before anything is read
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    behaviours = behaviours_of(options.model, options.behaviours) if options.method == "functional" else None
    added = [] if behaviours is None else add_to_tokenizer(tokenizer, behaviours)
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
        skip_cut=options.skip_cut,
        general=options.general,
        general_share=options.general_share,
    )
    measured = None
    if isinstance(labeller, MeasuringConfig):
        measured, labeller = plan_measuring(options, labeller, tokenizer, renderer, data.samples), None
    if added:
        note = f"{len(added)} functional tokens were added to the tokenizer: use --behaviours with rolewise sft too."
        data = replace(data, notes=[*data.notes, note])
    return LabelPlan(data, renderer, tokenizer, labeller, measured, behaviours)


def label(options: LabelOptions, progress: Progress | None = None, plan: LabelPlan | None = None) -> LabelResult:
    """Label a data set and write it atomically to `options.output`; a killed run can be resumed.

    Raises:
        InputError: as for `plan_labelling`, or if the output can't be written or holds something else.
    """
    processes.start()
    plan = plan or plan_labelling(options)
    progress = progress or Progress(disable=True)
    settings = settings_of(options)
    choices = {name: value for name, value in settings.items() if name not in INPUTS}
    trust = options.trust_remote_code
    model_hash = model_fingerprint(options.model, trust_remote_code=trust) if plan.measured else ""
    identity = {
        "model": model_hash,
        "data": plan.data.sha256,
        "rendering": plan.renderer.fingerprint(),
        "plugins": plugin_digests(split_list(options.plugin or "")),
        "rewards": plan.measured.inputs if plan.measured else "",
        # Resolved defaults included: they may depend on the machine, and differ in another version.
        "settings": {**choices, **_settled(plan)},
        "version": __version__,
    }
    run = RunDirectory(options.output, "label", settings, identity, writes=processes.is_main())
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened():
        processes.wait()  # for the directories
        with run.timed("label"):
            labelling = _label(options, plan, run.work, progress)
        checks = Checks()  # the main process reports what several processes find
        if processes.is_main():
            info = LabelledInfo(
                method=options.method,
                model=options.model,
                model_hash=model_hash,
                tokenizer=tokenizer_fingerprint(plan.tokenizer),
                rendering=plan.renderer.fingerprint(),
                threshold=settings.get("threshold"),
                format_quantile=settings.get("format_quantile"),
                counts={},
                settings={"data_sha256": plan.data.sha256, **choices, **_settled(plan)},
                versions=package_versions(),
                notes=[*plan.data.notes, *labelling.warnings],
                chat_template=plan.renderer.given_template,
                vocabulary=len(plan.tokenizer),
                token_counts=labelling.token_counts,
            )
            with run.timed("write"):
                save_labelled(run.results, plan.data.all_samples, labelling.labels, labelling.excluded, info)
                write_rejected(plan.rejected, run.results)
                for tuned in sorted(run.work.glob("tuned-?")) if options.keep_tuned else []:
                    shutil.copytree(tuned, run.results / tuned.name)
                checks = write_run_report(run)
            run.publish({"data_sha256": plan.data.sha256, "rejected": len(plan.rejected)})
        processes.wait()  # for the results
    return read_result(load_labelled(run.output), was_finished=False, checks=checks)


class _Labelling(NamedTuple):
    """Labels of all samples, general chat last.

    Attributes:
        excluded: flags of those that the reported metrics must exclude.
        warnings: warnings for the user.
        token_counts: counts of the loss tokens by id, if the scores use rarity.
    """

    labels: Iterable[TokenLabels]
    excluded: Iterable[bool]
    warnings: list[str]
    token_counts: dict[str, int] | None


def _label(options: LabelOptions, plan: LabelPlan, work: Path, progress: Progress) -> _Labelling:
    samples, general = plan.data.samples, plan.data.general
    labels: Iterable[TokenLabels]
    excluded: Iterable[bool]
    warnings: list[str] = []
    counts = None
    if plan.measured is not None:
        labels, excluded = plan.measured.labeller.label(samples, work, progress, plan.measured.plan)
        if isinstance(labels, ContrastLabels) and labels.token_counts is not None:
            counts = {str(token): count for token, count in sorted(labels.token_counts.items())}
        if processes.is_main():
            warnings = unfit_model(labels, len(plan.tokenizer))
    else:
        context = LabellingContext(options.model, options.trust_remote_code, work, progress, plan.behaviours or RFTT)
        assert plan.labeller is not None
        labels = checked(plan.labeller(samples, context), samples, options.method)
        excluded = repeat(False, len(samples))
    unlabelled = map(_plain_labels, general), repeat(False, len(general))
    return _Labelling(chain(labels, unlabelled[0]), chain(excluded, unlabelled[1]), warnings, counts)


def _settled(plan: LabelPlan) -> dict[str, Any]:
    """Return the final values of settings whose defaults depend on the data or machine, or that came from a file."""
    if plan.behaviours is not None:
        return {"behaviours": plan.behaviours.as_record()}
    if plan.measured is None:
        return {}
    work = plan.measured.plan
    if not isinstance(work, TunedLossesPlan):
        return {"batch_tokens": work.batch_tokens}
    return {
        "learning_rate": work.tuning.learning_rate,
        "batch_size": work.tuning.batch_size,
        "batch_tokens": work.batch_tokens,
        work.kind.rpartition(" ")[2]: work.examples,
    }


def plan_table(options: LabelOptions, plan: LabelPlan) -> Table:
    """Return a table of the planned work and its cost, without doing it."""
    data = plan.data
    rows: list[list[str | float]] = [
        ["conversations", data.conversations],
        ["samples", len(data.samples)],
        ["samples of general chat", len(data.general)],
        ["left out", len(data.rejected)],
        ["format of the data", data.format],
        ["tokens", data.tokens],
        ["tokens with loss", data.loss_tokens],
    ]
    if plan.measured is not None:
        work = plan.measured.plan
        parameters, text_config = count_parameters(options.model, trust_remote_code=options.trust_remote_code)
        dtype = plan.measured.labeller.settings.dtype
        cost = estimate_cost(work, dtype, parameters, text_config, data.loss_tokens / data.tokens)
        if isinstance(work, TunedLossesPlan):
            rows.append(["models to tune", len(work.examples)])
            if work.examples:
                rows.append([f"{work.kind}, each", work.examples[0]])
            rows.append(["tokens to tune on", work.tokens_to_tune])
        rows += [
            [f"tokens to score{', twice' * isinstance(work, TunedLossesPlan)}", work.tokens_to_score],
            ["device", work.device],
            ["approximate time", f"{max(0.1, cost.seconds / 60):.1f} min"],
            ["approximate memory", f"{max(0.1, cost.memory_bytes / 2**30):.1f} GiB"],
        ]
    return Table("Plan", ["", "value"], rows)


def _plain_labels(sample: RenderedSample) -> TokenLabels:
    return TokenLabels.without_losses(np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT).astype(np.uint8))
