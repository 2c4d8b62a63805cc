"""Samples that are kept in a file, not in memory, since a data set may be larger than memory."""

import pickle
import tempfile
from array import array

from rolewise.core.errors import InputError
from rolewise.core.lazy_sequence import LazySequence
from rolewise.data.render import RenderedSample

BYTES_IN_MEMORY = 1 << 26


class StoredSamples(LazySequence[RenderedSample]):
    """Rendered samples in order; each is read on access.

    Beyond some megabytes they are stored in an unnamed temporary file (in `TMPDIR`), which disappears with this object
    or the process, even if the process is killed.
    """

    def __init__(self) -> None:
        # Lives as long as this object.
        self._file = tempfile.SpooledTemporaryFile(max_size=BYTES_IN_MEMORY)  # noqa: SIM115
        self._bounds = array("q", [0])
        self._end = 0

    def append(self, sample: RenderedSample) -> None:
        """Add a sample at the end.

        Raises:
            InputError: if the file system reports an error.
        """
        try:
            self._file.seek(self._end)
            pickle.dump(sample, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._end = self._file.tell()
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: cannot hold the rendered samples: {error.strerror or error}; free space or "
                "set TMPDIR to a larger place"
            ) from error
        self._bounds.append(self._end)

    def part(self, start: int, stop: int) -> "StoredSamples":
        """Return the samples from `start` to `stop` (half-open), in the same file."""
        part = object.__new__(StoredSamples)
        part._file, part._bounds, part._end = self._file, self._bounds[start : stop + 1], self._end
        return part

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def item(self, place: int) -> RenderedSample:
        """Return the sample at a position, counted from 0."""
        start, stop = self._bounds[place], self._bounds[place + 1]
        self._file.seek(start)
        sample: RenderedSample = pickle.loads(self._file.read(stop - start))
        return sample
