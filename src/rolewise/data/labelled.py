"""The labelled data set: a Hugging Face `datasets` directory that any trainer can read, and `rolewise.json` in it."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value, load_from_disk

from rolewise.core.errors import InputError
from rolewise.core.files import digest, write_json
from rolewise.core.limits import parse_json, read_text
from rolewise.core.role import Role
from rolewise.data.render import RenderedSample

INFO_FILE = "rolewise.json"
SCHEMA_VERSION = 1
TOKENIZER_NOTE = "Token roles by rolewise; tokenizer fingerprint "


@dataclass(frozen=True)
class LabelledInfo:
    """Contents of `rolewise.json`. Two equal runs write the same contents.

    Attributes:
        method: the labeller, e.g. `shad`.
        model: directory or hub id of the model, empty if none was used.
        model_hash: hash of the model's contents, empty if none was used.
        tokenizer: fingerprint of the tokenizer whose ids the data set holds.
        rendering: fingerprint of tokenizer, chat template and tool format together.
        threshold: tokens with a greater LD are reasoning; None if no losses were measured.
        format_quantile: boilerplate with a base loss below this quantile of boilerplate's is FORMAT; None: no split.
        counts: numbers of loss tokens per role name, samples, tokens.
        settings: settings of the labelling, complete enough to repeat it.
        versions: versions of the packages involved.
        notes: changes made by the renderer, for the user.
        chat_template: the Jinja text used to write the samples, if it is not the tokenizer's own.
        role_names: role names of the integers in `token_roles`.
        patches: manual corrections, in the order of application (see `patch.PatchRecord`).
        vocabulary: number of tokens of the tokenizer; None in sets written before it was recorded.
        token_counts: loss tokens counted for rarity: id as text → count; None if the scores do not use rarity.
    """

    method: str
    model: str
    model_hash: str
    tokenizer: str
    rendering: str
    threshold: float | None
    format_quantile: float | None
    counts: dict[str, int]
    settings: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    chat_template: str | None = None
    role_names: dict[str, str] = field(default_factory=lambda: {str(int(role)): role.label for role in Role})
    patches: list[dict[str, Any]] = field(default_factory=list)
    vocabulary: int | None = None
    token_counts: dict[str, int] | None = None
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True)
class TokenLabels:
    """Roles and losses of one sample's T tokens; unmeasured losses are NaN.

    Attributes:
        score_T: what the threshold decides on (float32), of a method for which that is not LD.
    """

    roles_T: np.ndarray
    base_loss_T: np.ndarray
    tuned_loss_T: np.ndarray
    score_T: np.ndarray | None = None

    @classmethod
    def without_losses(cls, roles_T: np.ndarray) -> "TokenLabels":
        """Return labels of a method that measures no losses."""
        unknown_T = np.full(len(roles_T), np.nan, dtype=np.float32)
        return cls(roles_T, unknown_T, unknown_T)


@dataclass(frozen=True)
class LabelledSample:
    """One row of a labelled data set as arrays of shape (T,); see `save_labelled` for the columns."""

    source: str
    text: str
    char_start_T: np.ndarray
    char_end_T: np.ndarray
    mask_T: np.ndarray
    roles_T: np.ndarray
    base_loss_T: np.ndarray
    tuned_loss_T: np.ndarray
    true_roles_T: np.ndarray | None
    excluded: bool
    origin: str | None = None
    score_T: np.ndarray | None = None

    @property
    def evidence_T(self) -> np.ndarray:
        """What the threshold decides on (float32, nats): the method's own score, else LD = tuned − base loss."""
        return self.tuned_loss_T - self.base_loss_T if self.score_T is None else self.score_T

    @property
    def turn_char_spans(self) -> list[tuple[int, int]]:
        """Characters of each run of loss tokens, half-open: the assistant's turns."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.mask_T.astype(np.int8), [0]])))
        runs = zip(edges[::2], edges[1::2], strict=True)
        return [(int(self.char_start_T[start]), int(self.char_end_T[end - 1])) for start, end in runs]

    @property
    def pieces(self) -> list[str]:
        """The text split at the start of each token; joined, the pieces give the text again."""
        # Tokens that share one character (split multi-byte characters) share its start: the first piece is empty.
        bounds = [0, *self.char_start_T[1:].tolist(), len(self.text)]
        return [self.text[start:end] for start, end in pairwise(bounds)]


@dataclass(frozen=True)
class LabelledData:
    """An open labelled data set."""

    path: Path
    rows: Dataset
    info: LabelledInfo

    def samples(self, limit: int | None = None) -> Iterator[LabelledSample]:
        """Yield the first `limit` rows, or all."""
        rows = self.rows if limit is None else self.rows.select(range(min(limit, len(self.rows))))
        for row in rows.with_format("numpy"):
            yield LabelledSample(
                source=str(row["source"]),
                text=str(row["text"]),
                char_start_T=row["char_start"],
                char_end_T=row["char_end"],
                mask_T=row["labels"] != -100,
                roles_T=row["token_roles"],
                base_loss_T=row["base_loss"],
                tuned_loss_T=row["tuned_loss"],
                true_roles_T=row.get("true_roles"),
                excluded=bool(row["excluded"]),
                origin=_text_or_none(row.get("conversation")),
                score_T=row.get("score"),
            )


_FEATURES = {
    "input_ids": List(Value("int32")),
    "labels": List(Value("int32")),
    "token_roles": List(Value("uint8")),
    "base_loss": List(Value("float32")),
    "tuned_loss": List(Value("float32")),
    "char_start": List(Value("int32")),
    "char_end": List(Value("int32")),
    "text": Value("string"),
    "source": Value("string"),
    "excluded": Value("bool"),
    "conversation": Value("string"),
}
_TRUTH = {"true_roles": List(Value("uint8"))}
_SCORE = {"score": List(Value("float32"))}
_Row = tuple[RenderedSample, TokenLabels, bool]
ROWS_AT_ONCE = 100
"""Number of rows held in memory at a time while a data set is written."""


def save_labelled(
    directory: Path,
    samples: Iterable[RenderedSample],
    labels: Iterable[TokenLabels],
    excluded: Iterable[bool],
    info: LabelledInfo,
) -> None:
    """Write the data set into `directory` (not atomically: callers write next to the final path, then rename).

    Columns, of T entries each: `input_ids`, `labels` (−100 if a token carries no loss), `token_roles`, `base_loss`
    and `tuned_loss` (nats), `char_start` and `char_end` (into the row's `text`); and per row `text`, `source`,
    `excluded` (reported metrics leave it out, since the labeller was tuned on its output) and `conversation` (JSON
    text, see `origin.Origin`; sets written before this column existed open without it). `true_roles` is present if the
    true roles of any sample are known, `score` if the method has scores of its own. Rows are written as they arrive, so
    they need not fit in memory, and counted: `info.counts` is filled in.
    """
    counter = RoleCounter()
    contents = hashlib.sha256()
    knows_truth = has_scores = False
    schema = Features(_FEATURES | _TRUTH | _SCORE).arrow_schema
    # Next to the directory: `datasets` does not write a data set over its own files.
    with tempfile.NamedTemporaryFile(dir=directory.parent, prefix=".rows.", suffix=".tmp") as rows_file:
        with pa.OSFile(rows_file.name, "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in _batches(zip(samples, labels, excluded, strict=True), ROWS_AT_ONCE):
                for sample, label, _ in rows:
                    counter.add(sample, label)
                    contents.update(sample.input_ids.tobytes() + label.roles_T.tobytes())
                    knows_truth = knows_truth or sample.true_roles is not None
                    has_scores = has_scores or label.score_T is not None
                writer.write_table(pa.Table.from_pydict(_columns(rows), schema=schema))
        written = Dataset.from_file(rows_file.name)
        # Otherwise `datasets` draws a fingerprint that differs from run to run.
        fingerprint = digest([contents.hexdigest(), info.settings])
        absent = [*([] if knows_truth else _TRUTH), *([] if has_scores else _SCORE)]
        written = written.remove_columns(absent, new_fingerprint=fingerprint)
        # The only field that always travels with the rows: a trainer can reject those of another tokenizer.
        written.info.description = TOKENIZER_NOTE + info.tokenizer
        written.save_to_disk(directory)
    write_json(directory / INFO_FILE, asdict(replace(info, counts=counter.counts())))


def _batches(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def _columns(rows: Sequence[_Row]) -> dict[str, list[Any]]:
    samples, labels, excluded = zip(*rows, strict=True)
    return {
        "input_ids": [sample.input_ids for sample in samples],
        "labels": [np.where(sample.loss_mask, sample.input_ids, -100).astype(np.int32) for sample in samples],
        "token_roles": [label.roles_T.astype(np.uint8) for label in labels],
        "base_loss": [label.base_loss_T.astype(np.float32) for label in labels],
        "tuned_loss": [label.tuned_loss_T.astype(np.float32) for label in labels],
        "char_start": [sample.char_start for sample in samples],
        "char_end": [sample.char_end for sample in samples],
        "text": [sample.text.encode(errors="replace").decode() for sample in samples],
        "source": [sample.source for sample in samples],
        "excluded": list(excluded),
        "conversation": [sample.origin for sample in samples],
        "true_roles": [
            sample.true_roles
            if sample.true_roles is not None
            else np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT).astype(np.uint8)
            for sample in samples
        ],
        "score": [
            label.score_T if label.score_T is not None else np.full(len(label.roles_T), np.nan, np.float32)
            for label in labels
        ],
    }


def is_labelled(path: str | Path) -> bool:
    """Return True if a path is the directory of a labelled data set."""
    return (Path(path) / INFO_FILE).is_file()


def load_labelled(path: str | Path, *, tokenizer_fingerprint: str | None = None) -> LabelledData:
    """Open a labelled data set.

    Args:
        path: the directory.
        tokenizer_fingerprint: fingerprint of the tokenizer to use it with.

    Raises:
        InputError: if the directory is not a labelled data set, or was labelled for another tokenizer.
    """
    directory = Path(path)
    info_file = directory / INFO_FILE
    if not info_file.is_file():
        raise InputError(f"{directory}: no labelled data set here ({INFO_FILE} is missing); make one: rolewise label")
    try:
        fields = parse_json(read_text(info_file))
        info = LabelledInfo(**fields)
        rows = load_from_disk(str(directory))
    except (TypeError, ValueError, OSError) as error:
        raise InputError(f"{directory}: the labelled data set can't be read ({error}); label the data again") from error
    if info.schema != SCHEMA_VERSION:
        raise InputError(
            f"{info_file}: schema {info.schema}, but this version of rolewise reads {SCHEMA_VERSION}; label again"
        )
    if tokenizer_fingerprint is not None and tokenizer_fingerprint != info.tokenizer:
        raise InputError(
            f"{directory}: labelled with the tokenizer of {info.model} ({info.tokenizer[:12]}), not with this model's "
            f"({tokenizer_fingerprint[:12]}); label the data again with this model"
        )
    return LabelledData(directory, rows, info)


def labelled_samples(
    samples: Sequence[RenderedSample], labels: Sequence[TokenLabels], excluded: Sequence[bool]
) -> list[LabelledSample]:
    """Return rendered samples with their labels, in the form in which the data set is read back."""
    return [
        LabelledSample(
            source=sample.source,
            text=sample.text,
            char_start_T=sample.char_start,
            char_end_T=sample.char_end,
            mask_T=sample.loss_mask,
            roles_T=label.roles_T,
            base_loss_T=label.base_loss_T,
            tuned_loss_T=label.tuned_loss_T,
            true_roles_T=sample.true_roles,
            excluded=out,
            origin=sample.origin,
            score_T=label.score_T,
        )
        for sample, label, out in zip(samples, labels, excluded, strict=True)
    ]


def labelled_fingerprint(rows: Dataset) -> str:
    """Return a hash of every row's `input_ids`, 16 hexadecimal digits; labels do not affect it.

    A file that refers to tokens by row and position, such as a patch of the viewer, identifies its data set by it.
    """
    lengths, ids = hashlib.sha256(), hashlib.sha256()
    for batch in rows.select_columns("input_ids").with_format("numpy").iter(batch_size=1000):
        for ids_T in batch["input_ids"]:
            lengths.update(len(ids_T).to_bytes(8, "little"))
            ids.update(np.ascontiguousarray(ids_T, dtype="<i4").tobytes())
    return hashlib.sha256(lengths.digest() + ids.digest()).hexdigest()[:16]


def noted_tokenizer(rows: Dataset) -> str | None:
    """Return the fingerprint of the labelled rows' tokenizer; None for rows that Rolewise did not save."""
    description = rows.info.description or ""
    return description.removeprefix(TOKENIZER_NOTE) if description.startswith(TOKENIZER_NOTE) else None


class RoleCounter:
    """Counter of samples, tokens, loss tokens, and loss tokens per role."""

    def __init__(self) -> None:
        self._samples = self._tokens = self._loss_tokens = 0
        self._of_role = np.zeros(len(Role), dtype=np.int64)

    def add(self, sample: RenderedSample, label: TokenLabels) -> None:
        """Count one sample."""
        self._samples += 1
        self._tokens += len(sample.input_ids)
        self._loss_tokens += int(sample.loss_mask.sum())
        self._of_role += np.bincount(label.roles_T[sample.loss_mask], minlength=len(Role))

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        by_name = {role.label: int(self._of_role[role]) for role in Role if role is not Role.CONTEXT}
        return {"samples": self._samples, "tokens": self._tokens, "loss_tokens": self._loss_tokens, **by_name}


def count_roles(samples: Iterable[RenderedSample], labels: Iterable[TokenLabels]) -> dict[str, int]:
    """Return the number of loss tokens per role name, of samples, of all tokens, and of tokens with loss."""
    counter = RoleCounter()
    for sample, label in zip(samples, labels, strict=True):
        counter.add(sample, label)
    return counter.counts()


def count_by_role(roles: Iterable[np.ndarray]) -> dict[str, int]:
    """Return the number of tokens per role name, given roles of shape (T,) per sample; CONTEXT is left out."""
    counts = np.zeros(len(Role), dtype=np.int64)
    for roles_T in roles:
        counts += np.bincount(roles_T, minlength=len(Role))
    return {role.label: int(counts[role]) for role in Role if role is not Role.CONTEXT}


def _text_or_none(value: Any) -> str | None:
    """Return a text column's cell, which numpy formatting gives as a NumPy string, as text; None if there is none."""
    return None if value is None else str(value)
