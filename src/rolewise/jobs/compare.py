"""Comparison of two labellings of the same conversations."""

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.labelled import LabelledData
from rolewise.evaluation.kappa import confusion_matrix

BATCH_ROWS = 1000


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
