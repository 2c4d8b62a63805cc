"""Search many trees at once with one engine.

Every rollout of every tree yields what it needs and waits for the result (`walk.Need`). The needs of all rollouts are
passed to the engine and the judge together, and finished trees make room for the next questions.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.core.errors import InputError
from rolewise.engines.base import Completion, Engine, EngineError, Sampling
from rolewise.search.policies import Policy
from rolewise.search.settings import SearchSettings
from rolewise.search.tree import Node, Question, Tree
from rolewise.search.values import Judgement, Leaf, Values
from rolewise.search.walk import Crowd, Generate, Judge, NextTokens, Rollout, Wait, Walk


class TreeSearch:
    """Search of a tree for each question.

    With one rollout per tree at a time, a tree depends only on its question, the model and the settings, up to the
    rounding of the engine's numbers; it does not depend on other trees, nor on interruptions of the search.

    Args:
        engine: engine that runs the model; `concurrency` requests are kept running.
        policy: policy that requests steps.
        values: judge of the ends of paths.
        settings: settings of the search.
    """

    def __init__(self, engine: Engine, policy: Policy, values: Values, settings: SearchSettings) -> None:
        self._engine = engine
        self._policy = policy
        self._values = values
        self._settings = settings
        self._refusal: str | None = None

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how the trees were produced; the list may grow during the search."""
        if self._refusal is None:
            return self._policy.notes
        return [*self._policy.notes, f"Some paths end early because the engine could not continue: {self._refusal}"]

    def run(
        self,
        questions: Iterable[Question],
        *,
        begun: Mapping[str, Tree] | None = None,
        on_rollout: Callable[[Tree], None] | None = None,
    ) -> Iterator[Tree]:
        """Search, and yield each tree when it has ended.

        Args:
            questions: questions, taken as there is room for them.
            begun: trees of an interrupted search, by their question's id. They are continued in place; finished ones
                are yielded unchanged.
            on_rollout: callback called after each rollout with its tree, which can be stored then and continued later.

        Raises:
            InputError: for two questions with one id, a question that the template refuses, or another search's tree.
            EngineError: if the engine can't continue.
            RolewiseError: if paths can't be judged.
        """
        return _Run(self._engine, self._policy, self._values, self._settings, on_rollout, self._refused).trees(
            questions, begun or {}
        )

    def _refused(self, reason: str) -> None:
        if self._refusal is None:
            self._refusal = reason


@dataclass
class _Growing:
    """A tree that is being searched.

    Attributes:
        tree: the tree itself.
        since: start time, by the monotonic clock.
        crowd: positions of its rollouts.
        live: number of its running rollouts.
        next_number: number of its next rollout.
        waiting: rollouts that wait for another rollout of the tree.
    """

    tree: Tree
    since: float
    next_number: int
    crowd: Crowd = field(default_factory=Crowd)
    live: int = 0
    waiting: "list[_Task]" = field(default_factory=list)


@dataclass(eq=False)
class _Task:
    """A running rollout, with the completions that it waits for."""

    growing: _Growing
    walk: Walk
    rollout: Rollout
    answers: list[Completion | None] = field(default_factory=list)


@dataclass(eq=False)
class _Request:
    """Key of a request to the engine, so that requests of an earlier run can't be mistaken for those of this run."""

    task: _Task
    place: int
    prompt_ids: list[int]
    sampling: Sampling


class _Run:
    """One call of `TreeSearch.run`."""

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        values: Values,
        settings: SearchSettings,
        on_rollout: Callable[[Tree], None] | None,
        refused: Callable[[str], None],
    ) -> None:
        self._engine, self._policy, self._values, self._settings = engine, policy, values, settings
        self._on_rollout, self._refused = on_rollout, refused
        self._queue: deque[_Request] = deque()
        self._underway: set[_Request] = set()
        self._choosing: list[tuple[_Task, NextTokens]] = []
        self._judging: list[tuple[_Task, Leaf]] = []
        self._finished: list[Tree] = []

    def trees(self, questions: Iterable[Question], begun: Mapping[str, Tree]) -> Iterator[Tree]:
        """Yield the trees as they end."""
        waiting = iter(questions)
        seen: set[str] = set()
        more = True
        while True:
            while more and self._load() < self._engine.concurrency:
                question = next(waiting, None)
                more = question is not None
                if question is not None:
                    if question.id in seen:
                        raise InputError(f"two questions have the id {question.id!r}; give each its own")
                    seen.add(question.id)
                    self._begin(question, begun.get(question.id))
                yield from self._hand_over()
            if self._choosing:
                self._answer_next_tokens()
            elif self._judging:
                self._judge()
            elif self._queue or self._underway:
                self._generate()
            elif not more:
                return
            yield from self._hand_over()

    def _load(self) -> int:
        """Return the number of pending requests, plus rollouts that are about to make some."""
        return len(self._queue) + len(self._underway) + len(self._choosing) + len(self._judging)

    def _hand_over(self) -> Iterator[Tree]:
        finished, self._finished = self._finished, []
        yield from finished

    def _begin(self, question: Question, tree: Tree | None) -> None:
        try:
            if tree is None:
                tree = self._policy.begin(question)
            else:
                self._policy.check(tree, question)
        except InputError as error:
            raise InputError(f"question {question.id}: {error}") from error
        growing = _Growing(tree, time.monotonic(), next_number=len(tree.rollouts))
        tree.ended = tree.ended or self._reason_to_end(growing)
        if tree.ended is not None:
            self._finished.append(tree)
        else:
            self._start_rollouts(growing)

    def _start_rollouts(self, growing: _Growing) -> None:
        """Start as many rollouts as allowed; one that needs nothing ends immediately and makes room for another."""
        tree = growing.tree
        while tree.ended is None and growing.live < self._settings.in_flight:
            rollouts_left = self._settings.rollouts - len(tree.rollouts) - growing.live
            if rollouts_left < 1 or self._reason_to_end(growing) is not None:
                return
            walk = Walk(
                tree,
                growing.next_number,
                self._settings,
                growing.crowd,
                logprobs=self._engine.gives_logprobs,
            )
            growing.next_number += 1
            growing.live += 1
            self._go_on(_Task(growing, walk, self._rollout(walk)), None)

    def _rollout(self, walk: Walk) -> Rollout:
        """Descend to a leaf and back up its value."""
        tree = walk.tree
        leaf = yield from self._policy.rollout(walk)
        if leaf.outcome is None:
            judgement = yield Judge(Leaf(tree.question, tuple(tree.steps(leaf)), cut_off=not leaf.closed))
            _write_down(tree, leaf, judgement)
        assert leaf.outcome is not None  # just judged
        for node in [tree.root, *tree.path(leaf)]:
            node.visits += 1
            node.value += leaf.outcome
        tree.rollouts.append(leaf.number)
        return leaf

    def _go_on(self, task: _Task, answer: Any) -> None:
        """Resume a rollout up to its next need, then those that waited for it."""
        try:
            need = task.rollout.send(answer)
        except StopIteration:
            self._end_rollout(task)
        else:
            self._take(task, need)
        if answer is not None:
            woken, task.growing.waiting = task.growing.waiting, []
            for other in woken:
                self._go_on(other, None)

    def _take(self, task: _Task, need: Any) -> None:
        if isinstance(need, Generate):
            task.answers = [None] * len(need.requests)
            for place, (prompt_ids, sampling) in enumerate(need.requests):
                self._queue.append(_Request(task, place, prompt_ids, sampling))
        elif isinstance(need, NextTokens):
            self._choosing.append((task, need))
        elif isinstance(need, Judge):
            self._judging.append((task, need.leaf))
        else:
            assert isinstance(need, Wait)
            task.growing.waiting.append(task)

    def _end_rollout(self, task: _Task) -> None:
        growing = task.growing
        task.walk.leave()
        for reason in task.walk.refusals:
            self._refused(reason)
        growing.live -= 1
        if growing.live == 0:
            growing.tree.ended = self._reason_to_end(growing)
        if self._on_rollout is not None:
            self._on_rollout(growing.tree)
        if growing.tree.ended is not None:
            self._finished.append(growing.tree)

    def _generate(self) -> None:
        """Fill the engine, and collect finished requests."""
        while self._queue and len(self._underway) < self._engine.concurrency:
            request = self._queue.popleft()
            self._underway.add(request)
            self._engine.submit(request, request.prompt_ids, request.sampling)
        completions = self._engine.collect()
        if not completions:
            raise EngineError(f"the engine has lost {len(self._underway)} requests")
        for completion in completions:
            request = completion.key  # type: ignore[assignment]  # as submitted
            if request not in self._underway:
                continue  # from an abandoned run
            self._underway.discard(request)
            task = request.task
            task.answers[request.place] = completion
            task.growing.tree.tokens += sum(len(sample.ids) for sample in completion.samples)
            if all(answer is not None for answer in task.answers):
                self._resume(task, task.answers)

    def _answer_next_tokens(self) -> None:
        """Get log-probabilities for all waiting rollouts in one call."""
        asking, self._choosing = self._choosing, []
        context = self._engine.context
        # There must be room for the chosen token and one after it.
        fit = [context is None or len(need.prefix_ids) + 2 <= context for _, need in asking]
        asked = [need for (_, need), fits in zip(asking, fit, strict=True) if fits]
        answers = iter(
            self._engine.next_token_logprobs([need.prefix_ids for need in asked], [need.allowed for need in asked])
            if asked
            else []
        )
        for (task, need), fits in zip(asking, fit, strict=True):
            full = f"the path has {len(need.prefix_ids)} tokens, but the context holds {context}"
            self._resume(task, next(answers) if fits else full)

    def _judge(self) -> None:
        """Get judgements for all waiting rollouts in one call."""
        judging, self._judging = self._judging, []
        judgements = self._values.judge([leaf for _, leaf in judging])
        for (task, _), judgement in zip(judging, judgements, strict=True):
            self._resume(task, judgement)

    def _resume(self, task: _Task, answer: Any) -> None:
        self._go_on(task, answer)
        self._start_rollouts(task.growing)

    def _reason_to_end(self, growing: _Growing) -> str | None:
        """Return the reason why the tree should get no more rollouts; None if it should."""
        tree, settings = growing.tree, self._settings
        if settings.early_stop == "right" and any(tree.nodes[number].right for number in tree.rollouts):
            return "right"
        if len(tree.rollouts) >= settings.rollouts:
            return "rollouts"
        if settings.early_stop == "decided" and _is_decided(tree, settings.rollouts):
            return "decided"
        if settings.max_tokens is not None and tree.tokens >= settings.max_tokens:
            return "tokens"
        if settings.max_seconds is not None and time.monotonic() - growing.since >= settings.max_seconds:
            return "time"
        if not any(self._policy.is_open(tree, node) for node in reversed(tree.nodes)):
            return "exhausted"
        return None


def _write_down(tree: Tree, leaf: Node, judgement: Judgement) -> None:
    """Write the judgement of a path into its nodes.

    Raises:
        InputError: for a value that is not a number, or a number of process rewards unlike the number of steps.
    """
    if not math.isfinite(judgement.value):
        raise InputError(f"question {tree.question.id}: a path was given the value {judgement.value}; give a number")
    leaf.outcome, leaf.answer, leaf.right = judgement.value, judgement.answer, judgement.right
    steps = tree.path(leaf)
    rewards = judgement.process_rewards
    if rewards is None:
        return
    if len(rewards) != len(steps):
        raise InputError(
            f"question {tree.question.id}: a path of {len(steps)} steps was given {len(rewards)} process rewards; give "
            "one for each step"
        )
    for node, reward in zip(steps, rewards, strict=True):
        node.process_reward = reward


def _is_decided(tree: Tree, rollouts: int) -> bool:
    """Return True if the answer of most rollouts stays ahead whatever the remaining ones give."""
    answers = Counter(tree.nodes[number].answer for number in tree.rollouts)
    answers.pop(None, None)
    first, second = [*(count for _, count in answers.most_common(2)), 0, 0][:2]
    return first - second > rollouts - len(tree.rollouts)
