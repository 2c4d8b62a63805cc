"""Packing of several separate samples into one row: no padding, no attention from one to another.

TRL packs all list columns alike, so roles stay aligned with their tokens. Positions start at 0 in each sample, which
lets attention and weights separate the samples.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
import torch
from datasets import Dataset
from trl import SFTConfig, pack_dataset

from rolewise.core.errors import InputError

COLUMNS = ("input_ids", "labels", "token_roles")
SCORE_COLUMNS = ("base_loss", "tuned_loss")
"""Further columns for a weighting that needs scores."""
STRATEGY = "bfd"
"""Best fit decreasing, which never splits a sample; TRL's other strategies do."""


def pack_rows(rows: Dataset, length: int | None, columns: Sequence[str] = COLUMNS) -> Dataset:
    """Pack labelled rows into rows of `length` tokens, or of the longest sample's length if that is greater or `length`
    is None.

    The result has the `columns` and `seq_lengths`. It is held in memory, since datasets would otherwise
    write it as a cache file into the directory of the labelled data.
    """
    ids = rows.select_columns("input_ids").with_format("arrow")
    longest = max(pc.max(pc.list_value_length(batch["input_ids"])).as_py() for batch in ids.iter(1000))
    return pack_dataset(
        rows.select_columns(list(columns)), max(longest, length or 0), STRATEGY, {"keep_in_memory": True}
    )


def check_strategy(args: SFTConfig) -> None:
    """Raise InputError for a packing that splits samples: weights are per sample."""
    if args.packing and args.packing_strategy != STRATEGY:
        raise InputError(
            f"packing_strategy {args.packing_strategy} splits samples, but weights are per sample; use {STRATEGY}"
        )


def segments(inputs: dict[str, Any]) -> torch.Tensor | None:
    """Return the number of each token's sample within its row, int64 of shape (B, T); None for rows of one sample."""
    positions_BT = inputs.get("position_ids")
    if positions_BT is None:
        return None
    return (positions_BT == 0).cumsum(dim=1) - 1


def loss_mask(labels_BT: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the loss mask, bool of shape (B, T): tokens with a label that are not the first of their sample."""
    mask_BT: torch.Tensor = labels_BT != -100
    mask_BT[:, 0] = False
    positions_BT = inputs.get("position_ids")
    return mask_BT if positions_BT is None else mask_BT & (positions_BT != 0)
