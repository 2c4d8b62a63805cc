"""The behaviours that make up a train of thought, each between two functional tokens, and their allowed transitions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from rolewise.core.errors import InputError
from rolewise.core.files import write_text
from rolewise.core.limits import read_yaml

BEHAVIOURS_FILE = "behaviours.yaml"
"""Name of the file in a model's directory."""


@dataclass(frozen=True)
class Behaviour:
    """One kind of step in a train of thought.

    Attributes:
        name: lower case, as in `next_step`; the functional tokens are built from it.
        description: a phrase; the tokens' embeddings start from the mean of the embeddings of its words.
        follows: behaviours that may come next; a behaviour without followers ends the path.
        prompt: request for such a step to a model without functional tokens; None if it is never requested.
        children: number of such steps proposed at a node.
        concludes: True if such a step is a whole answer: a search by prompts ends there; only simulation goes there.
    """

    name: str
    description: str
    follows: tuple[str, ...] = ()
    prompt: str | None = None
    children: int = 2
    concludes: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise InputError(
                f"behaviour {self.name!r}: a name consists of lower-case letters, digits and _, such as next_step"
            )
        if self.children < 1:
            raise InputError(f"behaviour {self.name}: children is {self.children}; it must be at least 1")

    @property
    def opening(self) -> str:
        """The token before such a step."""
        return f"<{self.name}>"

    @property
    def closing(self) -> str:
        """The token after it."""
        return f"</{self.name}>"

    @property
    def ends(self) -> bool:
        """True if nothing follows."""
        return not self.follows


class BehaviourSet:
    """Behaviours and the transitions between them.

    Args:
        behaviours: the behaviours, each with its allowed followers.
        first: names of the behaviours that may follow the question.

    Raises:
        InputError: for a duplicate or unknown name, or a set in which no path ends.
    """

    def __init__(self, behaviours: Sequence[Behaviour], first: Sequence[str]) -> None:
        self._by_name = {behaviour.name: behaviour for behaviour in behaviours}
        self.first = tuple(first)
        if len(self._by_name) < len(behaviours):
            raise InputError("behaviours: two have the same name; give each its own")
        if not self.first:
            raise InputError("behaviours: first is empty; name those that may follow the question")
        for place, names in [("first", self.first), *((b.name, b.follows) for b in behaviours)]:
            for name in names:
                if name not in self._by_name:
                    raise InputError(f"behaviours: {place} is followed by {name!r}, which is not among them")
            if len(set(names)) < len(names):
                raise InputError(f"behaviours: {place} names the same follower twice; name each once")
        if not any(self._by_name[name].ends for name in self._reachable()):
            raise InputError("behaviours: no path from the question ends; give one behaviour no followers")

    def __getitem__(self, name: str) -> Behaviour:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Behaviour]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def after(self, name: str | None) -> tuple[str, ...]:
        """Return the behaviours that may follow the named one; None stands for the question."""
        return self.first if name is None else self._by_name[name].follows

    @property
    def tokens(self) -> list[str]:
        """All functional tokens: the opening and the closing one of each behaviour in turn."""
        return [token for behaviour in self for token in (behaviour.opening, behaviour.closing)]

    def as_record(self) -> dict[str, Any]:
        """Return the set as JSON values; `behaviours_from` reads them back."""
        listed = [{f.name: _plain(getattr(b, f.name)) for f in fields(Behaviour)} for b in self]
        return {"first": list(self.first), "behaviours": listed}

    def _reachable(self) -> set[str]:
        found: set[str] = set()
        waiting = list(self.first)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._by_name[name].follows
        return found


def behaviours_from(record: Mapping[str, Any]) -> BehaviourSet:
    """Build a set from a mapping with `first` and `behaviours`, a list of mappings with the fields of `Behaviour`.

    Raises:
        InputError: for a field that is unknown, missing or of the wrong type.
    """
    known = {f.name: f for f in fields(Behaviour)}
    if not isinstance(record, Mapping) or not isinstance(record.get("behaviours"), list):
        raise InputError("behaviours: expected a mapping with the keys first and behaviours, the latter a list")
    listed = []
    for number, entry in enumerate(record["behaviours"]):
        where = f"behaviours[{number}]"
        if not isinstance(entry, Mapping):
            raise InputError(f"{where} is {entry!r}; expected name, description, follows, …")
        for key, value in entry.items():
            if key not in known:
                raise InputError(f"{where}.{key} is not known; a behaviour has {', '.join(known)}")
            if not _fits(key, value):
                raise InputError(f"{where}.{key} is {value!r}, which has the wrong type")
        for key in ("name", "description"):
            if not entry.get(key):
                raise InputError(f"{where}.{key} is missing")
        listed.append(Behaviour(**{**entry, "follows": tuple(entry.get("follows", ()))}))
    first = record.get("first")
    if not _fits("follows", first):
        raise InputError(f"behaviours: first is {first!r}; expected a list of names")
    return BehaviourSet(listed, first)  # type: ignore[arg-type]  # seen to be a list


def read_behaviours(path: str | Path) -> BehaviourSet:
    """Read a set from a YAML file; see `behaviours_from`.

    Raises:
        InputError: naming the file, if it can't be read or its content is not valid.
    """
    record = read_yaml(path, "behaviours")
    try:
        return behaviours_from(record)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def find_behaviours(name: str) -> BehaviourSet:
    """Return the set that an option names: RFTT's for `rftt`, else the one in the YAML file of that name.

    Raises:
        InputError: as `read_behaviours`.
    """
    return RFTT if name == "rftt" else read_behaviours(name)


def behaviours_of(model: str, name: str | None) -> BehaviourSet:
    """Return the set that an option names; without a name, the set noted in the model's directory, else RFTT's.

    Raises:
        InputError: as `read_behaviours`.
    """
    taught = taught_behaviours(model) if name is None else None
    return find_behaviours(name or "rftt") if taught is None else taught


def taught_behaviours(model: str) -> BehaviourSet | None:
    """Return the behaviours that a model was taught, as noted in its directory; None without such a note.

    Raises:
        InputError: as `read_behaviours`.
    """
    file = Path(model) / BEHAVIOURS_FILE
    return read_behaviours(file) if file.exists() else None


def write_behaviours(behaviours: BehaviourSet, directory: Path) -> None:
    """Record the behaviours, and with them the functional tokens, in a model's directory."""
    text = yaml.safe_dump(behaviours.as_record(), sort_keys=False, allow_unicode=True)
    write_text(directory / BEHAVIOURS_FILE, text)


def _fits(key: str, value: Any) -> bool:
    if key == "follows":
        return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    if key == "children":
        return isinstance(value, int) and not isinstance(value, bool)
    if key == "concludes":
        return isinstance(value, bool)
    return isinstance(value, str) or (key == "prompt" and value is None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


RFTT = BehaviourSet(
    [
        Behaviour(
            "clarify",
            "clarify the question by restating what is given and what is asked",
            ("analysis", "subquestion", "next_step", "direct_answer"),
            "Restate the problem in your own words: what is given, and what is asked. Do not solve it.",
        ),
        Behaviour(
            "analysis",
            "analyse the problem and plan how to solve it",
            ("subquestion", "next_step", "direct_answer"),
            "Say in a few sentences which facts and ideas lead to a solution. Do not work it out.",
        ),
        Behaviour(
            "subquestion",
            "ask a smaller question on the way and answer it",
            ("next_step", "direct_answer"),
            "Ask one smaller question whose answer brings the solution nearer, and answer it.",
        ),
        Behaviour(
            "next_step",
            "take the next single step of the solution",
            ("next_step", "direct_answer", "subquestion", "verify", "output"),
            "Give only the next single step of the solution. If it yields the final answer, write that in \\boxed{}.",
        ),
        Behaviour(
            "direct_answer",
            "finish the solution and give the answer",
            ("output", "verify"),
            "Finish the solution from here in as many steps as it takes, and write the final answer in \\boxed{}.",
            children=1,
            concludes=True,
        ),
        Behaviour(
            "verify",
            "verify the steps so far and find mistakes",
            ("next_step", "refine", "direct_answer", "subquestion", "verify", "output"),
        ),
        Behaviour(
            "refine",
            "refine the solution by correcting the mistake",
            ("next_step", "direct_answer", "output", "subquestion", "verify"),
        ),
        Behaviour("output", "output the final answer"),
    ],
    first=("clarify", "subquestion", "analysis", "next_step"),
)
"""RFTT's eight behaviours and their transitions (arXiv 2502.13389; the graph as in its published code)."""
