"""Other roles from the same losses: a labelled data set classified again, without a model. `rolewise relabel`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.labelled import INFO_FILE, count_by_role, load_labelled
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.view import REPORT_FILE, write_labelled_report
from rolewise.labelling.classify import check_classification, label_by_losses


def relabel(
    path: str | Path, output: str | Path, *, threshold: float = 0.0, format_quantile: float | None = 0.5
) -> LabelResult:
    """Classify a data set's stored losses anew and write the result to `output`, whole or not at all.

    Args:
        path: a labelled data set with losses, as SHAD makes them; it stays as it is.
        output: directory to make, of the same kind.
        threshold: LD above it is reasoning, in nats.
        format_quantile: boilerplate whose base loss lies below this quantile of boilerplate's is FORMAT; None for no
            split.

    Raises:
        InputError: if there is no such data set or it holds no losses, for a threshold or quantile that is no finite
            number in its range, or an output that can't be written or holds something else.
    """
    labelled = load_labelled(path)
    if labelled.info.threshold is None:
        raise InputError(
            f"{path}: labelled by {labelled.info.method}, which measures no losses; there is nothing to classify anew"
        )
    check_classification(threshold, format_quantile)
    choices: dict[str, Any] = {"threshold": threshold, "format_quantile": format_quantile}
    source = digest(asdict(labelled.info))
    run = RunDirectory(
        output,
        "relabel",
        {"data": str(path), "output": str(output), **choices},
        {"data": source, "settings": choices},
    )
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened(), run.timed("write"):
        samples = labelled.samples()
        losses = ((sample.base_loss_T, sample.tuned_loss_T, sample.mask_T) for sample in samples)
        labels = label_by_losses(losses, threshold, format_quantile)
        roles = [label.roles_T for label in labels]
        info = replace(
            labelled.info,
            **choices,
            counts={**labelled.info.counts, **count_by_role(roles)},
            settings={**labelled.info.settings, **choices},
            versions=package_versions(),
        )
        rows = labelled.rows.remove_columns("token_roles")
        rows = rows.add_column("token_roles", roles, feature=labelled.rows.features["token_roles"])
        rows.select_columns(labelled.rows.column_names).save_to_disk(run.results)
        write_json(run.results / INFO_FILE, asdict(info))
        write_labelled_report(load_labelled(run.results), run.results / REPORT_FILE, title=run.output.name)
    run.publish({"relabelled": source})
    return read_result(load_labelled(run.output), was_finished=False)
