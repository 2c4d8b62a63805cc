"""The job of `rolewise transfer`: a labelled data set in another model's tokens."""

from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.role import Role
from rolewise.core.run_directory import RunDirectory
from rolewise.core.versions import package_versions
from rolewise.data.conversation import Conversation
from rolewise.data.cut_answers import CutAnswers, cut_reason
from rolewise.data.labelled import (
    LabelledData,
    LabelledInfo,
    LabelledSample,
    TokenLabels,
    labelled_fingerprint,
    load_labelled,
    save_labelled,
)
from rolewise.data.origin import read_origin
from rolewise.data.readers import Rejected, describe_rejects, write_rejected
from rolewise.data.render import (
    NothingLeftError,
    RenderedSample,
    Renderer,
    Turn,
    left_out,
    tokenizer_fingerprint,
)
from rolewise.data.transfer import transfer
from rolewise.jobs.label_result import LabelResult, read_result
from rolewise.jobs.view import write_run_report
from rolewise.options.labelling import TransferOptions
from rolewise.training.models import load_tokenizer

METHOD = "transfer"


def transfer_labels(options: TransferOptions, progress: Progress | None = None) -> LabelResult:
    """Render a labelled data set's conversations for another model and transfer the roles, character by character.

    The conversations come from the data set's column `conversation`; each is rendered with the other model's own chat
    template. `rolewise.data.transfer.transfer` documents which role a token gets. A row trains the same turns as
    before; if the other template rewrites earlier turns, it becomes one row per turn.

    The result's `method` is `transfer`, and its `settings` record the origin of the roles. It can't be reclassified
    with another threshold, since few of its tokens have losses: relabel first, then transfer. Manual corrections are
    included in the roles.

    Raises:
        InputError: if there is no such data set, it holds no conversations, the tokenizer or its template can't be
            used, a row can't be rendered (unless `skip_invalid`), no row is left, or the output can't be written or
            holds something else.
    """
    labelled = load_labelled(options.data)
    if "conversation" not in labelled.rows.column_names or None in labelled.rows["conversation"][:1]:
        raise InputError(
            f"{labelled.path}: contains no conversations (it was written without the column `conversation`), so its "
            "labels can't be transferred; label the data again"
        )
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    renderer = Renderer(
        tokenizer,
        chat_template=options.chat_template,
        tool_format=options.tool_format,
        max_length=options.max_length,
    )
    settings = asdict(options)
    choices = {name: value for name, value in settings.items() if name not in ("model", "data", "output")}
    origin = {
        "rows": labelled_fingerprint(labelled.rows),
        "info": digest(asdict(labelled.info)),
        "method": labelled.info.method,
        "model": labelled.info.model,
        "model_hash": labelled.info.model_hash,
        "settings": labelled.info.settings,
    }
    rendering = renderer.fingerprint()
    run = RunDirectory(options.output, "transfer", settings, {"data": origin, "to": rendering, "settings": choices})
    if run.finished():
        return read_result(load_labelled(run.output), was_finished=True)
    with run.opened(), run.timed("write"):
        rows = _transfer_rows(labelled, renderer, options, progress or Progress(disable=True))
        samples, labels, rejected = rows.samples, rows.labels, rows.rejected
        info = LabelledInfo(
            method=METHOD,
            model=options.model,
            model_hash="",
            tokenizer=tokenizer_fingerprint(tokenizer),
            rendering=rendering,
            threshold=None,
            format_quantile=None,
            counts={},
            settings={**choices, "transferred_from": origin},
            versions=package_versions(),
            notes=[*rows.notes, _carried(labelled, samples, labels)],
            chat_template=renderer.given_template,
        )
        save_labelled(run.results, samples, labels, rows.excluded, info)
        write_rejected(rejected, run.results)
        checks = write_run_report(run)
    run.publish({"transferred": origin["info"], "rejected": len(rejected)})
    return read_result(load_labelled(run.output), was_finished=False, checks=checks)


class _Rows(NamedTuple):
    """Transferred and skipped rows."""

    samples: list[RenderedSample]
    labels: list[TokenLabels]
    excluded: list[bool]
    rejected: list[Rejected]
    notes: list[str]


def _transfer_rows(labelled: LabelledData, renderer: Renderer, options: TransferOptions, progress: Progress) -> _Rows:
    rows = _Rows([], [], [], [], [])
    notes: dict[str, None] = {}
    cut = CutAnswers()
    task = progress.add_task("transfer", total=len(labelled.rows))
    for old in labelled.samples():
        progress.advance(task)
        try:
            conversation, found = _transfer_row(old, renderer)
        except InputError as error:
            if not (options.skip_invalid or (options.skip_cut and isinstance(error, NothingLeftError))):
                raise
            rows.rejected.append(left_out(old.source, error))
            continue
        whole = [pair for pair in found if not (options.skip_cut and pair[0].lost)]
        if len(whole) < len(found):
            lost = sum(sample.lost for sample, _ in found)
            rows.rejected.append(Rejected(old.source, cut_reason(renderer.max_length, lost)))
        cut.add(sample for sample, _ in whole)
        if whole:
            notes.update(dict.fromkeys(renderer.notes_for([conversation])))
        for sample, label in whole:
            rows.samples.append(sample)
            rows.labels.append(label)
            rows.excluded.append(old.excluded)
    if not rows.samples:
        first = rows.rejected[0]
        raise InputError(f"{labelled.path}: no row can be transferred; the first error: {first.source}: {first.reason}")
    rows.notes.extend([*notes, *filter(None, [cut.note(renderer.max_length)]), *describe_rejects(rows.rejected)])
    return rows


def _transfer_row(
    old: LabelledSample, renderer: Renderer
) -> tuple[Conversation, list[tuple[RenderedSample, TokenLabels]]]:
    origin = read_origin(old.origin or "", old.source)
    found = []
    for new in renderer.render(origin.conversation):
        turns = read_origin(new.origin or "", old.source).turns
        labels, mask_T = transfer(old, origin.turns, new, turns)
        if mask_T.any():
            found.append((_with_mask(new, mask_T), labels))
    if not found:
        raise NothingLeftError(f"{old.source}: no token with loss is left; raise --max-length")
    return origin.conversation, found


def _with_mask(sample: RenderedSample, mask_T: np.ndarray) -> RenderedSample:
    """Return the sample with loss only on `mask_T` (bool, shape (T,)), a subset of its own mask."""
    turns = []
    for turn in sample.turns:
        inside = np.flatnonzero(mask_T[turn.start : turn.end])
        if len(inside):
            turns.append(Turn(turn.start, turn.start + int(inside[-1]) + 1))
    truth = sample.true_roles
    if truth is not None:
        truth = np.where(mask_T, truth, Role.CONTEXT).astype(np.uint8)
    return replace(sample, loss_mask=mask_T, turns=tuple(turns), true_roles=truth)


def _carried(labelled: LabelledData, samples: list[RenderedSample], labels: list[TokenLabels]) -> str:
    """Return a note for the user on how many roles were transferred."""
    masks = [sample.loss_mask for sample in samples]
    tokens = sum(int(mask_T.sum()) for mask_T in masks)
    plain = sum(int((label.roles_T == Role.PLAIN).sum()) for label in labels)
    before: Any = labelled.info.counts
    plain_before = before.get("plain", 0) / max(1, before["loss_tokens"])
    model = PurePath(labelled.info.model).name or "another tokenizer"
    return (
        f"Roles were transferred from tokens of {model}: {plain / tokens:.1%} of the loss tokens have none, compared "
        f"with {plain_before:.1%} before."
    )
