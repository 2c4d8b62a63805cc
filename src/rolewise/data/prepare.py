"""From sources of conversations to rendered samples, with the reasons for rejected records."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rolewise.core.errors import InputError
from rolewise.data.cut_answers import CutAnswers, cut_reason
from rolewise.data.readers import Rejected, as_record
from rolewise.data.render import NothingLeftError, RenderedSample, Renderer, left_out
from rolewise.data.sources import SourceMix, parse_sources
from rolewise.data.stored_samples import StoredSamples


@dataclass(frozen=True)
class PreparedData:
    """Rendered samples of one or several sources.

    Attributes:
        samples: samples of the data itself.
        general: samples of general chat, whose tokens play no roles: all PLAIN.
        all_samples: the data's own samples, then general chat.
        rejected: records left out; empty unless invalid records are skipped.
        format: names of the formats read.
        sha256: hash of the conversations used, wherever their files are stored.
        conversations: number of conversations used.
        notes: changes made when reading or writing these conversations, for the user.
    """

    samples: Sequence[RenderedSample]
    general: Sequence[RenderedSample]
    all_samples: Sequence[RenderedSample]
    rejected: list[Rejected]
    format: str
    sha256: str
    conversations: int
    notes: list[str]

    @property
    def tokens(self) -> int:
        return sum(len(sample.input_ids) for sample in self.all_samples)

    @property
    def loss_tokens(self) -> int:
        return sum(int(sample.loss_mask.sum()) for sample in self.all_samples)


def prepare(
    data: str,
    renderer: Renderer,
    *,
    format: str | None = None,
    limit: int | None = None,
    skip_invalid: bool = False,
    skip_cut: bool = False,
    general: str | None = None,
    general_share: float | None = None,
) -> PreparedData:
    """Read and render conversations.

    Args:
        data: sources, in the form that `parse_sources` accepts.
        renderer: renderer of the model.
        format: format of the data; None detects it.
        limit: maximum number of conversations of the data; general chat comes on top.
        skip_invalid: leave out unusable records instead of stopping at the first.
        skip_cut: leave out samples whose answers the renderer's `max_length` cuts.
        general: sources of general chat.
        general_share: its share of all conversations; None uses all of them.

    Raises:
        InputError: for the first unusable record, or, with `skip_invalid`, if no record is usable.
    """
    reading = _Preparation(renderer, skip_invalid, skip_cut)
    reading.read(data, format, limit)
    count, own = reading.conversations, len(reading.samples)
    if general is not None:
        wanted = None if general_share is None else round(count * general_share / (1 - general_share))
        if wanted != 0:
            reading.read(general, None, wanted)
        found = reading.conversations - count
        if wanted is not None and found < wanted:
            reading.note(f"General chat has only {found} conversations, not the {wanted} that its share requires.")
    reading.note_cuts()
    return PreparedData(
        reading.samples.part(0, own),
        reading.samples.part(own, len(reading.samples)),
        reading.samples,
        reading.rejected,
        ", ".join(dict.fromkeys(reading.formats)),
        reading.hash.hexdigest(),
        reading.conversations,
        list(reading.notes),
    )


class _Preparation:
    """Reader of sources that collects samples, counts and notes of all of them."""

    def __init__(self, renderer: Renderer, skip_invalid: bool, skip_cut: bool) -> None:
        self._renderer = renderer
        self._skip_invalid, self._skip_cut = skip_invalid, skip_cut
        self._cut = CutAnswers()
        self.samples = StoredSamples()
        self.rejected: list[Rejected] = []
        self.formats: list[str] = []
        self.hash = hashlib.sha256()
        self.conversations = 0
        self.notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        self.notes[text] = None

    def note_cuts(self) -> None:
        """Add a note on the number of cut answers, if any were kept."""
        if (line := self._cut.note(self._renderer.max_length)) is not None:
            self.note(line)

    def read(self, text: str, format: str | None, limit: int | None) -> None:
        mix = SourceMix(parse_sources(text), format=format, skip_invalid=self._skip_invalid, limit=limit)
        before = len(self.samples)
        refused: list[Rejected] = []
        for conversation in mix:
            # Errors name the path as given; the stored source must not depend on where the file is stored.
            source = mix.lasting_source(conversation)
            try:
                rendered = self._renderer.render(conversation)
            except InputError as error:
                if not (self._skip_invalid or (self._skip_cut and isinstance(error, NothingLeftError))):
                    raise
                refused.append(left_out(conversation.source, error))
                continue
            whole = [sample for sample in rendered if not (self._skip_cut and sample.lost)]
            if len(whole) < len(rendered):
                lost = sum(sample.lost for sample in rendered)
                refused.append(Rejected(conversation.source, cut_reason(self._renderer.max_length, lost)))
            for sample in whole:
                self.samples.append(replace(sample, source=source))
            if not whole:
                continue
            self._cut.add(whole)
            self.conversations += 1
            self.hash.update(json.dumps([source, as_record(conversation)], default=str).encode() + b"\n")
            for note in (*conversation.notes, *self._renderer.notes_for([conversation])):
                self.note(note)
        if mix.ended_with is not None:
            self.note(f"The mixture by shares ended when {mix.ended_with} had no more conversations.")
        self.rejected += [*mix.rejected, *refused]
        self.formats += mix.formats
        self.hash.update(b"\0")  # the next conversations are of another kind
        if len(self.samples) == before:
            first = (mix.rejected + refused)[0]
            raise InputError(f"{text}: no record can be used; the first: {first.source}: {first.reason}")
