"""What an experiment reads: whether it is there, and whether it is still the same."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.labelled import is_labelled
from rolewise.data.readers import iter_conversations
from rolewise.data.readers.containers import SUFFIXES
from rolewise.data.render import Renderer
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
    for held_out in experiment.training.get("eval_data", ()):
        for source in parse_sources(held_out) if held_out else ():
            if not _may_be_there(source.location):
                lines.append(f"training.eval_data: {source.location}: no such file or folder")
    for name, model in experiment.models.items():
        if not _may_be_there(model):
            lines.append(f"models.{name}: {model}: no such folder")
    for key, command in (("label", "label"), ("training", "sft")):
        program = experiment.launch[command][0]
        if shutil.which(program) is None:
            lines.append(f"launch.{key}: {program}: no such command")
    for number, plugin in enumerate(experiment.plugin):
        if not Path(plugin).is_file():
            lines.append(f"plugin[{number}]: {plugin}: no such Python file")
    return lines


def check_inputs(experiment: Experiment) -> None:
    """See that everything can be read, as far as the first conversation of each source tells, before anything runs.

    Raises:
        InputError: for the first input that can't.
    """
    for line in missing_inputs(experiment):
        raise InputError(line)
    data = experiment.data
    skip_invalid = data.get("skip_invalid", False)
    with _telling("data.train"):
        _check_conversations(data["data"], format=data.get("format"), skip_invalid=skip_invalid)
    if data.get("general"):
        with _telling("data.general"):
            _check_conversations(data["general"], skip_invalid=skip_invalid)
    if experiment.role_losses is not None and not is_labelled(experiment.role_losses):
        with _telling("measure.role_losses.data"):
            _check_conversations(experiment.role_losses, with_roles=True)
    for name, model in experiment.models.items():
        with _telling(f"models.{name}"):
            tokenizer = load_tokenizer(model, trust_remote_code=experiment.trust_remote_code)
        with _telling("data"):
            Renderer(tokenizer, chat_template=data.get("chat_template"), tool_format=data.get("tool_format"))


def fingerprint(sources: str | None) -> str | None:
    """What tells the content of sources from another: hashes of files, names and sizes below folders, hub ids."""
    if sources is None:
        return None
    return digest([[_content(Path(source.location)), source.share] for source in parse_sources(sources)])


def _labelling_options(experiment: Experiment) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    yield "label", experiment.label
    for number, entry in enumerate(experiment.methods):
        yield f"methods[{number}].label", entry.label


def _check_conversations(
    sources: str, *, format: str | None = None, skip_invalid: bool = False, with_roles: bool = False
) -> None:
    for source in parse_sources(sources):
        conversation = next(iter(iter_conversations(source.location, format=format, skip_invalid=skip_invalid)))
        if with_roles and conversation.role_spans is None:
            raise InputError(
                f"{conversation.source}: its true roles are not known; give conversations with role_spans, or label "
                "the data and give that"
            )


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
