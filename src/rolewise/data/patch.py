"""Manual corrections of roles: patch files, saved by the viewer and applied to a labelled data set.

    {"rolewise_patch": 1, "data": "<labelled_fingerprint>",
     "edits": [{"row": 0, "start": 17, "end": 20, "role": "reasoning"}]}

`start` and `end` are tokens of the row, half-open. The edits of applied patches are kept in `rolewise.json`, so that a
classification by another threshold can apply them again: manual corrections are few, and a column would cost a byte
per token.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json
from rolewise.core.role import Role
from rolewise.data.message_fields import ROLE_BY_LABEL

PATCH_VERSION = 1
ROLES_TO_GIVE = {label: role for label, role in ROLE_BY_LABEL.items() if role is not Role.CONTEXT}


@dataclass(frozen=True)
class Edit:
    """Tokens `start` to `end` (half-open) of row `row` play `role` (its lower-case name)."""

    row: int
    start: int
    end: int
    role: str


@dataclass(frozen=True)
class PatchRecord:
    """Record of an applied patch in `rolewise.json`: the file's name and SHA-256, and its edits."""

    file: str
    sha256: str
    edits: list[Edit]

    def as_json(self) -> dict[str, Any]:
        """Return the record in the form of `LabelledInfo.patches`."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "PatchRecord":
        """Return the record that `as_json` converted."""
        return cls(record["file"], record["sha256"], [Edit(**edit) for edit in record["edits"]])


def read_patch(path: str | Path, fingerprint: str) -> PatchRecord:
    """Read a patch file for the data set with this fingerprint (see `labelled_fingerprint`).

    Raises:
        InputError: naming the file and the edit, for an unreadable file, a file made for another data set, and an edit
            that does not have the form above.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        patch = parse_json(content)
    except OSError as error:
        raise InputError(f"{path}: cannot read the patch ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error}); save the patch from the viewer again") from error
    if not isinstance(patch, dict) or patch.get("rolewise_patch") != PATCH_VERSION or patch["rolewise_patch"] is True:
        raise InputError(f'{path}: not a patch of version {PATCH_VERSION}; expected {{"rolewise_patch": 1, "data": …}}')
    if patch.get("data") != fingerprint:
        raise InputError(
            f"{path}: made for another data set ({str(patch.get('data'))[:12]}, not {fingerprint[:12]}); apply it to "
            "the one that it corrects"
        )
    edits = patch.get("edits")
    if not isinstance(edits, list):
        raise InputError(f"{path}: `edits` must be a list of {{row, start, end, role}}")
    read = [_read_edit(edit, f"{path}: edit {number}") for number, edit in enumerate(edits, start=1)]
    return PatchRecord(path.name, hashlib.sha256(content).hexdigest(), read)


def _read_edit(edit: Any, where: str) -> Edit:
    keys = {"row", "start", "end", "role"}
    if not isinstance(edit, dict) or set(edit) != keys:
        raise InputError(f"{where} must have exactly row, start, end and role")
    row, start, end = edit["row"], edit["start"], edit["end"]
    if not all(type(number) is int for number in (row, start, end)):
        raise InputError(f"{where}: row, start and end must be whole numbers, not {[row, start, end]}")
    if not isinstance(edit["role"], str) or edit["role"] not in ROLES_TO_GIVE:
        raise InputError(f"{where}: role {edit['role']!r} is not known; choose one of {', '.join(ROLES_TO_GIVE)}")
    return Edit(row, start, end, edit["role"])


def apply_patches(roles: Sequence[np.ndarray], patches: Sequence[PatchRecord]) -> None:
    """Apply patches to the roles of all rows (uint8 arrays of shape (T,)), in place; later edits win.

    Raises:
        InputError: naming the patch and the edit, for tokens outside the row or tokens that carry no loss.
    """
    for patch in patches:
        for number, edit in enumerate(patch.edits, start=1):
            where = f"{patch.file}: edit {number}"
            if not 0 <= edit.row < len(roles):
                raise InputError(f"{where}: row {edit.row} does not exist; the data set has rows 0 to {len(roles) - 1}")
            roles_T = roles[edit.row]
            if not 0 <= edit.start < edit.end <= len(roles_T):
                raise InputError(
                    f"{where}: tokens {edit.start} to {edit.end} are not in row {edit.row}, which has {len(roles_T)}; "
                    "`end` is one past the last"
                )
            bare = np.flatnonzero(roles_T[edit.start : edit.end] == Role.CONTEXT)
            if len(bare):
                raise InputError(
                    f"{where}: token {edit.start + bare[0]} of row {edit.row} carries no loss, so it can't have a "
                    "role; leave it out"
                )
            roles_T[edit.start : edit.end] = ROLES_TO_GIVE[edit.role]
