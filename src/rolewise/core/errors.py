"""Errors meant for people: one line that states the problem, its place and the remedy."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RolewiseError(Exception):
    """An error that the user can fix. Commands print only the message, without a traceback, and exit with code 2."""


class InputError(RolewiseError):
    """An unusable record, file, template or option. The message names the place, e.g. `data.jsonl:12`."""


@contextmanager
def failing_in_one_line(what: str, advice: str) -> Iterator[None]:
    """Report an exception from a user's own program, which can fail in any way, in one line.

    Raises:
        RolewiseError: with the failed part, the reason, the file and line, and the advice.
    """
    try:
        yield
    except RolewiseError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        raise RolewiseError(f"{what} failed: {type(error).__name__}: {reason} ({place}); {advice}") from error


RESUMES = "rerun the command to resume"
"""Note on an exception after which finished work is kept for the next run."""
