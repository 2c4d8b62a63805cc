"""Trees of reasoning steps, for searching, storing and reading back."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rolewise.core.errors import InputError
from rolewise.core.files import write_text
from rolewise.core.limits import limited_lines, parse_json, too_long

SCHEMA = 1
ROOT = 0
PolicyKind = Literal["prompts", "tokens"]

TREES_FILE = "trees.jsonl"
"""File that a search writes to its directory."""


@dataclass(frozen=True)
class Question:
    """The question of a tree.

    Attributes:
        id: identifier, unique within a search.
        text: text of the question.
        reference: reference answer; None if unknown.
    """

    id: str
    text: str
    reference: str | None = None


@dataclass(frozen=True)
class Step:
    """A step for people and judges: its behaviour's name and its text, without functional tokens."""

    behaviour: str
    text: str


@dataclass
class Node:
    """A step in a tree; node 0 represents the question and holds no step.

    Attributes:
        number: index in `Tree.nodes`; parents come before their children.
        parent: number of the parent; None for the root.
        behaviour: name of the behaviour; None for the root.
        text: text of the step, without functional tokens.
        ids: tokens of the step as the model wrote them. In a search by functional tokens the opening token comes first,
            and the closing one (or the one that ended the model's turn) last if the step was closed, so that the model
            reads `Tree.prompt_ids` and then the ids along a path.
        logprobs: log-probability (nats) of each of the ids under the model, the opening token's over the whole
            vocabulary; empty if the engine can't return them.
        prior: log-probability (nats) of the behaviour among those allowed there; None in a search by prompts.
        visits: number of rollouts through the node.
        value: sum of the values of these rollouts; `mean` divides it.
        process_reward: score of the step by a process reward model; None without one.
        leaf: True if the path ends here.
        answer: answer of a leaf; None if there is none.
        right: True if the answer is right; None if unknown.
        outcome: judged value of a leaf; None before it is judged.
        closed: True if the step reached its own end; False if it was cut off at its limit of tokens, or by the opening
            token of another step.
        children: numbers of its children in order of creation.
        expanded: True if all its children have been proposed (prompts).
        next_logprobs: log-probability (nats) over the whole vocabulary of the opening token of each behaviour that may
            follow, in the order of `BehaviourSet.after`; empty before the model is asked, and in a search by prompts.
    """

    number: int
    parent: int | None
    behaviour: str | None
    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prior: float | None = None
    visits: int = 0
    value: float = 0.0
    process_reward: float | None = None
    leaf: bool = False
    answer: str | None = None
    right: bool | None = None
    outcome: float | None = None
    closed: bool = True
    children: list[int] = field(default_factory=list)
    expanded: bool = False
    next_logprobs: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean value of the rollouts through the node; 0 before the first."""
        return self.value / self.visits if self.visits else 0.0


@dataclass
class Tree:
    """A question and the tried steps.

    Attributes:
        question: question of the tree.
        policy: `prompts` or `tokens`, the way in which steps are requested.
        prompt_ids: tokens before every path, in a search by functional tokens; empty in one by prompts.
        nodes: nodes, the root first.
        rollouts: number of the final leaf of each rollout.
        tokens: number of tokens generated for the tree.
        ended: reason why the tree ended: `rollouts`, `tokens`, `time`, `right`, `decided`, `exhausted` (nothing is left
            to try); None during the search.
    """

    question: Question
    policy: PolicyKind
    prompt_ids: list[int] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=lambda: [Node(ROOT, None, None)])
    rollouts: list[int] = field(default_factory=list)
    tokens: int = 0
    ended: str | None = None

    @property
    def root(self) -> Node:
        """Node of the question."""
        return self.nodes[ROOT]

    def add(self, parent: Node, behaviour: str, **facts: Any) -> Node:
        """Add a new step below a node."""
        node = Node(len(self.nodes), parent.number, behaviour, **facts)
        self.nodes.append(node)
        parent.children.append(node.number)
        return node

    def children(self, node: Node) -> list[Node]:
        """Return a node's children, in order of creation."""
        return [self.nodes[number] for number in node.children]

    def path(self, node: Node) -> list[Node]:
        """Return the nodes from the first step to this one; empty for the root."""
        nodes = []
        while node.parent is not None:
            nodes.append(node)
            node = self.nodes[node.parent]
        return nodes[::-1]

    def depth(self, node: Node) -> int:
        """Return the number of steps from the question to this node."""
        return len(self.path(node))

    def steps(self, node: Node) -> list[Step]:
        """Return the steps on the path to a node."""
        return [Step(str(step.behaviour), step.text) for step in self.path(node)]

    def path_ids(self, node: Node) -> list[int]:
        """Return prompt and steps as the model reads them, in a search by functional tokens."""
        return [*self.prompt_ids, *(token for step in self.path(node) for token in step.ids)]

    def leaves(self) -> list[Node]:
        """Return the judged nodes at which a path ends."""
        return [node for node in self.nodes if node.leaf and node.outcome is not None]

    def as_record(self) -> dict[str, Any]:
        """Return the tree as JSON values; `tree_from` reads them back."""
        return {"schema": SCHEMA, **asdict(self)}


def tree_from(record: Any) -> Tree:
    """Return the tree of a record.

    Raises:
        InputError: for a record of another schema, or one that is not a tree.
    """
    if not isinstance(record, dict) or "schema" not in record:
        raise InputError("not a tree (no field 'schema')")
    if record["schema"] != SCHEMA:
        raise InputError(f"a tree of schema {record['schema']!r}; this version reads schema {SCHEMA}")
    nodes = record.get("nodes")
    if not isinstance(nodes, list) or not nodes:
        raise InputError("a damaged tree (no nodes)")
    facts = {
        **record,
        "question": Question(**_facts(Question, record.get("question"), "its question")),
        "nodes": [Node(**_facts(Node, node, f"node {place}")) for place, node in enumerate(nodes)],
    }
    tree = Tree(**_facts(Tree, facts, "it"))
    _check(tree)
    return tree


def write_trees(path: str | Path, trees: Sequence[Tree]) -> None:
    """Write trees atomically as JSON Lines."""
    write_text(path, "".join(json.dumps(tree.as_record(), ensure_ascii=False) + "\n" for tree in trees))


def read_trees(path: str | Path) -> Iterator[Tree]:
    """Read the trees of a JSON Lines file, one at a time.

    Raises:
        InputError: with file and line, for a tree that can't be read.
    """
    try:
        with Path(path).open("rb") as stream:
            for number, line in limited_lines(stream):
                if line is None:
                    raise InputError(f"{path}:{number}: {too_long()}; is it a file of trees?")
                if line.strip():
                    yield _tree_of(line, f"{path}:{number}")
    except OSError as error:
        raise InputError(f"{path}: cannot read the trees ({error.strerror})") from error


def _tree_of(line: bytes, place: str) -> Tree:
    try:
        return tree_from(parse_json(line))
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not a line of JSON ({error}); remove it, or search its question again") from error


def _facts(kind: type, record: Any, where: str) -> dict[str, Any]:
    """Return the fields of a data class from a record, checking their types.

    Raises:
        InputError: if a field is missing or has another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"a damaged tree ({where} is {record!r:.40}, not an object)")
    hints = get_type_hints(kind)
    for entry in fields(kind):
        required = entry.default is MISSING and entry.default_factory is MISSING
        if entry.name not in record and required:
            raise InputError(f"a damaged tree ({where} has no {entry.name!r})")
        if entry.name in record and not _is(record[entry.name], hints[entry.name]):
            raise InputError(f"a damaged tree ({where} has {entry.name!r} {record[entry.name]!r:.40})")
    return {entry.name: record[entry.name] for entry in fields(kind) if entry.name in record}


def _is(value: Any, hint: Any) -> bool:
    """Return True if a value read from JSON has a type; NaN does not count as a number."""
    inner = get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is(item, inner[0]) for item in value)
    if get_origin(hint) is Literal:
        return value in inner
    if inner:
        return any(_is(value, one) for one in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint


def _check(tree: Tree) -> None:
    """
    Raises:
        InputError: if the nodes are not connected, or numbers refer to missing nodes.
    """
    children: list[list[int]] = [[] for _ in tree.nodes]
    for place, node in enumerate(tree.nodes):
        is_root = place == ROOT
        parent_fits = node.parent is None if is_root else node.parent is not None and 0 <= node.parent < place
        if node.number != place or not parent_fits or (node.behaviour is None) != is_root:
            raise InputError(f"a damaged tree (node {place} is not below the parent that it names)")
        if node.parent is not None:
            children[node.parent].append(place)
        if len(node.logprobs) not in (0, len(node.ids)):
            raise InputError(f"a damaged tree (node {place} has {len(node.ids)} ids, {len(node.logprobs)} logprobs)")
    for node in tree.nodes:
        if node.children != children[node.number]:
            raise InputError(f"a damaged tree (node {node.number} has children other than those that name it)")
    if any(not 0 <= number < len(tree.nodes) for number in tree.rollouts):
        raise InputError("a damaged tree (a rollout ends at a missing node)")
