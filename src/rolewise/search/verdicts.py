"""The verify steps of warm-up data: a model reads a right and a wrong path and writes where the wrong one fails."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rolewise.core.errors import InputError
from rolewise.engines.base import Engine, Sampling
from rolewise.evaluation.prompting import Prompter
from rolewise.search.tree import Step
from rolewise.search.warmup_data import Pair


class VerdictWriter:
    """Writer of verdicts on pairs, which asks a model about many pairs at once.

    Args:
        engine: engine that runs the model.
        tokenizer: tokenizer of the model.
        sampling: sampling settings; the seed is combined with the pair, so that verdicts are independent.
        chat_template: a file or a known name; None takes the tokenizer's own.

    Raises:
        InputError: if there is no chat template.
    """

    def __init__(self, engine: Engine, tokenizer: Any, sampling: Sampling, chat_template: str | None = None) -> None:
        self._engine, self._tokenizer, self._sampling = engine, tokenizer, sampling
        self._prompter = Prompter(tokenizer, chat_template)

    def write(self, pairs: Iterable[tuple[str, Pair]]) -> Iterator[tuple[str, str]]:
        """Yield verdicts as they arrive, each with the name of its pair; empty if the model could not be asked.

        Raises:
            EngineError: if the engine can't continue.
        """
        waiting = iter(pairs)
        more, underway = True, 0
        while more or underway:
            while more and underway < self._engine.concurrency:
                named = next(waiting, None)
                more = named is not None
                if named is not None:
                    name, pair = named
                    prompt_ids = self._prompter.ids(verdict_prompt(self._prompter, pair))
                    self._engine.submit(name, prompt_ids, self._sampling_of(name))
                    underway += 1
            for completion in self._engine.collect() if underway else ():
                underway -= 1
                texts = [self._text(sample.ids) for sample in completion.samples]
                yield str(completion.key), texts[0] if texts else ""

    def _sampling_of(self, name: str) -> Sampling:
        given = self._sampling
        return Sampling(
            max_new_tokens=given.max_new_tokens,
            temperature=given.temperature,
            top_p=given.top_p,
            top_k=given.top_k,
            seed=zlib.crc32(f"{given.seed} {name}".encode()),
            stop_token_ids=self._prompter.stop_token_ids,
        )

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def verdict_prompt(prompter: Prompter, pair: Pair) -> str:
    """Return the prompt to the model, as the chat template writes it.

    Raises:
        InputError: if the template refuses it.
    """
    shared = [f"Both begin so:\n\n{_text(pair.shared)}"] if pair.shared else []
    parts = [
        f"Problem: {pair.question.text}",
        "Two attempts at it are below: the first comes to a wrong answer, the second to the right one.",
        *shared,
        f"The wrong attempt {'goes on' if shared else 'says'}:\n\n{_text(pair.wrong)}",
        f"The right attempt {'goes on' if shared else 'says'}:\n\n{_text(pair.right)}",
        "Your task: Say in one or two sentences which step of the wrong attempt fails and why, as someone who "
        "checks their own work. Do not mention that there is another attempt, and do not solve the problem.",
    ]
    try:
        # Like `PromptPolicy.prompt`: without a preceding thought or a single space.
        return prompter.answer_start([{"role": "user", "content": "\n\n".join(parts)}]).rstrip(" ")
    except InputError as error:
        raise InputError(f"question {pair.question.id}: {error}") from error


def _text(steps: Sequence[Step]) -> str:
    return "\n\n".join(step.text for step in steps)
