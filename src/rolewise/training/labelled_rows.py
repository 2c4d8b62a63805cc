"""Preparation of labelled data according to the trainer's settings: check, cut, shuffle and pack, keeping the roles.

TRL's own preparation would lose the roles, so it is skipped, and options that only it reads are refused by name.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from pyarrow import types
from trl import SFTConfig

from rolewise.core.errors import InputError
from rolewise.data.labelled import noted_tokenizer
from rolewise.data.render import tokenizer_fingerprint
from rolewise.training.packing import COLUMNS, SCORE_COLUMNS, pack_rows
from rolewise.weighting import Weighting

NOT_READ = {
    "chat_template_path": (None, "labelling has already rendered its text"),
    "dataset_text_field": ("text", "it holds tokens"),
    "dataset_num_proc": (None, "it is already tokenized"),
    "completion_only_loss": (None, "its labels determine the tokens with loss"),
    "assistant_only_loss": (False, "its labels determine the tokens with loss"),
}
"""Fields of `SFTConfig` that only TRL's preparation reads: the neutral value, and the reason to refuse others."""


class LabelledRows:
    """Preparation of labelled data sets for a trainer.

    Args:
        args: settings of the trainer; `max_length`, `truncation_mode`, `shuffle_dataset`, `seed`, `packing` and
            `eval_packing` are read at construction.
        weighting: determines the required columns.
        formatting_func: the trainer's argument, which labelled data does not allow.

    Raises:
        InputError: naming an option that would be ignored.
    """

    def __init__(self, args: SFTConfig, weighting: Weighting, formatting_func: Callable[..., Any] | None = None):
        check_read(args, formatting_func)
        self._columns = (*COLUMNS, *SCORE_COLUMNS) if weighting.needs_scores else COLUMNS
        self._length, self._from_end = args.max_length, args.truncation_mode == "keep_end"
        self._shuffle_by = args.seed if args.shuffle_dataset else None
        self._pack, self._pack_evaluation = args.packing, args.packing
        if args.eval_packing is not None:
            self._pack_evaluation = args.eval_packing

    def train(self, rows: Any) -> Dataset:
        """Return data to train on.

        Raises:
            InputError: for a stream, for missing columns, or for a sample without loss tokens after `max_length`.
        """
        return self._made(rows, "train", pack=self._pack)

    def evaluation(self, rows: Any, name: str = "eval", *, packed: bool = True) -> Any:
        """Return data for evaluation, one set or several by name; prepared data is returned unchanged, None as None.

        Args:
            rows: the data.
            name: name of the data in errors; each of several sets has its own name.
            packed: True if packing is allowed; predictions are per sample.

        Raises:
            InputError: as `train`.
        """
        if rows is None:
            return None
        if isinstance(rows, dict):
            return {key: self.evaluation(part, key, packed=packed) for key, part in rows.items()}
        return self._made(rows, name, pack=packed and self._pack_evaluation)

    def _made(self, rows: Any, name: str, *, pack: bool) -> Dataset:
        check_labelled(rows, name, self._columns)
        if "seq_lengths" in rows.column_names:  # already packed: the trainer passes its own data back in
            return rows
        rows, lost = cut_rows(rows, self._length, from_end=self._from_end)
        if lost:
            warnings.warn(
                f"the {name} data: max_length={self._length} cuts {len(lost):,} of {len(rows):,} samples, and "
                f"{sum(lost):,} tokens with loss are lost; raise max_length, or leave such samples out",
                stacklevel=5,
            )
        if name == "train" and self._shuffle_by is not None:
            rows = rows.shuffle(seed=self._shuffle_by, keep_in_memory=True)
        return pack_rows(rows, self._length, self._columns) if pack else rows


def check_read(args: SFTConfig, formatting_func: Callable[..., Any] | None = None) -> None:
    """Refuse settings that labelled data would silently ignore.

    Raises:
        InputError: naming the first such setting.
    """
    for name, (idle, why) in NOT_READ.items():
        if (value := getattr(args, name)) != idle:
            raise InputError(f"{name}={value!r} would be ignored for labelled data: {why}; leave it out")
    for name, value in (args.dataset_kwargs or {}).items():
        if (name, value) != ("skip_prepare_dataset", True):
            raise InputError(
                f"dataset_kwargs {name}={value!r} would be ignored for labelled data: it is prepared; leave it out"
            )
    if args.truncation_mode not in ("keep_start", "keep_end"):
        raise InputError(f"truncation_mode {args.truncation_mode!r} is not known; choose keep_start or keep_end")
    if args.max_length is not None and args.max_length < 2:
        raise InputError(f"max_length is {args.max_length}; it must be at least 2, or None for no limit")
    if formatting_func is not None:
        raise InputError("formatting_func would be ignored for labelled data: it holds tokens; leave it out")


def whole_rows(rows: Dataset, length: int) -> tuple[Dataset, list[str]]:
    """Return the rows that `length` would not cut, and the sources of the others; in memory if some are left out."""
    fits = token_counts(rows) <= length
    if fits.all():
        return rows, []
    left_out = rows.select(np.flatnonzero(~fits), keep_in_memory=True)["source"][:]
    return rows.select(np.flatnonzero(fits), keep_in_memory=True), [str(source) for source in left_out]


def cut_rows(rows: Dataset, length: int | None, *, from_end: bool = False) -> tuple[Dataset, list[int]]:
    """Cut rows to `length` tokens, in every column with one value per token; also count the lost tokens.

    Such columns are those of labelled data, and others that hold, in every row, a list with one plain value per token.

    The result is held in memory if anything is cut, since datasets would otherwise write it as a cache file into the
    directory of the labelled data.

    Args:
        rows: rows with `input_ids` and `labels`.
        length: maximum number of tokens; None cuts nothing.
        from_end: keep the end of a sample, not its beginning.

    Returns:
        The rows, and for each cut sample the number of lost tokens with loss.

    Raises:
        InputError: naming a sample without any remaining token with loss.
    """
    sizes = token_counts(rows)
    if length is None or not (sizes > length).any():
        return rows, []
    lost: list[int] = []
    kept = slice(-length, None) if from_end else slice(length)
    columns = _token_columns(rows, sizes)

    def cut(row: dict[str, Any], number: int) -> dict[str, Any]:
        if len(row["input_ids"]) <= length:
            return {}
        labels = row["labels"][kept]
        if not any(label != -100 for label in labels[1:]):
            where = row.get("source") or f"sample {number + 1} of the labelled data"
            raise InputError(
                f"{where}: no token with loss is left after cutting to max_length={length}; raise max_length, or leave "
                "such samples out"
            )
        lost.append(sum(label != -100 for label in row["labels"][1:]) - sum(label != -100 for label in labels[1:]))
        return {name: row[name][kept] for name in columns if row[name] is not None}

    return rows.with_format(None).map(cut, with_indices=True, keep_in_memory=True, load_from_cache_file=False), lost


def token_counts(rows: Dataset) -> np.ndarray:
    """Return the number of tokens in each row, int64 of shape (rows,)."""
    return _list_lengths(rows, "input_ids")


def _list_lengths(rows: Dataset, column: str) -> np.ndarray:
    """Return the number of items in each row's list, int64 of shape (rows,); -1 for rows without a list."""
    lists = rows.select_columns(column).with_format("arrow")
    sizes = [pc.fill_null(pc.list_value_length(batch[column]), -1).to_numpy() for batch in lists.iter(1000)]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in sizes] or [np.zeros(0, dtype=np.int64)])


def _token_columns(rows: Dataset, sizes: np.ndarray) -> list[str]:
    """Return the columns that `cut_rows` cuts; a list of messages may happen to be as long as the tokens."""
    ours = (*COLUMNS, *SCORE_COLUMNS)
    columns = []
    for field in rows.features.arrow_schema:
        kind = field.type
        plain = (types.is_list(kind) or types.is_large_list(kind)) and not types.is_nested(kind.value_type)
        if field.name in ours or (plain and np.array_equal(_list_lengths(rows, field.name), sizes)):
            columns.append(field.name)
    return columns


def named(evaluation: Any) -> dict[str, Any]:
    """Return evaluation data by name, for none, one, or several sets."""
    if isinstance(evaluation, dict):
        return evaluation
    return {} if evaluation is None else {"eval": evaluation}


def is_labelled(dataset: Any) -> bool:
    """Return True if a data set, or any of its splits, has roles."""
    if isinstance(dataset, dict):
        return any(map(is_labelled, dataset.values()))
    columns = getattr(dataset, "column_names", None)
    if columns is None and isinstance(dataset, IterableDataset):
        columns = next(iter(dataset), None)  # a stream may not know its columns before it is read
    return "token_roles" in (columns or ())


def check_labelled(dataset: Any, name: str, columns: Sequence[str]) -> None:
    """Refuse data that would make the trainer fail later.

    Raises:
        InputError: for a stream, for several splits, and for missing columns.
    """
    if isinstance(dataset, dict):
        raise InputError(f"the {name} data has the splits {', '.join(map(str, dataset))}; pass one of them")
    if not isinstance(dataset, Dataset):
        raise InputError(f"the {name} data must be a labelled Dataset, not streamed; use datasets.load_from_disk")
    missing = set(columns) - set(dataset.column_names)
    if missing:
        raise InputError(f"the {name} data lacks {', '.join(sorted(missing))}; label it like the training data")


def check_tokenizer(train: Any, tokenizer: Any) -> None:
    """Refuse ids from another tokenizer, if the data set names its tokenizer.

    Raises:
        InputError: if the tokenizers differ.
    """
    expected = noted_tokenizer(train)
    if expected is not None and expected != tokenizer_fingerprint(tokenizer):
        raise InputError(
            "the training data was labelled with a different tokenizer from this model's; relabel it with this model"
        )
