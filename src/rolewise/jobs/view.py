"""The job of `rolewise view`: one HTML page for a labelled data set or for trees."""

import math
from pathlib import Path

import numpy as np

from rolewise.core.components import Arguments
from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.data.labelled import LabelledData, labelled_fingerprint, load_labelled
from rolewise.evaluation.kappa import confusion_matrix
from rolewise.labelling.checks import Checks, check_labels
from rolewise.options.labelling import ViewOptions
from rolewise.reporting.content import REPORT_FILE
from rolewise.reporting.html import write_report
from rolewise.reporting.tree_html import write_tree_report
from rolewise.reporting.views import agreement_tables, check_tables, roles_table, sample_views, settings_table
from rolewise.search.tree import TREES_FILE, Tree, read_trees
from rolewise.weighting import WEIGHTINGS

SAMPLES_IN_REPORT = 200
"""Number of samples on the page that labelling writes; `rolewise view` shows more."""
NODES_ON_PAGE = 200_000
"""Maximum number of nodes, over all trees; with texts some 100 MB, as much as a browser opens without delay."""
BATCH_ROWS = 1000


def view(options: ViewOptions) -> Path:
    """Write the page and return its path.

    Raises:
        InputError: if there is no labelled data set and no file of trees, the data set to compare with has other
            tokens, or the page can't be written.
    """
    given = Path(options.data)
    trees = given if given.is_file() else given / TREES_FILE
    if trees.is_file():
        return _view_trees(trees, options)
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise InputError(f"threshold is {options.threshold}; it must be a finite number of nats")
    load_plugins(split_list(options.plugin or ""))
    labelled = load_labelled(options.data)
    path = Path(options.output) if options.output else labelled.path / REPORT_FILE
    write_labelled_report(
        labelled,
        path,
        title=labelled.path.name,
        samples=options.samples,
        threshold=options.threshold,
        weighting=options.weighting,
        weighting_args=options.weighting_args,
        other=load_labelled(options.compare) if options.compare else None,
    )
    return path


def _view_trees(trees_file: Path, options: ViewOptions) -> Path:
    """Write the page of a file of trees."""
    for name in ("compare", "threshold"):
        if getattr(options, name) is not None:
            raise InputError(f"{trees_file} contains trees, for which there is no {name}; leave it out")
    trees: list[Tree] = []
    left = NODES_ON_PAGE
    there_are_more = False
    for tree in read_trees(trees_file):
        there_are_more = len(trees) == options.samples or (bool(trees) and len(tree.nodes) > left)
        if there_are_more:
            break
        trees.append(tree)
        left -= len(tree.nodes)
    if not trees:
        raise InputError(f"{trees_file}: contains no trees; create some with rolewise search")
    path = Path(options.output) if options.output else trees_file.with_suffix(".html")
    shown = f"{len(trees):,} tree" + ("s" if len(trees) > 1 else "")
    write_tree_report(
        path,
        trees,
        title=f"{trees_file.parent.resolve().name}/{trees_file.name}",
        subtitle=f"the first {shown}" if there_are_more else shown,
    )
    return path


def write_run_report(run: RunDirectory) -> Checks:
    """Write the page of the labelled data set among a run's results; return the checks."""
    return write_labelled_report(load_labelled(run.results), run.results / REPORT_FILE, title=run.output.name)


def write_labelled_report(
    labelled: LabelledData,
    path: Path,
    *,
    title: str,
    samples: int = SAMPLES_IN_REPORT,
    threshold: float | None = None,
    weighting: str = "rft",
    weighting_args: Arguments = None,
    other: LabelledData | None = None,
) -> Checks:
    """Write the page: tables and checks over the whole data set, tokens of the first `samples`; return the checks.

    Args:
        labelled: the data set; labelling A if there is another.
        path: the HTML file.
        title: heading of the page.
        samples: number of samples to show.
        threshold: initial position of the slider; None for the data set's own, without which there is no slider.
        weighting, weighting_args: see `make_weighting`; the page shows its weights at the stored base losses.
        other: labelling B of the same tokens.

    Raises:
        InputError: if `other` has other tokens, or the page can't be written.
    """
    names = (str(labelled.path), str(other.path)) if other is not None else ()
    agreement = agreement_tables(compare_labellings(labelled, other), names) if other is not None and names else []
    info = labelled.info
    checks = check_labels(labelled)
    tables = check_tables(checks)
    shown = min(samples, len(labelled.rows))
    parameters = WEIGHTINGS.complete(weighting, weighting_args)
    named = ", ".join([weighting, *(f"{name}={value}" for name, value in parameters.items())])
    scheme = WEIGHTINGS.make(weighting, parameters)
    views = sample_views(labelled.samples(shown), scheme, other.samples(shown) if other is not None else None)
    write_report(
        path,
        title=title,
        subtitle=f"{info.counts['samples']:,} samples labelled by {info.method} with {info.model}",
        verdict=checks.verdict.line if checks.verdict else None,
        summary=[*agreement, roles_table(info.counts), *tables, settings_table(info)],
        samples=views,
        threshold=threshold if threshold is not None else info.threshold,
        notes=[
            *info.notes,
            f"{shown:,} of {len(labelled.rows):,} samples are shown"
            + (f"; weights are those of {named}." if info.threshold is not None else "."),
        ],
        fingerprint=labelled_fingerprint(labelled.rows),
        names=names,
    )
    return checks


def compare_labellings(first: LabelledData, second: LabelledData) -> np.ndarray:
    """Compute the confusion matrix of all tokens with loss, int64, shape (roles, roles); rows are `first`'s roles.

    Raises:
        InputError: if the two have different tokens, naming the first row that differs.
    """
    if first.info.tokenizer != second.info.tokenizer:
        raise InputError(
            f"{second.path}: labelled with another tokenizer ({second.info.tokenizer[:12]}) than {first.path} "
            f"({first.info.tokenizer[:12]}); compare labellings made with one tokenizer"
        )
    if len(first.rows) != len(second.rows):
        raise InputError(
            f"{second.path}: {len(second.rows):,} samples, but {first.path} has {len(first.rows):,}; "
            "compare labellings of the same conversations"
        )
    matrix = np.zeros((len(Role), len(Role)), dtype=np.int64)
    columns = ["input_ids", "labels", "token_roles", "source"]
    batches = (
        data.rows.select_columns(columns).with_format("numpy").iter(batch_size=BATCH_ROWS) for data in (first, second)
    )
    row = 0
    for batch_a, batch_b in zip(*batches, strict=True):
        for number, source in enumerate(batch_a["source"]):
            for name, what in (("input_ids", "tokens"), ("labels", "loss mask")):
                if not np.array_equal(batch_a[name][number], batch_b[name][number]):
                    raise InputError(
                        f"{second.path}: row {row} ({source}) differs in {what} from {first.path}; "
                        "compare labellings of the same conversations, rendered the same way"
                    )
            carries_loss_T = batch_a["labels"][number] != -100
            roles = (batch["token_roles"][number][carries_loss_T] for batch in (batch_a, batch_b))
            matrix += confusion_matrix(*roles)
            row += 1
    return matrix
