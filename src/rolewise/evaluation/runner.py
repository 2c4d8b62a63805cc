"""Play a suite's examples on an engine, many at once, and yield each as it ends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rolewise.core.errors import InputError
from rolewise.engines.base import Completion, Engine, Sampling
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.prompting import Prompter, check_messages
from rolewise.evaluation.suite import Answer, Ask, Play, Suite, failing_in_one_line


@dataclass(frozen=True)
class Played:
    """A finished example.

    Attributes:
        example: the task.
        verdict: outcome.
        asked: requests and answers of the model, step by step, as JSON values.
    """

    example: Example
    verdict: Verdict
    asked: list[dict[str, Any]]


@dataclass
class _Underway:
    suite: str
    example: Example
    play: Play
    ask: Ask
    asked: list[dict[str, Any]] = field(default_factory=list)
    messages_before: list[dict[str, Any]] = field(default_factory=list)


class Runner:
    """Runner that plays examples on an engine.

    Args:
        engine: engine that answers.
        prompter: writer of the prompts; its notes list content that the template can't express.
        sampling: sampling settings of every answer; `n`, `stop`, `stop_token_ids` and, without `max_new_tokens`, the
            length come from the ask.
        max_new_tokens: maximum tokens of every answer, whatever the suite asks for; None leaves it to the suite.
    """

    def __init__(
        self, engine: Engine, prompter: Prompter, sampling: Sampling, max_new_tokens: int | None = None
    ) -> None:
        self._engine = engine
        self._prompter = prompter
        self._sampling = sampling
        self._max_new_tokens = max_new_tokens

    def play(self, suite: Suite, examples: Iterable[Example]) -> Iterator[Played]:
        """Play the examples, as many at once as the engine takes, and yield each when it ends, in any order.

        Raises:
            EngineError: if the engine can't continue.
            InputError: if the template refuses a question, or a dependency of the suite (such as a judge) is gone.
            RolewiseError: if the suite fails, or a play yields or returns an invalid value.
        """
        waiting = iter(examples)
        underway: dict[int, _Underway] = {}
        number = 0
        while True:
            while len(underway) < self._engine.concurrency and (example := next(waiting, None)) is not None:
                with failing_in_one_line(f"suite {suite.name}: example {example.id}"):
                    started = suite.play(example)
                step = _next_step(suite.name, example, started, None)
                if isinstance(step, Verdict):
                    yield Played(example, step, [])
                    continue
                state = _Underway(suite.name, example, started, step)
                underway[number] = state
                self._submit(number, state)
                number += 1
            if not underway:
                return
            for completion in self._engine.collect():
                assert isinstance(completion.key, int)  # as submitted
                state = underway[completion.key]
                verdict = self._go_on(completion.key, state, completion)
                if verdict is not None:
                    del underway[completion.key]
                    yield Played(state.example, verdict, state.asked)

    def _submit(self, number: int, state: _Underway) -> None:
        ask = state.ask
        check_messages(ask.messages)
        text = self._prompter.prompt_text(ask.messages, ask.tools)
        ids = self._prompter.ids(text)
        known = len(state.messages_before) if ask.messages[: len(state.messages_before)] == state.messages_before else 0
        record: dict[str, Any] = {"messages": ask.messages[known:], "prompt_tokens": len(ids)}
        state.asked.append({"prompt": text, **record} if not state.asked else record)
        state.messages_before = list(ask.messages)
        sampling = replace(
            self._sampling,
            max_new_tokens=self._max_new_tokens or ask.max_new_tokens,
            temperature=self._sampling.temperature if ask.temperature is None else ask.temperature,
            n=ask.n,
            stop=ask.stop,
            stop_token_ids=self._prompter.stop_token_ids,
        )
        self._engine.submit(number, ids, sampling)

    def _go_on(self, number: int, state: _Underway, completion: Completion) -> Verdict | None:
        """Pass the answer to the play; return its verdict, or submit its next question and return None."""
        texts = [self._prompter.answer_text(sample, state.ask.stop) for sample in completion.samples]
        state.asked[-1] |= {
            "answers": texts,
            "ids": [sample.ids for sample in completion.samples],
            "finish_reasons": [sample.finish_reason for sample in completion.samples],
        }
        if completion.error is not None:
            state.asked[-1]["error"] = completion.error
        answer = Answer(texts, completion.samples, completion.error)
        step = _next_step(state.suite, state.example, state.play, answer)
        if isinstance(step, Verdict):
            return step
        state.ask = step
        self._submit(number, state)
        return None


def _next_step(suite: str, example: Example, play: Play, answer: Answer | None) -> Ask | Verdict:
    """Return a play's next step, or its first one if there is no answer yet."""
    what = f"suite {suite}: example {example.id}"
    step: Any
    with failing_in_one_line(what):
        try:
            step = next(play) if answer is None else play.send(answer)
        except StopIteration as end:
            step = end.value
        else:
            if not isinstance(step, Ask):
                raise InputError(f"{what} yields {step!r:.80}; a play must yield an Ask")
            return step
    # NaN fails every comparison.
    if not isinstance(step, Verdict) or not isinstance(step.score, (int, float)) or not 0 <= step.score <= 1:
        raise InputError(f"{what} ends with {step!r:.80}; a play must return a Verdict with a score from 0 to 1")
    return step


def draw(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """Draw at most `limit` examples, spread over the categories by their sizes, in their order; all for None.

    Every category gets its share of `limit`, rounded so that the total fits, and at least one example if `limit` is at
    least the number of categories. Within a category the draw is random, fixed by the seed, and a larger draw contains
    the smaller: runs with different limits can be compared.
    """
    if limit is None or limit >= len(examples):
        return list(examples)
    members: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        members.setdefault(example.category, []).append(index)
    counts = _shares([len(indices) for indices in members.values()], limit)
    generator = np.random.default_rng(seed)
    chosen = [
        int(index)
        for indices, count in zip(members.values(), counts, strict=True)
        for index in generator.permutation(indices)[:count]
    ]
    return [examples[index] for index in sorted(chosen)]


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """Return integers that sum to `total` (below the sum of sizes), in proportion to sizes, none above its size.

    Places are assigned one by one to the category that is furthest below its exact share.
    """
    counts = [1 if total >= len(sizes) else 0] * len(sizes)
    exact = [size * total / sum(sizes) for size in sizes]
    for _ in range(total - sum(counts)):
        room = [i for i, size in enumerate(sizes) if counts[i] < size]
        counts[max(room, key=lambda i: (exact[i] - counts[i], -i))] += 1
    return counts
