"""What all labellers that measure losses with a model have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.progress import Progress

from rolewise.data.labelled import TokenLabels
from rolewise.data.render import RenderedSample
from rolewise.labelling.settings.base import MeasuringConfig
from rolewise.training import processes
from rolewise.training.models import default_device


class StoredShard(Protocol):
    """A part of the scoring, whose losses are written as one file."""

    def path(self, directory: Path) -> Path:
        """Return the file."""
        ...


S = TypeVar("S", bound=StoredShard)


@dataclass(frozen=True, kw_only=True)
class MeasuringPlan:
    """Plan of the scoring; the same for the same data and settings.

    Attributes:
        device: device of the work.
        batch_tokens: maximum number of padded tokens scored at once (a longer sample goes alone).
        tokens_to_score: number of tokens to process.
    """

    device: str
    batch_tokens: int
    tokens_to_score: int


class MeasuringLabeller(ABC):
    """A labeller that measures losses and turns them into roles.

    Args:
        model: directory or hub id of the base model.
        config: settings of the labeller.
        max_length: maximum number of tokens of a sample.
        trust_remote_code: passed on to Transformers.
    """

    def __init__(
        self,
        model: str,
        config: MeasuringConfig,
        *,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.model = model
        self.settings = config
        self.max_length = max_length
        self.trust_remote_code = trust_remote_code

    @abstractmethod
    def plan(self, samples: Sequence[RenderedSample]) -> MeasuringPlan:
        """Draw what is random and form the batches, without loading the model.

        Raises:
            InputError: for data that is too small or unusable.
        """

    @abstractmethod
    def label(
        self, samples: Sequence[RenderedSample], work: Path, progress: Progress, plan: Any = None
    ) -> tuple[Sequence[TokenLabels], list[bool]]:
        """Return roles and losses of every sample, and a flag per sample to leave it out of the reported metrics.

        `work` keeps finished parts; call again with the same samples and settings to resume a killed run. Several
        processes share the work; each gets all labels.
        """

    def scoring(self) -> dict[str, Any]:
        """Return the device, the tokens per batch, and the tokens per shard."""
        device = default_device()
        batch_tokens = self.settings.batch_tokens or (2048 if device == "cpu" else 16384)
        # A killed run loses at most the work of one shard: less than a minute on either device.
        return {
            "device": device,
            "batch_tokens": batch_tokens,
            "shard_tokens": (4 if device == "cpu" else 64) * batch_tokens,
        }


def score_missing(
    shards: Sequence[S],
    directory: Path,
    tokens_of: Callable[[S], int],
    score: Callable[[list[S]], Iterator[int]],
    progress: Progress,
    description: str,
    total: int,
) -> None:
    """Score the shards that `directory` lacks, each in one of the processes; all of them return when all are there.

    Args:
        shards: all shards, the same in every process.
        directory: directory of their files.
        tokens_of: number of tokens of a shard.
        score: scores shards, one file each, and yields the number of tokens after every step; not called for none.
        progress: display of the progress.
        description: name of the work there.
        total: number of tokens of all shards.
    """
    task = progress.add_task(description, total=total)
    missing = [shard for shard in shards if not shard.path(directory).exists()]
    processes.wait()  # until all have looked: a file written earlier would change the others' count
    mine = missing[processes.number() :: processes.count()]
    left = sum(map(tokens_of, missing))
    progress.update(task, completed=total - left)
    for tokens in score(mine) if mine else ():
        left = max(0, left - tokens * processes.count())  # assume that the others are as fast
        progress.update(task, completed=total - left)
    processes.wait()
    progress.update(task, completed=total)
