"""Records that were left out: counted by reason, and written to a file for the user to fix."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rolewise.core.files import write_text

REJECTED_FILE = "rejected.jsonl"
_REASONS_SHOWN = 20


class Rejected(NamedTuple):
    """A record that was left out: its source and the reason."""

    source: str
    reason: str


class RejectReason(NamedTuple):
    """Number of records left out for one reason, and the first of them."""

    records: int
    first: Rejected


def count_rejects(rejected: Iterable[Rejected]) -> list[RejectReason]:
    """Count rejected records by reason, most frequent first; reasons may differ in numbers and quoted words."""
    first: dict[str, Rejected] = {}
    counts: Counter[str] = Counter()
    for entry in rejected:
        reason = re.sub(r"\d+|'[^']*'", "…", entry.reason)
        first.setdefault(reason, entry)
        counts[reason] += 1
    return [RejectReason(count, first[reason]) for reason, count in counts.most_common()]


def describe_rejects(rejected: Sequence[Rejected]) -> list[str]:
    """Return one line per reason, for the user, with the first record that it applies to."""
    reasons = count_rejects(rejected)
    lines = []
    for records, (source, reason) in reasons[:_REASONS_SHOWN]:
        more = f" (and {records - 1} more like it)" if records > 1 else ""
        lines.append(f"left out: {source}: {reason}{more}")
    if len(reasons) > _REASONS_SHOWN:
        lines.append(f"left out: {sum(entry.records for entry in reasons[_REASONS_SHOWN:])} more for other reasons")
    return lines


def write_rejected(rejected: Sequence[Rejected], directory: Path) -> None:
    """Write `rejected.jsonl` (`source`, `reason`) into a directory if there is anything to write."""
    if rejected:
        lines = (json.dumps(entry._asdict(), ensure_ascii=False) + "\n" for entry in rejected)
        write_text(directory / REJECTED_FILE, "".join(lines))
