"""One rollout's way through a tree, and what it asks for on the way.

A rollout is a generator. It yields what it needs and is resumed with the answer, so that whoever drives many of them
asks an engine for all at once.
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
    """Prompts to go on from, as token ids, each with its sampling. The answer: their completions, in order."""

    requests: Sequence[tuple[list[int], Sampling]]


@dataclass(frozen=True)
class NextTokens:
    """How likely some next tokens are. The answer: their log-probabilities (nats), or the reason why there are none."""

    prefix_ids: list[int]
    allowed: list[int]


@dataclass(frozen=True)
class Judge:
    """What a path is worth. The answer: its judgement."""

    leaf: Leaf


@dataclass(frozen=True)
class Wait:
    """Another rollout of this tree is at work here. The answer, None, comes once one of them has gone on."""


Need = Generate | NextTokens | Judge | Wait
Rollout = Generator[Need, Any, Node]
"""Ends with the leaf that it came to."""


@dataclass
class Crowd:
    """The rollouts under way in a tree.

    Attributes:
        passing: for each node's number, how many of them have gone through it and not ended.
        claimed: what one of them is making, so that no other makes it too.
    """

    passing: Counter[int] = field(default_factory=Counter)
    claimed: set[Hashable] = field(default_factory=set)


class Walk:
    """A rollout's place in its tree.

    Args:
        tree: where it goes.
        number: of the rollout in its tree, from 0.
        settings: of the search.
        crowd: the tree's rollouts under way, this one among them until `leave`.
        logprobs: whether the engine can tell log-probabilities of what it generates.

    Attributes:
        node: where it stands; at first the root.
        refusals: what the engine said of requests that it could not answer.
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
        """What some rollout of the tree is making."""
        return self.crowd.claimed

    def enter(self, node: Node) -> None:
        """Step on to a node."""
        self.node = node
        self._gone.append(node.number)
        self.crowd.passing[node.number] += 1

    def leave(self) -> None:
        """End the rollout."""
        self.crowd.passing.subtract(self._gone)
        self._gone = []

    def visits(self, node: Node) -> int:
        """Of a node, with those of other rollouts under way."""
        return node.visits + self.crowd.passing[node.number] - self._gone.count(node.number)

    def best(self, children: Sequence[Node]) -> Node:
        """The child of the node where it stands that UCT takes."""
        visits = [self.visits(child) for child in children]
        return best_child(children, visits, self.visits(self.node), self.settings.exploration)

    def uniform(self) -> float:
        """The random number in [0, 1) that decides at the node where it stands."""
        return random.Random(self._seed("choice")).random()

    def sampling(self, stop_token_ids: Sequence[int], n: int = 1) -> Sampling:
        """For steps from the node where it stands."""
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
        """From the search's seed, the question, the rollout and the node, and nothing else: below 2^63."""
        key = json.dumps([self.settings.seed, self.tree.question.id, self.number, self.node.number, purpose])
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
