"""A log of a suite's played examples, written as they end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rolewise.core.errors import InputError
from rolewise.core.files import unwritable
from rolewise.evaluation.runner import Played


class PlayedLog:
    """Log of played examples, a line each, so that a killed run loses no finished example.

    Attributes:
        ids: ids of the finished examples.
        total: sum of their scores.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None
        self.ids: set[str] = set()
        self.total = 0.0
        if path.exists():
            self._drop_torn_line()
            for record in self.records():
                self.ids.add(record["id"])
                self.total += record["score"]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield every line, in the order in which examples ended."""
        with self._path.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)

    def add(self, played: Played) -> None:
        """Append an example."""
        assert self._stream is not None  # used within `with`
        example, verdict = played.example, played.verdict
        record = {
            "id": example.id,
            "category": example.category,
            "score": verdict.score,
            "reason": verdict.reason,
            "detail": verdict.detail,
            "asked": played.asked,
        }
        try:
            line = json.dumps(record).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the verdict on example {example.id} can't be stored as JSON ({error}); fix the suite"
            ) from error
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError as error:
            raise unwritable(self._path, error) from error
        self.ids.add(example.id)

    def __enter__(self) -> "PlayedLog":
        self._stream = self._path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _drop_torn_line(self) -> None:
        """Remove an incomplete last line, left by a killed process or a full disk."""
        content = self._path.read_bytes()
        if not content.endswith(b"\n") and content:
            with self._path.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
