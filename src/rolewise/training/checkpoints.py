"""Which checkpoint of an interrupted run can be trusted."""

import re
from pathlib import Path

from rolewise.core.limits import parse_json


def last_checkpoint(directory: Path) -> str | None:
    """The newest complete checkpoint in a trainer's output directory, or None.

    The trainer writes `trainer_state.json` last, so a checkpoint that was cut short lacks it or holds half of it.
    """
    complete = []
    for path in directory.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _is_complete(path):
            complete.append((int(match[1]), str(path)))
    return max(complete)[1] if complete else None


def _is_complete(checkpoint: Path) -> bool:
    try:
        parse_json((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
