"""Play BFCL's tasks and keep the data for the official tool's result files."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.core.errors import InputError
from rolewise.core.files import write_text
from rolewise.evaluation.accuracy import Score
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import Answer, Ask, Messages, Play, Suite, SuiteSettings
from rolewise.evaluation.suites.bfcl import scores
from rolewise.evaluation.suites.bfcl.categories import MULTI_TURN, OTHER_LANGUAGES, chosen_categories, official_folder
from rolewise.evaluation.suites.bfcl.checker import CheckFailed, OfficialChecker
from rolewise.evaluation.suites.bfcl.modes import Mode, NativeMode, PromptMode, Result
from rolewise.evaluation.suites.bfcl.package import CHECKER, PARSERS, read_pins, unpacked_packages

MAX_NEW_TOKENS = 4096
"""The official tool's limit for models that it runs itself."""
MAX_CHARACTERS = 100_000
"""Longer answers count as wrong without being parsed: 4,096 tokens can't produce them, and Python's parser may crash
on them."""
RESULTS_OF = "rolewise"
"""Name of the model in the folder of official results."""


def make(name: str, settings: SuiteSettings) -> "Bfcl":
    """Create the suite `bfcl`, or parts of it as in `bfcl:live+multi_turn_base`.

    Raises:
        InputError: for an unknown part.
    """
    return Bfcl(name, settings)


class Bfcl(Suite):
    """The Berkeley Function-Calling Leaderboard, version 4 without its agentic categories.

    A task for which the engine gives no answer is wrong; the official tool counts it as right if no call was expected.
    """

    def __init__(self, name: str, settings: SuiteSettings) -> None:
        self.name = name
        self.title = "BFCL v4" + (f" ({name.partition(':')[2]})" if ":" in name else "")
        self._categories = chosen_categories(name)
        self._settings = settings
        self._mode: Mode = NativeMode() if settings.native_tools else PromptMode()
        self._official: OfficialChecker | None = None
        self._examples: list[Example] = []
        self._plays = itertools.count()

    @property
    def checker(self) -> OfficialChecker:
        """The official checker, fetched if necessary and started at its first request.

        Raises:
            InputError: if it can't be obtained.
        """
        if self._official is None:
            parsers = PARSERS if set(self._categories) & set(OTHER_LANGUAGES) else ()
            self._official = OfficialChecker(unpacked_packages([CHECKER, *parsers], self._settings.cache))
        return self._official

    def examples(self) -> Sequence[Example]:
        if not self._examples:
            self._examples = [
                Example(id, category, None)
                for category in self._categories
                for id in self._official_data("ids", category=category)
            ]
        return self._examples

    def play(self, example: Example) -> Play:
        question = self._official_data("question", id=example.id, model=self._mode.model)
        try:
            if example.category in MULTI_TURN:
                result: Any = yield from self._play_turns(example, question)
            else:
                messages, tools = question["turns"][0], question["tools"][0]
                answer = yield Ask(messages=messages, tools=tools or None, max_new_tokens=MAX_NEW_TOKENS)
                result, _ = self._read(answer)
        except _Unjudged as end:
            return _wrong(end.kind, str(end), end.result)
        try:
            judged = self.checker.request("verdict", id=example.id, model=self._mode.model, answer=result)
        except CheckFailed as error:
            return _wrong("rolewise:no_verdict", str(error), result)
        if judged["valid"]:
            return Verdict(1.0, "", {"result": result})
        return _wrong(judged["type"], judged["message"], result)

    def _play_turns(self, example: Example, question: dict[str, Any]) -> Any:
        """Play a task of several turns by the official rules, and return the answers of the steps of each turn.

        A turn continues until an answer has no calls that can be parsed, and the whole play ends after too many steps.
        """
        session = f"play{next(self._plays)}"
        messages: Messages = []
        tools: list[dict[str, Any]] | None = None
        done: list[list[str]] = []
        turns: list[list[Result]] = []
        try:
            for added, new_tools in zip(question["turns"], question["tools"], strict=True):
                messages, tools = [*messages, *added], new_tools or tools
                turns.append([])
                for step_number in itertools.count():
                    if step_number > question["steps"]:
                        return turns
                    answer = yield Ask(messages=messages, tools=tools, max_new_tokens=MAX_NEW_TOKENS)
                    result, message = self._read(answer, turns)
                    turns[-1].append(result)
                    step = self._step(session, example.id, done, result, turns)
                    messages = [*messages, message]
                    if not step["calls"]:
                        break
                    done.append(step["calls"])
                    messages += self._mode.results(message, step)
        finally:
            if self._official is not None:
                self._official.forget(session)
        return turns

    def _step(self, session: str, id: str, done: list[list[str]], result: Result, turns: Any) -> dict[str, Any]:
        try:
            step: dict[str, Any] = self.checker.request(
                "step", session=session, id=id, model=self._mode.model, done=done, answer=result
            )
        except CheckFailed as error:
            raise _Unjudged("rolewise:no_verdict", str(error), turns) from error
        if step["refused"] is not None:
            raise _Unjudged("rolewise:refused_call", step["refused"], turns)
        return step

    def _read(self, answer: Answer, turns: Any = None) -> tuple[Result, dict[str, Any]]:
        if answer.error is not None or not answer.texts:
            reason = answer.error or "the engine gave no answer"
            # The official tool's wording in place of a result.
            raise _Unjudged("rolewise:no_answer", reason, turns or f"Error during inference: {reason}")
        if len(answer.text) > MAX_CHARACTERS:
            reason = f"the answer has {len(answer.text):,} characters; the limit is {MAX_CHARACTERS:,}"
            raise _Unjudged("rolewise:too_long", reason, turns or "")
        return self._mode.read(answer.text)

    def _official_data(self, operation: str, **arguments: Any) -> Any:
        """Run an operation that does not depend on a model's answers."""
        try:
            return self.checker.request(operation, **arguments)
        except CheckFailed as error:
            raise InputError(
                f"BFCL's data in {self._settings.cache} can't be read ({error}); delete the folder "
                f"{CHECKER}-{read_pins()[CHECKER].version} there to fetch it again"
            ) from error

    def version(self) -> dict[str, Any]:
        pins = read_pins()
        return {
            "checker": {name: pins[name].version for name in (CHECKER, *PARSERS)},
            "sha256": min(pins[CHECKER].digests),
            "weighting": scores.WEIGHTING,
            "tools": "in the chat template" if self._settings.native_tools else "in the official prompt",
        }

    def summarise(self, results: Sequence[tuple[Example, Verdict]]) -> list[Score]:
        sizes = dict.fromkeys(self._categories, 0)
        for example in self.examples():
            sizes[example.category] += 1
        return scores.summarise(results, sizes)

    def write_official(self, results: Sequence[tuple[Example, Verdict]], folder: Path) -> None:
        """Write `result/rolewise/GROUP/BFCL_v4_CATEGORY_result.json` as `bfcl generate` does.

        `bfcl evaluate --partial-eval` accepts them after the folder is renamed to a model that it knows and reads in
        the same way: one asked by prompt, or one of OpenAI's with tools.
        """
        lines: dict[str, list[str]] = {}
        for example, verdict in results:
            line = json.dumps({"id": example.id, "result": verdict.detail["result"]}) + "\n"
            lines.setdefault(example.category, []).append(line)
        for category, written in lines.items():
            file = f"BFCL_v4_{category}_result.json"
            write_text(folder / "result" / RESULTS_OF / official_folder(category) / file, "".join(written))

    def close(self) -> None:
        if self._official is not None:
            self._official.close()


class _Unjudged(Exception):
    """A play that ends as wrong before the official checker is asked."""

    def __init__(self, kind: str, reason: str, result: Any) -> None:
        super().__init__(reason)
        self.kind = kind
        self.result = result


def _wrong(kind: str, message: str, result: Any) -> Verdict:
    message = message if len(message) <= 2000 else f"{message[:2000]}…"
    return Verdict(0.0, message, {"error_type": kind, "error": message, "result": result})
