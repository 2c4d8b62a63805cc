"""The job of `rolewise relabel`: new roles for the same tokens without a model, by another threshold or by hand."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.labelled import (
    INFO_FILE,
    LabelledData,
    LabelledInfo,
    LabelledSample,
    count_by_role,
    labelled_fingerprint,
    load_labelled,
)
from rolewise.data.patch import PatchRecord, apply_patches, read_patch
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.view import write_run_report
from rolewise.labelling.calibration import threshold_by_format_error
from rolewise.labelling.checks import decides_format
from rolewise.labelling.classify import LossLabels, roles_by_score, split_boilerplate
from rolewise.labelling.settings.contrast import check_score_threshold
from rolewise.labelling.settings.shad import check_classification
from rolewise.options.labelling import KEEP
from rolewise.roles.regex import label_format


def relabel(
    path: str | Path,
    output: str | Path,
    *,
    threshold: float | None = None,
    format_error: float | None = None,
    format_quantile: float | str | None = KEEP,
    patches: Sequence[str | Path] = (),
) -> LabelResult:
    """Reclassify a data set's stored losses, apply manual corrections, and write the result atomically.

    Earlier corrections are applied again, then the new ones in order: a correction survives every threshold.

    Args:
        path: a labelled data set, which is not modified. Without losses, as with the regex, its roles stay and only
            patches can be applied.
        output: directory to create, of the same kind.
        threshold: tokens with an LD above it are reasoning, in nats; None: the data set's own.
        format_error: alternative to `threshold`: the lowest threshold from 0 that labels at most this share of the
            sure format tokens as reasoning; see `labelling.calibration`.
        format_quantile: boilerplate with a base loss below this quantile of boilerplate's base losses is FORMAT; None
            for no split; "keep": the data set's own.
        patches: files as described in `rolewise.data.patch`.

    Raises:
        InputError: if there is no such data set or it has no losses to classify, for a threshold, share or quantile
            that is not a finite number in its range, both a threshold and a share, data without the sure format tokens
            that a share needs, a patch that does not fit, or an output that can't be written or holds something else.
    """
    labelled = load_labelled(path)
    has_losses = labelled.info.threshold is not None
    asked_anew = threshold is not None or format_error is not None or format_quantile != KEEP
    if not has_losses and (asked_anew or not patches):
        lacks = "has no threshold to move" if labelled.info.model_hash else "measures no losses"
        raise InputError(f"{path}: labelled by {labelled.info.method}, which {lacks}; there is nothing to reclassify")
    if format_error is not None and decides_format(labelled.info):
        raise InputError(
            f"{path}: labelled by {labelled.info.method}, whose rules decide format tokens whatever the threshold; "
            "give threshold in place of format_error"
        )
    choices: dict[str, Any] = {
        "threshold": _threshold(labelled, threshold, format_error),
        "format_quantile": labelled.info.format_quantile if format_quantile == KEEP else format_quantile,
    }
    if has_losses and "score" in labelled.rows.column_names:
        if format_quantile not in (KEEP, None):
            raise InputError(
                f"{path}: labelled by {labelled.info.method}, which splits boilerplate by rules; leave "
                "format_quantile out"
            )
        check_score_threshold(choices["threshold"])
    elif has_losses:
        check_classification(choices["threshold"], choices["format_quantile"])
    fingerprint = labelled_fingerprint(labelled.rows) if patches else ""
    new_patches = [read_patch(patch, fingerprint) for patch in patches]
    applied = [PatchRecord.from_json(record) for record in labelled.info.patches] + new_patches
    source = digest(asdict(labelled.info))
    calibrated = {} if format_error is None else {"format_error": format_error}
    run = RunDirectory(
        output,
        "relabel",
        {
            **{"data": str(path), "output": str(output), **_as_options(choices, format_error)},
            "patch": list(map(str, patches)),
        },
        {"data": source, "settings": choices | calibrated, "patches": [patch.sha256 for patch in new_patches]},
    )
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened(), run.timed("write"):
        if "score" in labelled.rows.column_names:
            roles = [_by_score(sample, choices["threshold"]) for sample in labelled.samples()]
        elif has_losses:
            losses = [(sample.base_loss_T, sample.tuned_loss_T, sample.mask_T) for sample in labelled.samples()]
            roles = [label.roles_T for label in LossLabels(losses, choices["threshold"], choices["format_quantile"])]
        else:
            roles = [sample.roles_T.copy() for sample in labelled.samples()]
        apply_patches(roles, applied)
        info = replace(
            labelled.info,
            **choices,
            counts={**labelled.info.counts, **count_by_role(roles)},
            settings=_settings(labelled.info, choices, calibrated) if has_losses else labelled.info.settings,
            versions=package_versions(),
            patches=[patch.as_json() for patch in applied],
        )
        rows = labelled.rows.remove_columns("token_roles")
        rows = rows.add_column("token_roles", roles, feature=labelled.rows.features["token_roles"])
        rows.select_columns(labelled.rows.column_names).save_to_disk(run.results)
        write_json(run.results / INFO_FILE, asdict(info))
        checks = write_run_report(run)
    run.publish({"relabelled": source})
    return read_result(load_labelled(run.output), was_finished=False, checks=checks)


def _threshold(labelled: LabelledData, threshold: float | None, format_error: float | None) -> float | None:
    """Return the requested threshold, given directly or as a share, or the data set's own."""
    if format_error is None:
        return labelled.info.threshold if threshold is None else threshold
    if threshold is not None:
        raise InputError("give threshold or format_error, not both: the share determines the threshold")
    try:
        return threshold_by_format_error(labelled.samples(), format_error)
    except InputError as error:
        raise InputError(f"{labelled.path}: {error}") from error


def _settings(info: LabelledInfo, choices: dict[str, Any], calibrated: dict[str, Any]) -> dict[str, Any]:
    """Return the data set's settings with the chosen ones; a share is recorded with the resulting threshold."""
    settings = {**info.settings, **choices, **calibrated}
    if not calibrated and choices["threshold"] != info.threshold:
        settings.pop("format_error", None)
    return settings


def _as_options(choices: dict[str, Any], format_error: float | None) -> dict[str, Any]:
    """Return the settings as the command accepts them; a data set without losses has none."""
    if choices["threshold"] is None:
        return {}
    quantile = choices["format_quantile"]
    asked = {"threshold": choices["threshold"]} if format_error is None else {"format_error": format_error}
    return {**asked, "format_quantile": None if quantile is None else str(quantile)}


def _by_score(sample: LabelledSample, threshold: float) -> np.ndarray:
    """Return roles (uint8, shape (T,)) by the stored scores; boilerplate splits into FORMAT, found by rules, and
    TEMPLATE."""
    by_rules_T = (
        label_format(sample.text, sample.char_start_T, sample.char_end_T, sample.turn_char_spans) == Role.FORMAT
    )
    return split_boilerplate(roles_by_score(sample.evidence_T, sample.mask_T, threshold), by_rules_T)
