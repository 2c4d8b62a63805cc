"""The two ways to ask a model: by the official prompt, or with tools through its chat template."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rolewise.data.tool_calls import ParsedCall, calls_to_openai, parse_response
from rolewise.evaluation.suite import Messages

Result = str | list[dict[str, str]]
"""An answer as in the official result files: text, or a list of `{function: JSON text of its arguments}`."""

_FIRST_SPECIAL_TOKENS = re.compile(r"(?:\s*(?:<\|[\w.-]+\|>|<s>))*")
_SPECIAL_TOKENS = re.compile(r"(?:(?:<\|[\w.-]+\|>|</s>)\s*+)++")


class Mode(ABC):
    """A way to ask a model and to read its answers.

    Attributes:
        model: name of the mode in the checker's process.
    """

    model: str

    @abstractmethod
    def read(self, text: str) -> tuple[Result, dict[str, Any]]:
        """Return an answer as the official tool would receive it, and the assistant message for it."""

    @abstractmethod
    def results(self, message: dict[str, Any], step: dict[str, Any]) -> Messages:
        """Return the messages that carry results back to the model.

        Args:
            message: assistant message with the calls.
            step: result of its calls in the checker's process.
        """


class PromptMode(Mode):
    """Mode with tools and format in the official system prompt and results in a user message, as for the models that
    the leaderboard asks by prompt through a chat service.
    """

    model = "prompt"

    def read(self, text: str) -> tuple[Result, dict[str, Any]]:
        # Such a service removes special tokens, and thoughts are not part of the answer.
        answer = _without_special_tokens(text.rpartition("</think>")[2])
        return answer, {"role": "assistant", "content": answer}

    def results(self, message: dict[str, Any], step: dict[str, Any]) -> Messages:
        return [{"role": "user", "content": step["message"]}]


class NativeMode(Mode):
    """Mode with tools in the chat template, calls in the model's own format, and results in `tool` messages.

    An answer with a call that can't be parsed counts as text without calls, as on servers.
    """

    model = "native"

    def read(self, text: str) -> tuple[Result, dict[str, Any]]:
        parsed = parse_response(text)
        said = "".join(text[part.start : part.end] for part in parsed.segments if part.kind == "text").strip()
        calls = _result_of(parsed.calls)
        if calls:
            message = {"role": "assistant", "content": said, "tool_calls": calls_to_openai(parsed.calls)}
            return calls, message
        answer = _without_special_tokens(text.rpartition("</think>")[2])
        return answer, {"role": "assistant", "content": answer}

    def results(self, message: dict[str, Any], step: dict[str, Any]) -> Messages:
        names = [call["function"]["name"] for call in message["tool_calls"]]
        return [
            {"role": "tool", "name": name, "content": result}
            for name, result in zip(names, step["results"], strict=True)
        ]


def _result_of(calls: Sequence[ParsedCall]) -> list[dict[str, str]]:
    """Return calls in the official form; empty if one is invalid, or holds values that JSON can't express."""
    if not all(call.valid and call.name is not None for call in calls):
        return []
    try:
        return [{str(call.name): json.dumps(call.arguments, ensure_ascii=False)} for call in calls]
    except (TypeError, ValueError, RecursionError):
        return []


def _without_special_tokens(text: str) -> str:
    """Return a text without leading and trailing special tokens and white space."""
    first = _FIRST_SPECIAL_TOKENS.match(text)
    start = first.end() if first else 0
    runs = _SPECIAL_TOKENS.finditer(text, start)
    end = next((run.start() for run in runs if run.end() == len(text)), len(text))
    return text[start:end].strip()
