"""Result of a labelling job."""

from dataclasses import dataclass
from pathlib import Path

from rolewise.data.labelled import LabelledData, LabelledInfo
from rolewise.labelling.checks import Checks, check_labels


@dataclass(frozen=True)
class LabelResult:
    """A finished labelling: its location, its metadata and its checks."""

    path: Path
    info: LabelledInfo
    checks: Checks
    was_finished: bool


def read_result(labelled: LabelledData, *, was_finished: bool, checks: Checks | None = None) -> LabelResult:
    """Return a labelled data set with its checks, which are computed unless given."""
    return LabelResult(labelled.path, labelled.info, checks or check_labels(labelled), was_finished)
