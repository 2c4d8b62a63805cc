"""From a file of conversations to rendered samples, with the reasons why some were refused."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from rolewise.core.errors import InputError
from rolewise.data.readers import Rejected, read_conversations
from rolewise.data.render import RenderedSample, Renderer


@dataclass(frozen=True)
class PreparedData:
    """Rendered samples of a file.

    Attributes:
        rejected: the records that were left out; empty unless invalid ones were to be skipped.
        notes: what the renderer writes differently for these conversations, for the user.
    """

    samples: list[RenderedSample]
    rejected: list[Rejected]
    format: str
    sha256: str
    conversations: int
    notes: list[str]

    @property
    def tokens(self) -> int:
        return sum(len(sample.input_ids) for sample in self.samples)

    @property
    def loss_tokens(self) -> int:
        return sum(int(sample.loss_mask.sum()) for sample in self.samples)


def prepare(
    path: str | Path,
    renderer: Renderer,
    *,
    format: str | None = None,
    limit: int | None = None,
    skip_invalid: bool = False,
) -> PreparedData:
    """Read and render the first `limit` conversations of a file.

    Raises:
        InputError: for the first record that can't be used, or, with `skip_invalid`, if none can.
    """
    read = read_conversations(path, format=format, skip_invalid=skip_invalid, limit=limit)
    samples: list[RenderedSample] = []
    rejected = list(read.rejected)
    for conversation in read.conversations:
        try:
            # Errors name the path as it was given; what is kept of it must not depend on where the file lies.
            source = Path(path).name + conversation.source.removeprefix(str(Path(path)))
            samples.extend(replace(sample, source=source) for sample in renderer.render(conversation))
        except InputError as error:
            if not skip_invalid:
                raise
            rejected.append(Rejected(conversation.source, str(error).removeprefix(f"{conversation.source}: ")))
    if not samples:
        first = rejected[0]
        raise InputError(f"{path}: no record can be used; the first: {first.source}: {first.reason}")
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return PreparedData(
        samples, rejected, read.format, sha256, len(read.conversations), renderer.notes_for(read.conversations)
    )
