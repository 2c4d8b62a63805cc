"""Policies that grow a tree: by prompts, one for each behaviour, or by the model's own choice of functional tokens.

Both follow RFTT (arXiv 2502.13389). A rollout selects, expands, simulates to the end of a path, and returns its leaf;
the search evaluates the leaf and does the backup.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any

from rolewise.core.behaviour import RFTT, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.engines.base import Completion, Sample, Sampling
from rolewise.evaluation.prompting import Prompter
from rolewise.rewards.math_answers import boxed_answer
from rolewise.search.tree import Node, PolicyKind, Question, Step, Tree
from rolewise.search.walk import Generate, Need, NextTokens, Rollout, Wait, Walk
from rolewise.training.functional_tokens import functional_token_ids

MOST_SENTENCES = 4
"""Maximum sentences in a step of a simulation, which takes longer steps only if there are no others (number from the
published code)."""
DECIMALS = 5
"""Decimals kept of log-probabilities: further ones depend on the rest of the batch."""
_LEAST = -9999.0
"""Substitute for a log-probability of minus infinity, which JSON can't hold."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n{2,}")


class Policy(ABC):
    """Base class of policies, which request steps from the model.

    Args:
        tokenizer: tokenizer of the model.
        behaviours: set of available steps.
        chat_template: a file or a known name; None takes the tokenizer's own.

    Attributes:
        kind: `prompts` or `tokens`, as in `Tree.policy`.
        behaviours: the set of steps.

    Raises:
        InputError: if the chat template is missing or unusable.
    """

    kind: PolicyKind

    def __init__(self, tokenizer: Any, behaviours: BehaviourSet = RFTT, chat_template: str | None = None) -> None:
        self.behaviours = behaviours
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer, chat_template)

    @property
    def notes(self) -> list[str]:
        """Parts of the requests so far that the chat template can't express, a line each."""
        return self._prompter.notes

    def begin(self, question: Question) -> Tree:
        """Return a tree that holds only the question.

        Raises:
            InputError: if the template refuses the question.
        """
        return Tree(question, self.kind)

    def check(self, tree: Tree, question: Question) -> None:
        """Refuse to continue a tree that this policy would not have begun for the question.

        Raises:
            InputError: with the question and the difference.
        """
        fresh = self.begin(question)
        names = {node.behaviour for node in tree.nodes[1:]}
        unknown = ", ".join(sorted(str(name) for name in names if name not in self.behaviours))
        differs = [
            (tree.question != question, "another question of that id"),
            (tree.policy != self.kind, f"a search by {tree.policy}, but this search is by {self.kind}"),
            (tree.prompt_ids != fresh.prompt_ids, "another tokenizer or chat template"),
            (bool(unknown), f"behaviours that are not known here ({unknown})"),
        ]
        for differ, what in differs:
            if differ:
                raise InputError(f"the tree of question {question.id} is of {what}; search the question again")

    @abstractmethod
    def rollout(self, walk: Walk) -> Rollout:
        """Go from the root to the end of a path, creating missing nodes."""

    @abstractmethod
    def is_open(self, tree: Tree, node: Node) -> bool:
        """Return True if a rollout could still find something new at this node."""

    def _text(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip()


class PromptPolicy(Policy):
    """Policy in which each allowed behaviour with a prompt proposes children; a path ends with an answer in a box, with
    a behaviour that concludes, or at the maximum depth.

    Selection takes a random unvisited child if there is one, else the best by UCT. It never takes a child that
    concludes; simulation may, because it picks at random among all children.

    Raises:
        InputError: as for `Policy`, and if no behaviour that may follow the question has a prompt.
    """

    kind: PolicyKind = "prompts"

    def __init__(self, tokenizer: Any, behaviours: BehaviourSet = RFTT, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, behaviours, chat_template)
        if not self._prompted(None):
            first = ", ".join(behaviours.first)
            raise InputError(
                f"behaviours: none of those that may follow the question ({first}) has a prompt; write one"
            )

    def rollout(self, walk: Walk) -> Rollout:
        while not walk.node.leaf:
            if walk.node.number in walk.claimed:
                yield Wait()
                continue
            selectable = [child for child in walk.tree.children(walk.node) if not self._concludes(child)]
            if not selectable:
                break
            unvisited = [child for child in selectable if walk.visits(child) == 0]
            if unvisited:
                walk.enter(_pick(walk, unvisited))
                break
            walk.enter(walk.best(selectable))
        while not walk.node.leaf:
            yield from self._expand(walk)
            children = walk.tree.children(walk.node)
            if children:
                short = [child for child in children if _sentences(child.text) <= MOST_SENTENCES]
                walk.enter(_pick(walk, short or children))
        return walk.node

    def is_open(self, tree: Tree, node: Node) -> bool:
        if node.visits:
            return not node.leaf and not node.expanded
        if node.parent is None or not self._concludes(node):
            return True
        # If there is no other child, every selection ends at the parent, and simulation picks among these.
        return all(self._concludes(child) for child in tree.children(tree.nodes[node.parent]))

    def _expand(self, walk: Walk) -> Generator[Need, Any, None]:
        """Let all allowed behaviours propose children; a node without proposals is a leaf."""
        node = walk.node
        while node.number in walk.claimed:
            yield Wait()
        if node.expanded or node.leaf:
            return
        walk.claimed.add(node.number)
        names = self._prompted(node.behaviour)
        completions: list[Completion] = yield Generate([self._request(walk, name) for name in names])
        walk.claimed.discard(node.number)
        for name, completion in zip(names, completions, strict=True):
            if completion.error is not None:
                walk.refusals.append(completion.error)
            for sample in completion.samples:
                self._add(walk, node, name, sample)
        node.expanded = bool(node.children)
        node.leaf = not node.children

    def prompt(self, question: Question, steps: Sequence[Step], name: str) -> str:
        """Return the prompt for a step of the behaviour `name` after `steps`, as the chat template writes it.

        The instruction comes last, so that the prompts of a path share a prefix. Models that think first are made to
        answer immediately if their template supports it: a step is short, and is a piece of thinking itself.

        Raises:
            InputError: if the template refuses it.
        """
        texts = [step.text for step in steps if step.text]
        so_far = ["The solution so far:", *texts] if texts else []
        task = f"Your task: {self.behaviours[name].prompt}"
        content = "\n\n".join([f"Problem: {question.text}", *so_far, task])
        # A single space (Llama 2) belongs to the answer's first token.
        return self._prompter.answer_start([{"role": "user", "content": content}]).rstrip(" ")

    def _request(self, walk: Walk, name: str) -> tuple[list[int], Sampling]:
        prompt = self.prompt(walk.tree.question, walk.tree.steps(walk.node), name)
        children = self.behaviours[name].children
        return self._prompter.ids(prompt), walk.sampling(self._prompter.stop_token_ids, children)

    def _add(self, walk: Walk, node: Node, name: str, sample: Sample) -> None:
        text = self._text(sample.ids)
        child = walk.tree.add(
            node,
            name,
            text=text,
            ids=list(sample.ids),
            logprobs=_kept(sample.logprobs),
            closed=sample.finish_reason == "stop",
        )
        child.leaf = (
            self._concludes(child)
            or bool(boxed_answer(text))
            or walk.tree.depth(child) >= walk.settings.max_depth
            or not self._prompted(name)
        )

    def _prompted(self, name: str | None) -> list[str]:
        return [following for following in self.behaviours.after(name) if self.behaviours[following].prompt is not None]

    def _concludes(self, node: Node) -> bool:
        return self.behaviours[str(node.behaviour)].concludes


class TokenPolicy(Policy):
    """Policy in which the model chooses the next behaviour by its functional token; a path ends with a behaviour that
    nothing may follow, with the model's turn, or at the maximum depth.

    Selection descends by UCT while every allowed behaviour of a node has been tried, and expansion takes the untried
    one that is likeliest under the model. Simulation draws from the model's distribution over the allowed ones.

    Raises:
        InputError: as for `Policy`, and if a functional token is not a single token of the tokenizer.
    """

    kind: PolicyKind = "tokens"

    def __init__(self, tokenizer: Any, behaviours: BehaviourSet = RFTT, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, behaviours, chat_template)
        self._ids = functional_token_ids(tokenizer, behaviours)
        self._functional = {token for pair in self._ids.values() for token in pair}
        self._stop = (*sorted(self._functional), *self._prompter.stop_token_ids)

    def begin(self, question: Question) -> Tree:
        prompt = self._prompter.answer_start([{"role": "user", "content": question.text}])
        return Tree(question, self.kind, prompt_ids=self._prompter.ids(prompt))

    def rollout(self, walk: Walk) -> Rollout:
        yield from self._select(walk)
        while not (yield from self._ends(walk)):
            name = self._draw(walk)
            while (walk.node.number, name) in walk.claimed:
                yield Wait()
            made = [child for child in walk.tree.children(walk.node) if child.behaviour == name]
            if made:
                walk.enter(made[0])
            else:
                yield from self._step(walk, name)
        return walk.node

    def is_open(self, tree: Tree, node: Node) -> bool:
        if node.leaf:
            return not node.visits
        return len(node.children) < len(self.behaviours.after(node.behaviour))

    def _select(self, walk: Walk) -> Generator[Need, Any, None]:
        """Descend to a node with an untried behaviour, and try it."""
        while not (yield from self._ends(walk)):
            node = walk.node
            children = walk.tree.children(node)
            tried = {child.behaviour for child in children}
            names = self.behaviours.after(node.behaviour)
            logprobs = dict(zip(names, node.next_logprobs, strict=True))
            untried = [name for name in names if name not in tried and (node.number, name) not in walk.claimed]
            if untried:
                yield from self._step(walk, max(untried, key=lambda name: logprobs[name]))
                return
            if children:
                # A killed search may have left a child without visits; UCT takes it first.
                walk.enter(walk.best(children))
            else:
                yield Wait()

    def _ends(self, walk: Walk) -> Generator[Need, Any, bool]:
        """Return True if the path ends at the current node; otherwise store the likelihood of each behaviour there."""
        node = walk.node
        while node.number in walk.claimed:
            yield Wait()
        if not node.leaf and not node.next_logprobs:
            walk.claimed.add(node.number)
            allowed = [self._ids[name][0] for name in self.behaviours.after(node.behaviour)]
            answer: list[float] | str = yield NextTokens(walk.tree.path_ids(node), allowed)
            walk.claimed.discard(node.number)
            if isinstance(answer, str):
                walk.refusals.append(answer)
                node.leaf = True
            else:
                node.next_logprobs = [_kept_one(logprob) for logprob in answer]
        return node.leaf

    def _draw(self, walk: Walk) -> str:
        names = self.behaviours.after(walk.node.behaviour)
        place = walk.uniform()
        for name, prior in zip(names, _renormalised(walk.node.next_logprobs), strict=True):
            place -= math.exp(prior)
            if place < 0:
                return name
        return names[-1]  # rounding

    def _step(self, walk: Walk, name: str) -> Generator[Need, Any, None]:
        """Let the model write a step of this behaviour, and enter it."""
        node, tree = walk.node, walk.tree
        opening = self._ids[name][0]
        walk.claimed.add((node.number, name))
        prompt = [*tree.path_ids(node), opening]
        (completion,) = yield Generate([(prompt, walk.sampling(self._stop))])
        walk.claimed.discard((node.number, name))
        place = self.behaviours.after(node.behaviour).index(name)
        child = tree.add(
            node,
            name,
            ids=[opening],
            logprobs=[node.next_logprobs[place]],
            prior=round(_renormalised(node.next_logprobs)[place], DECIMALS),
            closed=False,
        )
        if completion.error is not None:
            walk.refusals.append(completion.error)
            child.leaf = True
        else:
            self._write(child, completion.samples[0])
        child.leaf |= self.behaviours[name].ends or tree.depth(child) >= walk.settings.max_depth
        walk.enter(child)

    def _write(self, child: Node, sample: Sample) -> None:
        """Store the model's output in a node that holds its opening token."""
        closing = self._ids[str(child.behaviour)][1]
        ids, logprobs = list(sample.ids), _kept(sample.logprobs)
        last = ids[-1] if ids and sample.finish_reason == "stop" else None
        if last in self._functional and last != closing:
            # The model began another step; the search chooses the next one.
            ids, logprobs = ids[:-1], logprobs[:-1]
        else:
            child.closed = sample.finish_reason == "stop"
            child.leaf = child.closed and last != closing
        child.text = self._text([token for token in ids if token not in self._functional])
        child.ids += ids
        child.logprobs = [*child.logprobs, *logprobs] if len(logprobs) == len(ids) else []


def _pick(walk: Walk, nodes: Sequence[Node]) -> Node:
    return nodes[int(walk.uniform() * len(nodes))]


def _sentences(text: str) -> int:
    return sum(1 for sentence in _SENTENCE_END.split(text) if sentence)


def _kept(logprobs: Sequence[float] | None) -> list[float]:
    """Return rounded log-probabilities; an empty list if one is unknown (NaN)."""
    if logprobs is None or any(math.isnan(logprob) for logprob in logprobs):
        return []
    return [_kept_one(logprob) for logprob in logprobs]


def _kept_one(logprob: float) -> float:
    return _LEAST if math.isnan(logprob) or logprob < _LEAST else round(logprob, DECIMALS)


def _renormalised(logprobs: Sequence[float]) -> list[float]:
    """Return log-probabilities normalized over these alone."""
    most = max(logprobs)
    total = most + math.log(sum(math.exp(logprob - most) for logprob in logprobs))
    return [logprob - total for logprob in logprobs]
