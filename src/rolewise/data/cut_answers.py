"""Answers cut by `max_length`: counted and reported in one line, since they teach a model not to stop."""

from collections.abc import Iterable

from rolewise.data.render import RenderedSample


class CutAnswers:
    """Counter of samples whose answers were cut, and of samples with nothing left."""

    def __init__(self) -> None:
        self._samples = self._cut = self._tokens = self._gone = 0

    def add(self, samples: Iterable[RenderedSample]) -> None:
        """Count kept samples."""
        for sample in samples:
            self._samples += 1
            self._cut += bool(sample.lost)
            self._tokens += sample.lost
            self._gone += sample.siblings_lost

    def note(self, max_length: int | None) -> str | None:
        """Return a line for the user; None if no answer was cut."""
        gone = f"{self._gone:,} more samples lost their whole answer and are left out" if self._gone else ""
        if not self._cut:
            return f"max_length {max_length}: {gone}; raise it to keep them." if gone else None
        return cut_note(max_length, self._cut, self._samples, self._tokens, gone)


def cut_note(max_length: int | None, cut: int, samples: int, tokens: int, gone: str = "") -> str:
    """Return a line for the user on cut answers; `gone` tells of samples with nothing left."""
    return (
        f"max_length {max_length} cuts the answers of {cut:,} of {samples:,} samples: {tokens:,} tokens with loss are "
        f"lost, including the ends of these answers{'; ' + gone if gone else ''}. Raise it, or leave out such samples "
        "with --skip-cut."
    )


def cut_reason(max_length: int | None, lost: int) -> str:
    """Return the reason for leaving out a sample with a cut answer."""
    return f"max_length {max_length} cuts its answer: {lost} tokens with loss would be lost"
