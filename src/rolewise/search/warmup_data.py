"""Warm-up data for functional tokens: paths of search trees, merged so that mistakes are found and fixed (RFTT).

In a tree with right and wrong paths, the best right and the worst wrong one are joined: the shared steps, the wrong
branch, a *verify* step that says where it fails, and the right branch, whose first step becomes *refine* (arXiv
2502.13389, section on warm-up data). Right paths alone are samples, too.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rolewise.core.behaviour import BehaviourSet
from rolewise.core.errors import InputError
from rolewise.rewards.math_answers import final_answer
from rolewise.search.tree import Node, Question, Step, Tree

VERIFY, REFINE, OUTPUT = "verify", "refine", "output"
ALIKE = 0.9
"""Share of common word triples from which two samples of one question count as duplicates."""

Kind = Literal["merged", "plain"]


@dataclass(frozen=True)
class Pair:
    """A right path and a wrong one, the sources of a merged sample.

    Attributes:
        question: question of both.
        shared: common first steps.
        wrong: steps of the wrong path after these.
        right: steps of the right path after these.
        nodes: numbers of the two leaves, the wrong one first.
    """

    question: Question
    shared: tuple[Step, ...]
    wrong: tuple[Step, ...]
    right: tuple[Step, ...]
    nodes: tuple[int, int]


@dataclass(frozen=True)
class WarmupSample:
    """A train of thought to learn.

    Attributes:
        question: question that it answers.
        steps: steps, each a behaviour with its text.
        kind: `merged` or `plain`.
        nodes: numbers of the source leaves in the tree.
    """

    question: Question
    steps: tuple[Step, ...]
    kind: Kind
    nodes: tuple[int, ...]

    def content(self, behaviours: BehaviourSet) -> str:
        """Return the assistant's turn: each step between its functional tokens."""
        return "".join(
            f"{behaviours[step.behaviour].opening}{step.text}{behaviours[step.behaviour].closing}"
            for step in self.steps
        )


@dataclass(frozen=True, kw_only=True)
class WarmupSettings:
    """Settings of the samples made from trees.

    Attributes:
        merged: maximum number of merged samples per question.
        plain: maximum number of samples from right paths alone per question.
        limit: maximum number of samples, chosen so that rare behaviours are kept. None for all.
        seed: seed of that choice.
    """

    merged: int = 1
    plain: int = 1
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.merged < 0 or self.plain < 0 or self.merged + self.plain == 0:
            raise InputError(f"merged is {self.merged} and plain {self.plain}; one of them must be at least 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; it must be at least 1")


@dataclass
class WarmupCounts:
    """Counts of samples by origin and of dropped ones by reason; `steps` and `cut_off` count over the chosen paths."""

    trees: int = 0
    with_right: int = 0
    with_both: int = 0
    process_rewards: int = 0
    steps: int = 0
    cut_off: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class WarmupPaths:
    """Builder that chooses paths of trees and makes samples of them.

    Args:
        behaviours: behaviours of the trees, and those that the model is to learn.
        settings: numbers of samples.

    Attributes:
        counts: counts over all trees so far.
    """

    def __init__(self, behaviours: BehaviourSet, settings: WarmupSettings) -> None:
        self._behaviours = behaviours
        self._settings = settings
        self._tokens = re.compile("|".join(re.escape(token) for token in behaviours.tokens))
        self.counts = WarmupCounts()

    def look_at(self, tree: Tree) -> tuple[list[Pair], list[WarmupSample]]:
        """Return the pairs of a tree to merge, and its samples of right paths.

        Right paths are ranked by their mean process reward if every step of every path has one, else by the mean value
        of their nodes, then by mean log-probability; wrong paths with an answer (others don't count) are ranked in
        reverse. The best right path is paired with the worst wrong one, the second with the second, and so on.

        Raises:
            InputError: for a tree with unknown behaviours.
        """
        unknown = {str(node.behaviour) for node in tree.nodes[1:]} - {behaviour.name for behaviour in self._behaviours}
        if unknown:
            raise InputError(
                f"tree {tree.question.id}: has steps with unknown behaviours ({', '.join(sorted(unknown))}); "
                "give the behaviours of its search"
            )
        self.counts.trees += 1
        leaves = [leaf for leaf in tree.leaves() if leaf.parent is not None]
        right = [leaf for leaf in leaves if leaf.right]
        wrong = [leaf for leaf in leaves if leaf.right is False and leaf.answer is not None]
        self.counts.with_right += bool(right)
        self.counts.with_both += bool(right and wrong)
        judged = all(node.process_reward is not None for leaf in right + wrong for node in tree.path(leaf))
        self.counts.process_rewards += bool(right) and judged
        best = sorted(right, key=lambda leaf: _negative(_score(tree, leaf, judged)))
        worst = sorted(wrong, key=lambda leaf: _score(tree, leaf, judged))
        pairs = [
            _pair(tree, a, b)
            for a, b in zip(best[: self._settings.merged], worst[: self._settings.merged], strict=False)
        ]
        if VERIFY not in self._behaviours:
            self._drop("the behaviours have no verify step", len(pairs))
            pairs = []
        taken = {number for pair in pairs for number in pair.nodes}
        samples: list[WarmupSample] = []
        for leaf in best:
            if len(samples) == self._settings.plain:
                break
            path = tree.steps(leaf)
            steps = self._finished(tree.question, path, path)
            if steps is not None:
                samples.append(WarmupSample(tree.question, steps, "plain", (leaf.number,)))
                taken.add(leaf.number)
        used = {node.number: node for number in taken for node in tree.path(tree.nodes[number])}
        self.counts.steps += len(used)
        self.counts.cut_off += sum(not node.closed for node in used.values())
        return pairs, samples

    def merge(self, pair: Pair, verdict: str) -> WarmupSample | None:
        """Return the merged sample of a pair; if the behaviours allow none, count it and return None.

        Args:
            pair: a pair from `look_at`.
            verdict: text of the verify step, which says where the wrong branch fails.
        """
        if not self._clean(verdict):
            self._drop("the model says nothing on where the wrong path fails")
            return None
        wrong = [*pair.shared, *pair.wrong]
        if wrong and wrong[-1].behaviour == OUTPUT:  # a path by functional tokens: nothing may follow its output
            wrong.pop()
        corrected = self._corrected(pair.right)
        steps = self._finished(
            pair.question, [*wrong, Step(VERIFY, verdict), *corrected], right=[*pair.shared, *pair.right]
        )
        return None if steps is None else WarmupSample(pair.question, steps, "merged", pair.nodes)

    def _corrected(self, right: Sequence[Step]) -> list[Step]:
        """Return the right branch after a verify step: its first step becomes refine if the graph allows it."""
        first, *rest = right
        following = rest[0].behaviour if rest else OUTPUT
        can_refine = (
            REFINE in self._behaviours
            and REFINE in self._behaviours.after(VERIFY)
            and following in self._behaviours.after(REFINE)
            and first.behaviour != OUTPUT
        )
        return [Step(REFINE, first.text), *rest] if can_refine else [first, *rest]

    def _finished(self, question: Question, steps: Sequence[Step], right: Sequence[Step]) -> tuple[Step, ...] | None:
        """Return the steps with the right path's answer in an output step, if the set has one; if the path is illegal
        or a step is empty, count it and return None."""
        cleaned = [Step(step.behaviour, self._clean(step.text)) for step in steps]
        if OUTPUT in self._behaviours and cleaned[-1].behaviour != OUTPUT:
            said = final_answer("\n".join(self._clean(step.text) for step in right)) or question.reference
            if said is None:
                self._drop("the path does not say its answer")
                return None
            cleaned.append(Step(OUTPUT, rf"\boxed{{{said}}}"))
        if not all(step.text for step in cleaned):
            self._drop("a step is empty")
            return None
        before: str | None = None
        for step in cleaned:
            if step.behaviour not in self._behaviours.after(before):
                self._drop(f"{step.behaviour} may not follow {before or 'the question'}")
                return None
            before = step.behaviour
        return tuple(cleaned)

    def _clean(self, text: str) -> str:
        """Return a step's text without anything that would be read as a functional token."""
        while self._tokens.search(text):  # the remainder of one may form another
            text = self._tokens.sub("", text)
        return text.strip()

    def _drop(self, reason: str, count: int = 1) -> None:
        if count:
            self.counts.dropped[reason] += count


def choose(samples: Iterable[WarmupSample], settings: WarmupSettings, counts: WarmupCounts) -> list[WarmupSample]:
    """Return samples without duplicates, at most `settings.limit`, in their original order.

    If there are too many, choose in turn a sample with the behaviour that is rarest among those chosen so far.
    """
    kept = _different(samples, counts)
    if settings.limit is None or len(kept) <= settings.limit:
        return kept
    order = [int(place) for place in np.random.default_rng(settings.seed).permutation(len(kept))]
    having: dict[str, list[int]] = defaultdict(list)
    for place in order[::-1]:  # popped from the end
        for name in {step.behaviour for step in kept[place].steps}:
            having[name].append(place)
    chosen: set[int] = set()
    shown: Counter[str] = Counter(dict.fromkeys(sorted(having), 0))
    while len(chosen) < settings.limit:
        for name in sorted(shown, key=lambda one: (shown[one], one)):
            while having[name] and having[name][-1] in chosen:
                having[name].pop()
            if having[name]:
                place = having[name].pop()
                chosen.add(place)
                shown.update({step.behaviour for step in kept[place].steps})
                break
    counts.dropped["more than the limit"] += len(kept) - len(chosen)
    return [kept[place] for place in sorted(chosen)]


def _different(samples: Iterable[WarmupSample], counts: WarmupCounts) -> list[WarmupSample]:
    kept: list[WarmupSample] = []
    known: dict[str, list[set[tuple[str, ...]]]] = defaultdict(list)
    for sample in samples:
        triples = _triples(sample)
        of_question = known[" ".join(sample.question.text.split()).lower()]
        if any(len(triples & other) >= ALIKE * len(triples | other) for other in of_question):
            counts.dropped["the same as another sample of its question"] += 1
            continue
        of_question.append(triples)
        kept.append(sample)
    return kept


def _triples(sample: WarmupSample) -> set[tuple[str, ...]]:
    """Return all runs of three words, including each step's behaviour."""
    words = [word for step in sample.steps for word in (f"<{step.behaviour}>", *step.text.lower().split())]
    return {tuple(words[place : place + 3]) for place in range(max(1, len(words) - 2))}


def _pair(tree: Tree, right: Node, wrong: Node) -> Pair:
    a, b = tree.path(right), tree.path(wrong)
    shared = next(
        (i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one is not other), min(len(a), len(b))
    )

    def steps(nodes: Sequence[Node]) -> tuple[Step, ...]:
        return tuple(Step(str(node.behaviour), node.text) for node in nodes)

    return Pair(tree.question, steps(a[:shared]), steps(b[shared:]), steps(a[shared:]), (wrong.number, right.number))


def _score(tree: Tree, leaf: Node, judged: bool) -> tuple[float, float, int]:
    path = tree.path(leaf)
    rewards = [node.process_reward or 0.0 if judged else node.mean for node in path]
    logprobs = [logprob for node in path for logprob in node.logprobs]
    likely = math.fsum(logprobs) / len(logprobs) if logprobs else 0.0
    return math.fsum(rewards) / len(rewards), likely, -leaf.number


def _negative(score: tuple[float, float, int]) -> tuple[float, float, int]:
    return -score[0], -score[1], -score[2]
