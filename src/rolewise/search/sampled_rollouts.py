"""Paths for reinforcement by plain sampling: the policy gives an answer, which is judged."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rolewise.core.files import digest
from rolewise.engines.base import Engine, Sample, Sampling
from rolewise.search.tree import Question
from rolewise.search.values import Values
from rolewise.search.written_paths import Written, judged_paths
from rolewise.training.rollout_paths import RolledPath, path_numbers

OpenEngine = Callable[[Any], Engine]
"""Function that opens an engine over the policy."""


def question_of(row: Mapping[str, Any]) -> Question:
    """Return the question of a row with the columns `id`, `question` and `reference`."""
    return Question(row["id"], row["question"], row["reference"])


class SampledRollouts:
    """Sampler of answers with an engine over the model in training itself; see `Rollouts`.

    Args:
        open_engine: function that opens the engine; called once, with the first policy.
        values: judge of the answers.
        sampling: sampling settings; number and seed are set by each call.
        functional: opening and closing token of each behaviour, by name; empty for a policy without functional tokens.

    Attributes:
        notes: notes for the user on how the answers were produced.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        values: Values,
        sampling: Sampling,
        functional: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._values = values
        self._sampling = sampling
        self._functional = functional or {}
        self.notes: list[str] = []

    def __call__(
        self, model: Any, rows: Sequence[Mapping[str, Any]], paths: Sequence[int], *, seed: int
    ) -> list[list[RolledPath]]:
        """Return answers to each row's `prompt`, a text as the chat template writes it. Missing answers (to a prompt
        that is too long for the context, or answers that a server withholds) are empty and have the value 0."""
        if self._engine is None:
            self._engine = self._open_engine(model)
        engine = self._engine
        engine.forget()
        prompts = [list(engine.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]) for row in rows]
        for number, (row, prompt, count) in enumerate(zip(rows, prompts, paths, strict=True)):
            # Each question has its own seed: with a common one, all would be drawn from the same random numbers.
            own_seed = int(digest([seed, row["id"]])[:8], 16)
            engine.submit(number, prompt, replace(self._sampling, n=count, seed=own_seed))
        samples: dict[Any, list[Sample]] = {}
        while done := engine.collect():
            samples |= {completion.key: completion.samples for completion in done}
            if refused := next((completion.error for completion in done if completion.error), None):
                self.notes = self.notes or [f"Some questions were not answered: {refused}"]
        written = [
            Written(question_of(row), prompt, sample.ids, sample.finish_reason == "length")
            for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True))
            for sample in samples[number]
        ]
        judged = iter(judged_paths(written, self._values, engine.tokenizer, self._functional))
        found = [[next(judged) for _ in samples[number]] for number in range(len(rows))]
        return [
            [*own, *[RolledPath(prompt, [], [], 0.0)] * (count - len(own))]
            for own, prompt, count in zip(found, prompts, paths, strict=True)
        ]

    def close(self) -> None:
        """Close the engine, if it is open."""
        if self._engine is not None:
            self._engine.close()


class CompletionRewards:
    """Reward function for TRL's own GRPO: outcomes of completions, judged like the paths of rollouts.

    Args:
        values: judge of the completions.
        tokenizer: tokenizer of the policy.
        ends: tokens that end a turn; a completion without one was cut off.
        functional: opening and closing token of each behaviour, by name; empty for a policy without functional tokens.
        behaviours: names of the steps to count.
    """

    __name__ = "outcome"

    def __init__(
        self,
        values: Values,
        tokenizer: Any,
        ends: Collection[int],
        functional: Mapping[str, tuple[int, int]],
        behaviours: Sequence[str],
    ) -> None:
        self._values = values
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._functional = functional
        self._behaviours = behaviours

    def __call__(
        self, completion_ids: Sequence[Sequence[int]], log_metric: Callable[[str, float], None], **columns: Any
    ) -> list[float]:
        names = ("id", "question", "reference")
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)]
        written = [
            Written(question_of(row), (), ids, not (ids and ids[-1] in self._ends))
            for row, ids in zip(rows, completion_ids, strict=True)
        ]
        paths = judged_paths(written, self._values, self._tokenizer, self._functional)
        for path in paths:
            for name, number in path_numbers(path, self._behaviours).items():
                log_metric(name, number)
        return [path.outcome for path in paths]
