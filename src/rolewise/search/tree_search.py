"""Search in many trees at once over one engine.

Every rollout of every tree says what it needs and sleeps until that is there (`walk.Need`). What all of them need is
handed to the engine and to the judge together, and finished trees make room for the next questions.
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
    """Searches a tree for each question.

    With one rollout under way in a tree at a time, the tree depends on its question, the model and the settings alone,
    up to the rounding of the engine's numbers; not on the trees beside it, nor on whether the search was interrupted.

    Args:
        engine: runs the model; `concurrency` requests are kept under way.
        policy: how steps are asked for.
        values: what the end of a path is worth.
        settings: of the search.
    """

    def __init__(self, engine: Engine, policy: Policy, values: Values, settings: SearchSettings) -> None:
        self._engine = engine
        self._policy = policy
        self._values = values
        self._settings = settings
        self._refusal: str | None = None

    @property
    def notes(self) -> list[str]:
        """What the user should know of how the trees came about; it may grow while they are searched."""
        if self._refusal is None:
            return self._policy.notes
        return [*self._policy.notes, f"Some paths end early, where the engine could not go on: {self._refusal}"]

    def run(
        self,
        questions: Iterable[Question],
        *,
        begun: Mapping[str, Tree] | None = None,
        on_rollout: Callable[[Tree], None] | None = None,
    ) -> Iterator[Tree]:
        """Search, and hand over each tree when it has ended.

        Args:
            questions: taken as there is room for them.
            begun: trees of a search that was interrupted, by their question's id. They are gone on with in place; those
                that had ended are handed over as they are.
            on_rollout: called after each rollout with its tree, which can be kept then and gone on with later.

        Raises:
            InputError: for two questions of one id, a question that the template refuses, or a begun tree of another
                search.
            EngineError: if the engine can't go on.
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
    """A tree under way.

    Attributes:
        tree: itself.
        since: when it was begun, by the monotonic clock.
        crowd: where its rollouts are.
        live: how many they are.
        next_number: of its next rollout.
        waiting: rollouts that wait for another of the tree.
    """

    tree: Tree
    since: float
    next_number: int
    crowd: Crowd = field(default_factory=Crowd)
    live: int = 0
    waiting: "list[_Task]" = field(default_factory=list)


@dataclass(eq=False)
class _Task:
    """A rollout under way, with the completions that it waits for."""

    growing: _Growing
    walk: Walk
    rollout: Rollout
    answers: list[Completion | None] = field(default_factory=list)


@dataclass(eq=False)
class _Request:
    """What the engine gets as a key: a request of an earlier run can't be taken for one of this."""

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
        """The trees as they end."""
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
        """Requests under way, and rollouts that are about to make some."""
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
        """As many as may be under way; one that needs nothing ends at once and makes room for another."""
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
        """Down to a leaf and up again."""
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
        """Resume a rollout up to its next need; those that waited for it follow."""
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
        """Fill the engine, and take what it has ready."""
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
                continue  # of a run that was given up
            self._underway.discard(request)
            task = request.task
            task.answers[request.place] = completion
            task.growing.tree.tokens += sum(len(sample.ids) for sample in completion.samples)
            if all(answer is not None for answer in task.answers):
                self._resume(task, task.answers)

    def _answer_next_tokens(self) -> None:
        """Log-probabilities for all that wait for some, in one call."""
        asking, self._choosing = self._choosing, []
        context = self._engine.context
        # There must be room for the token that is chosen and for one after it.
        fit = [context is None or len(need.prefix_ids) + 2 <= context for _, need in asking]
        asked = [need for (_, need), fits in zip(asking, fit, strict=True) if fits]
        answers = iter(
            self._engine.next_token_logprobs([need.prefix_ids for need in asked], [need.allowed for need in asked])
            if asked
            else []
        )
        for (task, need), fits in zip(asking, fit, strict=True):
            full = f"the path has {len(need.prefix_ids)} tokens, and the context holds {context}"
            self._resume(task, next(answers) if fits else full)

    def _judge(self) -> None:
        """Judgements for all that wait for one, in one call."""
        judging, self._judging = self._judging, []
        judgements = self._values.judge([leaf for _, leaf in judging])
        for (task, _), judgement in zip(judging, judgements, strict=True):
            self._resume(task, judgement)

    def _resume(self, task: _Task, answer: Any) -> None:
        self._go_on(task, answer)
        self._start_rollouts(task.growing)

    def _reason_to_end(self, growing: _Growing) -> str | None:
        """Why the tree should get no more rollouts."""
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
    """What a judge says of a path, into its nodes.

    Raises:
        InputError: for a value that is no number, or process rewards that are not one for each step.
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
    """Whether the answer that most rollouts gave stays ahead whatever those to come give."""
    answers = Counter(tree.nodes[number].answer for number in tree.rollouts)
    answers.pop(None, None)
    first, second = [*(count for _, count in answers.most_common(2)), 0, 0][:2]
    return first - second > rollouts - len(tree.rollouts)
