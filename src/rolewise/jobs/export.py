"""The job of `rolewise export`: a labelled data set as weights for other trainers.

Intentionally unsupported: ms-swift's regular expressions for loss scales (they see a text, not a sample's roles), and
Axolotl's `train_detail` character spans (its tokenized format expresses exactly the same).
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_path
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.role import Role
from rolewise.data.labelled import LabelledData, LabelledSample, load_labelled
from rolewise.data.origin import read_origin
from rolewise.options.labelling import ExportOptions
from rolewise.reporting.views import weights_before_training
from rolewise.weighting import AlphaFT, ConstantWeights, Weighting, make_weighting

BY_LOSS = ("rft", "dft")
"""Weightings that depend on the losses of the model in training."""
ROWS_AT_ONCE = 256
"""Rows held in memory, and rows per Parquet row group."""

Row = dict[str, Any]


class ExportResult(NamedTuple):
    """The written file and notes for the user."""

    path: Path
    rows: int
    notes: list[str]


class _Weighted(NamedTuple):
    """One sample with its columns: ids and weights (float32), both of shape (T,)."""

    sample: LabelledSample
    ids_T: np.ndarray
    weights_T: np.ndarray


def export(options: ExportOptions) -> ExportResult:
    """Write a labelled data set for another trainer, atomically.

    `weights` (float32, one per token) are scaled to a mean of 1 over the loss tokens of the whole data set and are 0
    elsewhere, so that mean(weights · loss) over loss tokens is Rolewise's loss, whatever the scheme averages over;
    DFT's weights, which are probabilities, have a smaller mean. RFT's and DFT's weights depend on the losses of the
    model in training; the exported ones use the stored base losses, that is, the start of training.

    Formats:
        parquet: `input_ids`, `labels`, `weights`, `token_roles`, `base_loss`, `char_start`, `char_end`, `text`,
            `source`.
        trl: Parquet with `input_ids`, `labels` (−100 also where the weight is 0) and `weights`. TRL's SFTTrainer reads
            the first two and drops the third.
        axolotl: its pre-tokenized format, JSON Lines of `input_ids`, `attention_mask`, `labels`: tokens are on or off.
        ms-swift: its messages format, JSON Lines of `messages` and `tools`; a turn without loss has `"loss": false`.

    Raises:
        InputError: if there is no such data set, the output exists or can't be written, required losses or
            conversations are missing, or the format can't express the weights.
    """
    load_plugins(split_list(options.plugin or ""))
    weighting = make_weighting(options.weighting, options.weighting_args)
    _check_expressible(options, weighting)
    labelled = load_labelled(options.data)
    path = Path(options.output)
    if path.exists():
        raise InputError(f"{path}: already exists; choose another output or remove it")
    row, write = _FORMATS[options.to]
    rows = (row(weighted) for weighted in _weighted(labelled, weighting, options.weighting))
    with atomic_path(path) as temporary:
        write(rows, temporary)
    return ExportResult(path, len(labelled.rows), _notes(options))


def _check_expressible(options: ExportOptions, weighting: Weighting) -> None:
    is_binary = (
        options.weighting in ("none", "rho")
        or (isinstance(weighting, AlphaFT) and weighting.alpha in (0, 1))
        or (isinstance(weighting, ConstantWeights) and weighting.format_weight in (0, 1))
    )
    if options.to == "axolotl" and not is_binary:
        raise InputError(
            f"Axolotl's data switches tokens on or off; weights of {options.weighting} are neither. Use --weighting "
            "alpha --alpha 0 (reasoning only), --weighting none, or another --to"
        )
    if options.to == "ms-swift" and options.weighting != "none":
        raise InputError(
            f"ms-swift's data switches whole turns on or off; weights of {options.weighting} are per token. Use "
            "--weighting none, or another --to"
        )


def _notes(options: ExportOptions) -> list[str]:
    notes = []
    if options.weighting in BY_LOSS:
        name = options.weighting.upper()
        notes.append(f"{name}'s weights use the stored base losses; in training they would follow the model's losses.")
    if options.to == "trl" and options.weighting != "none":
        notes.append(
            "TRL's SFTTrainer drops the column `weights`: read it in your own collator and loss (with "
            "remove_unused_columns=False), or train with rolewise.WeightedSFTTrainer on the labelled data set."
        )
    if options.to == "axolotl" and options.weighting == "alpha":
        notes.append(
            "Axolotl averages over tokens, not per sample and role, so long samples count more than in Rolewise."
        )
    return notes


def _weighted(labelled: LabelledData, weighting: Weighting, name: str) -> Iterator[_Weighted]:
    """Yield samples with their weights, scaled as described in `export`."""
    rows = _numpy_rows(labelled, ["labels", "token_roles"])
    tokens, units = zip(*(_units(row["labels"] != -100, row["token_roles"], weighting) for row in rows), strict=True)
    # A sample alone is a whole batch, whose weights are divided by its own units; they must be divided by all units.
    scale = sum(tokens) / (sum(units) or 1.0)
    for sample, row, own in zip(labelled.samples(), _numpy_rows(labelled, ["input_ids"]), units, strict=True):
        _check_losses(sample, name)
        mask_T = sample.mask_T.copy()
        mask_T[:1] = False  # nothing predicts the first token
        weights_T = weights_before_training(replace(sample, mask_T=mask_T), weighting)
        yield _Weighted(sample, np.asarray(row["input_ids"]), weights_T * np.float32(scale * own))


def _units(mask_T: np.ndarray, roles_T: np.ndarray, weighting: Weighting) -> tuple[int, float]:
    """Return the number of a sample's loss tokens, and its count in the mean that the scheme takes."""
    mask = torch.from_numpy(np.append(False, mask_T[1:]))  # nothing predicts the first token
    if weighting.unit == "token":
        return int(mask.sum()), float(weighting.counts(torch.from_numpy(roles_T), mask).sum())
    return int(mask.sum()), float(mask.any())


def _numpy_rows(labelled: LabelledData, columns: list[str]) -> Iterable[Row]:
    rows: Iterable[Row] = labelled.rows.select_columns(columns).with_format("numpy")
    return rows


def _check_losses(sample: LabelledSample, weighting: str) -> None:
    if weighting not in BY_LOSS:
        return
    grouped_T = sample.mask_T & (sample.roles_T != Role.PLAIN)
    if np.isnan(sample.base_loss_T[grouped_T]).any():
        raise InputError(
            f"{sample.source}: {weighting} weights by base losses, but not every token has one (the regex measures "
            "none; few survive a transfer); use --weighting alpha, or label with SHAD"
        )


def _full_row(weighted: _Weighted) -> Row:
    sample = weighted.sample
    return {
        "input_ids": weighted.ids_T,
        "labels": np.where(sample.mask_T, weighted.ids_T, -100),
        "weights": weighted.weights_T,
        "token_roles": sample.roles_T,
        "base_loss": sample.base_loss_T,
        "char_start": sample.char_start_T,
        "char_end": sample.char_end_T,
        "text": sample.text,
        "source": sample.source,
    }


def _trl_row(weighted: _Weighted) -> Row:
    return {"input_ids": weighted.ids_T, "labels": _switched(weighted), "weights": weighted.weights_T}


def _axolotl_row(weighted: _Weighted) -> Row:
    ids = weighted.ids_T.tolist()
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": _switched(weighted).tolist()}


def _switched(weighted: _Weighted) -> np.ndarray:
    return np.where(weighted.weights_T > 0, weighted.ids_T, -100)


def _ms_swift_row(weighted: _Weighted) -> Row:
    """Convert a sample: calls become messages of role `tool_call`, as ms-swift expects; `tools` is JSON text."""
    sample = weighted.sample
    if sample.origin is None:
        raise InputError(
            f"{sample.source}: the data set has no conversations, but ms-swift reads no tokens; label the data again"
        )
    origin = read_origin(sample.origin, sample.source)
    trained = {turn.number for turn in origin.turns if turn.end <= len(sample.text)}
    messages: list[Row] = []
    turns = 0
    for message in origin.conversation.messages:
        role, content = message["role"], message.get("content")
        if role != "assistant":
            messages.append({"role": role, "content": content})
            continue
        switch = {} if turns in trained else {"loss": False}
        turns += 1
        if content:
            messages.append({"role": role, "content": content, **switch})
        for call in message.get("tool_calls") or ():
            text = json.dumps(call["function"], ensure_ascii=False)
            messages.append({"role": "tool_call", "content": text, **switch})
    tools = origin.conversation.tools
    return {"messages": messages, **({"tools": json.dumps(tools, ensure_ascii=False)} if tools else {})}


_TYPES = {
    "input_ids": pa.list_(pa.int32()),
    "labels": pa.list_(pa.int32()),
    "weights": pa.list_(pa.float32()),
    "token_roles": pa.list_(pa.uint8()),
    "base_loss": pa.list_(pa.float32()),
    "char_start": pa.list_(pa.int32()),
    "char_end": pa.list_(pa.int32()),
    "text": pa.string(),
    "source": pa.string(),
}


def _write_parquet(rows: Iterator[Row], path: Path) -> None:
    batch = list(islice(rows, ROWS_AT_ONCE))
    schema = pa.schema([(name, _TYPES[name]) for name in batch[0]])
    with pq.ParquetWriter(path, schema) as writer:
        while batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            batch = list(islice(rows, ROWS_AT_ONCE))


def _write_json_lines(rows: Iterator[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


_FORMATS: dict[str, tuple[Callable[[_Weighted], Row], Callable[[Iterator[Row], Path], None]]] = {
    "parquet": (_full_row, _write_parquet),
    "trl": (_trl_row, _write_parquet),
    "axolotl": (_axolotl_row, _write_json_lines),
    "ms-swift": (_ms_swift_row, _write_json_lines),
}
"""Target format → function from a sample to its row, and the writer of rows."""
