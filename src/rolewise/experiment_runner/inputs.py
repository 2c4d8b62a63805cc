"""Inputs of an experiment: check that they exist and are unchanged."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.data.conversation import Conversation
from rolewise.data.labelled import is_labelled
from rolewise.data.readers import iter_conversations
from rolewise.data.readers.containers import SUFFIXES
from rolewise.data.render import Renderer
from rolewise.data.sources import SourceMix, parse_sources
from rolewise.data.tool_prompts import single_turn_steps
from rolewise.evaluation.answer_checks import Checker, make_checker
from rolewise.evaluation.rejection_sampling import question_of
from rolewise.evaluation.suites import conversations_of, make_suite
from rolewise.experiment_runner.config import LAUNCHED, Experiment
from rolewise.jobs.evaluate import suite_settings
from rolewise.options.answers import EvalOptions
from rolewise.training.models import load_tokenizer

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+(/[\w.-]+)?")


def missing_inputs(experiment: Experiment) -> list[str]:
    """Return a line for each missing input on this machine, with its place in the file; the hub is not queried."""
    lines = []
    named = {"data.train": experiment.data["data"], "data.general": experiment.data.get("general")}
    named |= {_where_losses(name): sources for name, sources in experiment.role_losses.items()}
    named |= {f"measure.suites.{name}": conversations_of(name) for name in experiment.suites}
    given = [*((where, [sources]) for where, sources in named.items()), *_other_sources(experiment)]
    for where, texts in given:
        for source in (source for text in texts if text for source in parse_sources(text)):
            if not _may_be_there(source.location):
                lines.append(f"{where}: {source.location}: no such file or folder")
    for name, model in experiment.models.items():
        if not _may_be_there(model):
            lines.append(f"models.{name}: {model}: no such folder")
    for key, command in LAUNCHED.items():
        program = experiment.launch[command][0]
        if shutil.which(program) is None:
            lines.append(f"launch.{key}: {program}: no such command")
    for number, plugin in enumerate(experiment.plugin):
        if not Path(plugin).is_file():
            lines.append(f"plugin[{number}]: {plugin}: no such Python file")
    return lines


def check_inputs(experiment: Experiment) -> None:
    """Check before anything runs that all inputs are readable, up to the first conversation of each source.

    Raises:
        InputError: for the first unreadable input.
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
    for name, sources in experiment.role_losses.items():
        if not is_labelled(sources):
            with _telling(_where_losses(name)):
                _check_conversations(sources, with_roles=True)
    with _telling("data.train"):
        _check_questions(experiment)
    _check_suites(experiment)
    for name, model in experiment.models.items():
        with _telling(f"models.{name}"):
            tokenizer = load_tokenizer(model, trust_remote_code=experiment.trust_remote_code)
        with _telling("data"):
            Renderer(tokenizer, chat_template=data.get("chat_template"), tool_format=data.get("tool_format"))


def fingerprint(sources: str | None) -> str | None:
    """Return what identifies the content of sources: hashes of files, names and sizes in folders, hub ids."""
    if sources is None:
        return None
    return digest([[_content(Path(source.location)), source.share] for source in parse_sources(sources)])


def _where_losses(name: str) -> str:
    return f"measure.role_losses.{name or 'data'}"


def _other_sources(experiment: Experiment) -> Iterator[tuple[str, list[str | None]]]:
    """Yield (place in the file, sources) for the sources that options of the steps name."""
    sections: list[tuple[str, Any]] = [("", experiment)]
    sections += [(f"methods[{number}].", entry) for number, entry in enumerate(experiment.methods)]
    for prefix, given in sections:
        for name in ("preferences", "reward_model"):
            yield f"{prefix}label.{name}", given.label.get(name, [])
        training = prefix if given is not experiment else "training."
        yield f"{training}eval_data", given.training.get("eval_data", [])
        yield f"{prefix}grpo.eval_data", given.grpo.get("eval_data", [])


def _check_suites(experiment: Experiment) -> None:
    """Check that each suite can be created: its parts, its judge, and other required options."""
    for name, own in experiment.suites.items():
        values = {**experiment.evaluation, **own}
        options = EvalOptions(model="", suite=name, output="", **values)
        with _telling(f"measure.suites.{name}"):
            make_suite(name, suite_settings(options)).close()
            sources = conversations_of(name)
            if sources is not None:
                _check_conversations(sources)


def _check_questions(experiment: Experiment) -> None:
    """Check that the data has a call to reward and a reference for checking samples, if a method needs them."""
    methods = [entry for entry in experiment.methods if entry.method.sample is not None]
    if any(entry.method.grpo is not None for entry in experiment.methods):
        _check_any(experiment, "no assistant turn calls a tool, so there is no call to reward", _has_call)
    for check in {name for entry in methods for name in {**experiment.sample, **entry.sample}.get("check", ["calls"])}:
        checker = make_checker(check)
        try:
            _check_any(experiment, f"no reference that check {check} can read", partial(_is_checked_by, checker))
        finally:
            checker.close()


def _is_checked_by(checker: Checker, conversation: Conversation) -> bool:
    return checker.check(question_of(conversation), []) is not None


def _has_call(conversation: Conversation) -> bool:
    return next(single_turn_steps(conversation), None) is not None


def _check_any(experiment: Experiment, lacking: str, holds: Callable[[Conversation], bool]) -> None:
    """Read the data up to the first conversation that has the required content."""
    data = experiment.data
    skip = data.get("skip_invalid", False)
    mix = SourceMix(parse_sources(data["data"]), format=data.get("format"), skip_invalid=skip, limit=data.get("limit"))
    for conversation in mix:
        try:
            if holds(conversation):
                return
        except InputError:
            if not skip:
                raise
    raise InputError(f"{data['data']}: {lacking}; give other data, or leave out the methods that need it")


def _check_conversations(
    sources: str, *, format: str | None = None, skip_invalid: bool = False, with_roles: bool = False
) -> None:
    for source in parse_sources(sources):
        conversation = next(iter(iter_conversations(source.location, format=format, skip_invalid=skip_invalid)))
        if with_roles and conversation.role_spans is None:
            raise InputError(
                f"{conversation.source}: its true roles are unknown; give conversations with role_spans, or label "
                "the data and give the result"
            )


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Add the place in the file to errors raised within the context."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _may_be_there(location: str) -> bool:
    """Return True if the path exists, or the text is a pattern, a data set's split or a hub id."""
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
