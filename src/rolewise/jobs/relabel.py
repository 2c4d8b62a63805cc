"""Other roles for the same tokens, without a model: by another threshold, or by hand. `rolewise relabel`."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.labelled import INFO_FILE, LabelledData, count_by_role, labelled_fingerprint, load_labelled
from rolewise.data.patch import PatchRecord, apply_patches, read_patch
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.options import KEEP
from rolewise.jobs.view import REPORT_FILE, write_labelled_report
from rolewise.labelling.classify import LossLabels, check_classification


def relabel(
    path: str | Path,
    output: str | Path,
    *,
    threshold: float | None = None,
    format_quantile: float | str | None = KEEP,
    patches: Sequence[str | Path] = (),
) -> LabelResult:
    """Classify a data set's stored losses anew, apply corrections made by hand, and write the result whole or not.

    Corrections that were applied before are applied again, then the new ones in order: a correction outlives every
    threshold.

    Args:
        path: a labelled data set; it stays as it is. Without losses, as the regex leaves it, its roles stand and only
            patches can be applied.
        output: directory to make, of the same kind.
        threshold: LD above it is reasoning, in nats; None: the data set's own.
        format_quantile: boilerplate whose base loss lies below this quantile of boilerplate's is FORMAT; None for no
            split; "keep": the data set's own.
        patches: files as `rolewise.data.patch` describes.

    Raises:
        InputError: if there is no such data set or it holds no losses to classify, for a threshold or quantile that is
            no finite number in its range, a patch that does not fit, or an output that can't be written or holds
            something else.
    """
    labelled = load_labelled(path)
    has_losses = labelled.info.threshold is not None
    if not has_losses and (threshold is not None or format_quantile != KEEP or not patches):
        lacks = "has no threshold to move" if labelled.info.model_hash else "measures no losses"
        raise InputError(
            f"{path}: labelled by {labelled.info.method}, which {lacks}; there is nothing to classify anew"
        )
    choices: dict[str, Any] = {
        "threshold": labelled.info.threshold if threshold is None else threshold,
        "format_quantile": labelled.info.format_quantile if format_quantile == KEEP else format_quantile,
    }
    if has_losses:
        check_classification(choices["threshold"], choices["format_quantile"])
    fingerprint = labelled_fingerprint(labelled.rows) if patches else ""
    new_patches = [read_patch(patch, fingerprint) for patch in patches]
    applied = [PatchRecord.from_json(record) for record in labelled.info.patches] + new_patches
    source = digest(asdict(labelled.info))
    run = RunDirectory(
        output,
        "relabel",
        {"data": str(path), "output": str(output), **_as_options(choices), "patch": list(map(str, patches))},
        {"data": source, "settings": choices, "patches": [patch.sha256 for patch in new_patches]},
    )
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened(), run.timed("write"):
        roles = _classified(labelled, choices) if has_losses else _stored(labelled)
        apply_patches(roles, applied)
        info = replace(
            labelled.info,
            **choices,
            counts={**labelled.info.counts, **count_by_role(roles)},
            settings={**labelled.info.settings, **(choices if has_losses else {})},
            versions=package_versions(),
            patches=[patch.as_json() for patch in applied],
        )
        rows = labelled.rows.remove_columns("token_roles")
        rows = rows.add_column("token_roles", roles, feature=labelled.rows.features["token_roles"])
        rows.select_columns(labelled.rows.column_names).save_to_disk(run.results)
        write_json(run.results / INFO_FILE, asdict(info))
        report = run.results / REPORT_FILE
        checks = write_labelled_report(load_labelled(run.results), report, title=run.output.name)
    run.publish({"relabelled": source})
    return read_result(load_labelled(run.output), was_finished=False, checks=checks)


def _as_options(choices: dict[str, Any]) -> dict[str, Any]:
    """The settings as the command takes them; a data set without losses has none."""
    if choices["threshold"] is None:
        return {}
    quantile = choices["format_quantile"]
    return {"threshold": choices["threshold"], "format_quantile": None if quantile is None else str(quantile)}


def _classified(labelled: LabelledData, choices: dict[str, Any]) -> list[np.ndarray]:
    losses = [(sample.base_loss_T, sample.tuned_loss_T, sample.mask_T) for sample in labelled.samples()]
    return [label.roles_T for label in LossLabels(losses, choices["threshold"], choices["format_quantile"])]


def _stored(labelled: LabelledData) -> list[np.ndarray]:
    return [sample.roles_T.copy() for sample in labelled.samples()]
