"""One rollout's way through a tree, and its requests on the way.

A rollout is a generator. It yields what it needs and is resumed with the answer, so that a driver of many rollouts can
send the requests of all to an engine at once.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rolewise.engines.base import Sampling
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Node, Tree
from rolewise.search.uct import best_child
from rolewise.search.values import Leaf


@dataclass(frozen=True)
class Generate:
    """Request to continue prompts (token ids), each with its sampling. The answer: their completions, in order."""

    requests: Sequence[tuple[list[int], Sampling]]


@dataclass(frozen=True)
class NextTokens:
    """Request for the likelihood of given next tokens. The answer: their log-probabilities (nats), or the reason why
    there are none."""

    prefix_ids: list[int]
    allowed: list[int]


@dataclass(frozen=True)
class Judge:
    """Request for the value of a path. The answer: its judgement."""

    leaf: Leaf


@dataclass(frozen=True)
class Wait:
    """Request to wait for another rollout working at this node. The answer, None, comes when one has moved on."""


Need = Generate | NextTokens | Judge | Wait
Rollout = Generator[Need, Any, Node]
"""Generator that returns the leaf that it reached."""


@dataclass
class Crowd:
    """The running rollouts of a tree.

    Attributes:
        passing: number of running rollouts that have passed each node, by the node's number.
        claimed: items that one of them is creating, so that no other creates them too.
    """

    passing: Counter[int] = field(default_factory=Counter)
    claimed: set[Hashable] = field(default_factory=set)


class Walk:
    """A rollout's position in its tree.

    Args:
        tree: tree of the rollout.
        number: number of the rollout in its tree, from 0.
        settings: settings of the search.
        crowd: running rollouts of the tree, including this one until `leave`.
        logprobs: True if the engine returns log-probabilities of generated tokens.

    Attributes:
        node: current node; at first the root.
        refusals: the engine's reasons for requests that it could not answer.
    """

    def __init__(self, tree: Tree, number: int, settings: SearchSettings, crowd: Crowd, *, logprobs: bool) -> None:
        self.tree = tree
        self.number = number
        self.settings = settings
        self.crowd = crowd
        self.refusals: list[str] = []
        self._logprobs = logprobs
        self._gone: list[int] = []
        self.enter(tree.root)

    @property
    def claimed(self) -> set[Hashable]:
        """Items that some rollout of the tree is creating."""
        return self.crowd.claimed

    def enter(self, node: Node) -> None:
        """Move to a node."""
        self.node = node
        self._gone.append(node.number)
        self.crowd.passing[node.number] += 1

    def leave(self) -> None:
        """End the rollout."""
        self.crowd.passing.subtract(self._gone)
        self._gone = []

    def visits(self, node: Node) -> int:
        """Return the visits of a node, including those of other running rollouts."""
        return node.visits + self.crowd.passing[node.number] - self._gone.count(node.number)

    def best(self, children: Sequence[Node]) -> Node:
        """Return the child of the current node that UCT selects."""
        visits = [self.visits(child) for child in children]
        return best_child(children, visits, self.visits(self.node), self.settings.exploration)

    def uniform(self) -> float:
        """Return the random number in [0, 1) that decides at the current node."""
        return random.Random(self._seed("choice")).random()

    def sampling(self, stop_token_ids: Sequence[int], n: int = 1) -> Sampling:
        """Return the sampling settings for steps from the current node."""
        settings = self.settings
        return Sampling(
            max_new_tokens=settings.step_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            n=n,
            seed=self._seed("sampling"),
            stop_token_ids=tuple(stop_token_ids),
            logprobs=self._logprobs,
        )

    def _seed(self, purpose: str) -> int:
        """Return a seed below 2^63 that depends only on the search's seed, the question, the rollout and the node."""
        key = json.dumps([self.settings.seed, self.tree.question.id, self.number, self.node.number, purpose])
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
