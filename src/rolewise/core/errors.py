"""Errors meant for people: one line that says what is wrong, where, and what to do."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RolewiseError(Exception):
    """Something the user can mend. Commands print the message alone, without a traceback, and exit with code 2."""


class InputError(RolewiseError):
    """A record, file, template or option that can't be used. The message names the place, e.g. `data.jsonl:12`."""


@contextmanager
def failing_in_one_line(what: str, advice: str) -> Iterator[None]:
    """What a user's own program raises, told in one line: it can fail in any way.

    Raises:
        RolewiseError: saying what failed, why, at which line of which file, and the advice.
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


GOES_ON = "the same command goes on where it was"
"""Note on an exception that work is kept which the next run takes up."""
