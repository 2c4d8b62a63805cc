"""What an experiment reads: whether it is there, and whether it is still the same."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.readers.containers import SUFFIXES, open_containers
from rolewise.data.sources import parse_sources
from rolewise.experiment.config import Experiment
from rolewise.training.models import load_tokenizer

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+(/[\w.-]+)?")


def missing_inputs(experiment: Experiment) -> list[str]:
    """A line for each input on this machine that is not there, with its place in the file; the hub is not asked."""
    lines = []
    named = {"data.train": experiment.data["data"], "data.general": experiment.data.get("general")}
    for where, sources in {**named, "measure.role_losses.data": experiment.role_losses}.items():
        for source in parse_sources(sources) if sources else ():
            if not _may_be_there(source.location):
                lines.append(f"{where}: {source.location}: no such file or folder")
    for where, options in _labelling_options(experiment):
        for name in ("preferences", "reward_model"):
            for text in filter(None, options.get(name, ())):
                for source in parse_sources(text):
                    if not _may_be_there(source.location):
                        lines.append(f"{where}.{name}: {source.location}: no such file or folder")
    for name, model in experiment.models.items():
        if not _may_be_there(model):
            lines.append(f"models.{name}: {model}: no such folder")
    for number, plugin in enumerate(experiment.plugin):
        if not Path(plugin).is_file():
            lines.append(f"plugin[{number}]: {plugin}: no such Python file")
    return lines


def check_inputs(experiment: Experiment) -> None:
    """See that everything can be read, before anything runs.

    Raises:
        InputError: for the first input that can't.
    """
    for line in missing_inputs(experiment):
        raise InputError(line)
    for where, sources in (("data.train", experiment.data["data"]), ("data.general", experiment.data.get("general"))):
        for source in parse_sources(sources) if sources else ():
            with _telling(where):
                open_containers(source.location)
    for name, model in experiment.models.items():
        with _telling(f"models.{name}"):
            load_tokenizer(model, trust_remote_code=experiment.trust_remote_code)


def fingerprint(sources: str | None) -> str | None:
    """What tells the content of sources from another: hashes of files, names and sizes below folders, hub ids."""
    if sources is None:
        return None
    return digest([[_content(Path(source.location)), source.share] for source in parse_sources(sources)])


def _labelling_options(experiment: Experiment) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    yield "label", experiment.label
    for number, entry in enumerate(experiment.methods):
        yield f"methods[{number}].label", entry.label


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Errors within name the place in the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _may_be_there(location: str) -> bool:
    """Whether a path exists, or the text is rather a pattern, a data set's split or a hub id."""
    if Path(location).exists() or any(sign in location for sign in "*?["):
        return True
    place = location.partition(":")[0]
    return Path(place).exists() or bool(_HUB_ID.fullmatch(place) and not place.endswith(SUFFIXES))


def _content(path: Path) -> str:
    if path.is_file():
        hasher = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                hasher.update(chunk)
        return hasher.hexdigest()
    if path.is_dir():
        return digest(sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file()))
    return str(path)
