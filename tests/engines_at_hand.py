"""Engines and suites for tests that are about something else."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from rolewise.engines.base import Completion, Engine, Sample, Sampling
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Answer, Ask, Play, Suite


class ScriptedEngine(Engine):
    """Answers each prompt's text with what a function makes of it; the newest request comes back first."""

    def __init__(self, tokenizer: Any, answer: Callable[[str, int], str], concurrency: int = 3) -> None:
        self.tokenizer = tokenizer
        self.concurrency = concurrency
        self.most_underway = 0
        self.asked: list[tuple[str, Sampling]] = []
        self._answer = answer
        self._waiting: list[tuple[Hashable, str, Sampling]] = []

    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        text = self.tokenizer.decode(list(prompt_ids))
        self.asked.append((text, sampling))
        self._waiting.append((key, text, sampling))
        self.most_underway = max(self.most_underway, len(self._waiting))

    def collect(self) -> list[Completion]:
        if not self._waiting:
            return []
        key, text, sampling = self._waiting.pop()
        if "too long" in text:
            return [Completion(key, [], "the prompt has more tokens than the model takes")]
        end = self.tokenizer.eos_token_id
        answers = [self._answer(text, i) for i in range(sampling.n)]
        ids = [self.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        return [Completion(key, [Sample([*tokens, end], None, "stop") for tokens in ids])]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        raise NotImplementedError

    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        return {"kind": "scripted"}


class CountingSuite(Suite):
    """The model is to say how many questions it has been asked; each example asks some number of times."""

    name = "counting"
    title = "Counting"

    def __init__(self, examples: Iterable[Example]) -> None:
        self._examples = list(examples)
        self.closed = False

    def examples(self) -> Sequence[Example]:
        return self._examples

    def play(self, example: Example) -> Play:
        messages: list[dict[str, Any]] = []
        right = 0
        times, text = example.data
        answer = Answer([], [])
        for number in range(times):
            messages = [*messages, {"role": "user", "content": f"{text} {number}"}]
            answer = yield Ask(messages=messages, max_new_tokens=7 + number, stop=("!",))
            right += answer.text == str(number)
            messages = [*messages, {"role": "assistant", "content": answer.text or "nothing"}]
        return Verdict(right / times, answer.error or "", {"right": right})

    def version(self) -> dict[str, Any]:
        return {"examples": len(self._examples)}

    def close(self) -> None:
        self.closed = True
