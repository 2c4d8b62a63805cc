"""Answers whose end `max_length` cuts off: counted, and said in one line, since a model learns from them not to end."""

from collections.abc import Iterable

from rolewise.data.render import RenderedSample


class CutAnswers:
    """Adds up samples whose answers were cut, and those of which nothing was left."""

    def __init__(self) -> None:
        self._samples = self._cut = self._tokens = self._gone = 0

    def add(self, samples: Iterable[RenderedSample]) -> None:
        """Count samples that are kept."""
        for sample in samples:
            self._samples += 1
            self._cut += bool(sample.lost)
            self._tokens += sample.lost
            self._gone += sample.siblings_lost

    def note(self, max_length: int | None) -> str | None:
        """A line for the user; None if no answer was cut."""
        gone = f"{self._gone:,} more samples lost their whole answer and are left out" if self._gone else ""
        if not self._cut:
            return f"max_length {max_length}: {gone}; raise it to keep them." if gone else None
        return (
            f"max_length {max_length} cuts the answers of {self._cut:,} of {self._samples:,} samples: {self._tokens:,} "
            f"tokens with loss are lost, the ends of these answers with them{'; ' + gone if gone else ''}. Raise it, "
            "or leave such samples out with --skip-cut."
        )


def cut_reason(max_length: int | None, lost: int) -> str:
    """Why a sample whose answer was cut is left out."""
    return f"max_length {max_length} cuts its answer: {lost} tokens with loss would be lost"
