"""Paths for reinforcement by plain sampling: the policy is asked for an answer, and it is judged."""

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
"""Opens an engine over the policy."""


def question_of(row: Mapping[str, Any]) -> Question:
    """The question of a row with the columns `id`, `question` and `reference`."""
    return Question(row["id"], row["question"], row["reference"])


class SampledRollouts:
    """Samples answers with an engine over the very model that is in training; see `Rollouts`.

    Args:
        open_engine: called once, with the first policy.
        values: who judges.
        sampling: how to sample; number and seed are those of each call.
        functional: opening and closing token of each behaviour, by its name; empty for a policy that has none.

    Attributes:
        notes: what the user should know of how the answers came about.
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
        """Answers to each row's `prompt`, a text as the chat template writes it; those that there are not (of a
        prompt that is too long for the context, or that a server holds back) are empty and worth nothing."""
        if self._engine is None:
            self._engine = self._open_engine(model)
        engine = self._engine
        engine.forget()
        prompts = [list(engine.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]) for row in rows]
        for number, (row, prompt, count) in enumerate(zip(rows, prompts, paths, strict=True)):
            # Each question has a seed of its own: with one for all, all would be drawn from the same numbers.
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
        """Close the engine, if it has been opened."""
        if self._engine is not None:
            self._engine.close()


class CompletionRewards:
    """The reward function of TRL's own GRPO: outcomes of completions, judged as the paths of rollouts are.

    Args:
        values: who judges.
        tokenizer: the policy's.
        ends: tokens that end a turn; a completion without one was cut off.
        functional: opening and closing token of each behaviour, by its name; empty for a policy that has none.
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
