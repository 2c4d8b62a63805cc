"""A scripted model and judge for tests of search: what they say depends on what they are asked, and on nothing else."""

import json
import math
import random
from collections.abc import Hashable, Sequence
from typing import Any

from rolewise.engines.base import Completion, Engine, Sample, Sampling
from rolewise.search.values import Judgement, Leaf

STEPS = (
    "Add 2 and 3.",
    "Half of 8 is 4. So there are 4 left.",
    "First this. Then that. Then more. Then less. Then all.",
    "",
    r"So it is \boxed{7}.",
    r"An empty box \boxed{} says nothing.",
    "The answer is near",
)


def luck(*key: object) -> random.Random:
    """A stream of random numbers for a key."""
    return random.Random(json.dumps(key))


class ScriptedModel(Engine):
    """Writes one of some texts after a prompt, and an ending.

    Args:
        tokenizer: of the prompts.
        steps: texts to choose from.
        endings: of a step: `close` (the closing token of the behaviour whose opening token ends the prompt), `turn`
            (the end-of-text token), `cut` (the limit of tokens), or another token's text.
        scramble: None to answer requests in order, one at a time; else a seed for the order and the number at once.
        longest: prompts of more tokens are refused.
    """

    def __init__(
        self,
        tokenizer: Any,
        steps: Sequence[str] = STEPS,
        *,
        endings: Sequence[str] = ("turn", "turn", "cut"),
        concurrency: int = 4,
        scramble: int | None = None,
        longest: float = math.inf,
    ) -> None:
        self.tokenizer = tokenizer
        self.concurrency = concurrency
        self.asked: list[tuple[str, Sampling]] = []
        self.most_underway = 0
        self.choices: list[int] = []
        self._steps, self._endings, self._longest = steps, endings, longest
        self._order = None if scramble is None else random.Random(scramble)
        self._encoded: dict[str, list[int]] = {}
        self._waiting: list[tuple[Hashable, list[int], Sampling]] = []

    def submit(self, key: Hashable, prompt_ids: Sequence[int], sampling: Sampling) -> None:
        self.asked.append((self.tokenizer.decode(list(prompt_ids)), sampling))
        self._waiting.append((key, list(prompt_ids), sampling))
        self.most_underway = max(self.most_underway, len(self._waiting))

    def collect(self) -> list[Completion]:
        count = min(1, len(self._waiting))
        if self._order is not None and self._waiting:
            self._order.shuffle(self._waiting)
            count = self._order.randint(1, len(self._waiting))
        done, self._waiting = self._waiting[:count], self._waiting[count:]
        return [self._complete(*request) for request in done]

    def _complete(self, key: Hashable, prompt_ids: list[int], sampling: Sampling) -> Completion:
        if len(prompt_ids) > self._longest:
            return Completion(key, [], f"the prompt has {len(prompt_ids)} tokens")
        return Completion(key, [self.write(prompt_ids, sampling, i) for i in range(sampling.n)])

    def write(self, prompt_ids: Sequence[int], sampling: Sampling, number: int = 0) -> Sample:
        """What the model writes."""
        draw = luck(list(prompt_ids), sampling.seed, number)
        ids = [*self._encode(draw.choice(self._steps))]
        ending = draw.choice(self._endings)
        if ending == "close":
            opening = self.tokenizer.decode([prompt_ids[-1]])
            ending = opening.replace("<", "</")
        elif ending == "turn":
            ending = self.tokenizer.eos_token
        ids += [] if ending == "cut" else self._encode(ending)
        logprobs = [-draw.random() for _ in ids] if sampling.logprobs else None
        return Sample(ids, logprobs, "length" if ending == "cut" else "stop")

    def next_token_logprobs(
        self, prefixes: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        self.choices.append(len(prefixes))
        return [self.weigh(prefix, tokens) for prefix, tokens in zip(prefixes, allowed, strict=True)]

    def weigh(self, prefix: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """How likely the model finds some next tokens."""
        return [-4 * luck(list(prefix), token).random() for token in tokens]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def _encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._encoded[text]


class ScriptedJudge:
    """A third of the paths are right; the answer is the last step's length."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.notes: list[str] = []

    def judge(self, leaves: Sequence[Leaf]) -> list[Judgement]:
        self.batches.append(len(leaves))
        return [self.of(leaf.question.id, [step.text for step in leaf.steps]) for leaf in leaves]

    def of(self, question: str, texts: Sequence[str]) -> Judgement:
        """The judgement on a path."""
        right = luck(question, list(texts)).random() < 1 / 3
        return Judgement(float(right), str(len(texts[-1])) if texts else None, right)

    def close(self) -> None:
        pass
