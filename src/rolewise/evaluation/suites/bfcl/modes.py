"""The two ways to ask a model: the official prompt, or tools through its chat template."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rolewise.data.tool_calls import ParsedCall, calls_to_openai, parse_response
from rolewise.evaluation.suite import Messages

Result = str | list[dict[str, str]]
"""An answer as the official result files have it: text, or a list of `{function: JSON text of its arguments}`."""

_FIRST_SPECIAL_TOKENS = re.compile(r"(?:\s*(?:<\|[\w.-]+\|>|<s>))*")
_SPECIAL_TOKENS = re.compile(r"(?:(?:<\|[\w.-]+\|>|</s>)\s*+)++")


class Mode(ABC):
    """How a model is asked, and its answers are read.

    Attributes:
        model: what the checker's process calls it.
    """

    model: str

    @abstractmethod
    def read(self, text: str) -> tuple[Result, dict[str, Any]]:
        """An answer as the official tool would have got it, and the assistant message that stands for it."""

    @abstractmethod
    def results(self, message: dict[str, Any], step: dict[str, Any]) -> Messages:
        """The messages with which results go back.

        Args:
            message: the assistant message that called.
            step: what the checker's process made of its calls.
        """


class PromptMode(Mode):
    """Tools and format stand in the official system prompt; results go back in a user message, as to the models that
    the leaderboard asks by prompt through a chat service.
    """

    model = "prompt"

    def read(self, text: str) -> tuple[Result, dict[str, Any]]:
        # Special tokens don't come through such a service, and thoughts are no part of the answer.
        answer = _without_special_tokens(text.rpartition("</think>")[2])
        return answer, {"role": "assistant", "content": answer}

    def results(self, message: dict[str, Any], step: dict[str, Any]) -> Messages:
        return [{"role": "user", "content": step["message"]}]


class NativeMode(Mode):
    """Tools go through the chat template, calls are read in the model's own format, results are `tool` messages.

    An answer with a call that can't be read counts as text without calls, as servers take it.
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
    """Empty if one of them is not valid, or holds what JSON does not."""
    if not all(call.valid and call.name is not None for call in calls):
        return []
    try:
        return [{str(call.name): json.dumps(call.arguments, ensure_ascii=False)} for call in calls]
    except (TypeError, ValueError, RecursionError):
        return []


def _without_special_tokens(text: str) -> str:
    """A text without the special tokens, and the white space, that it begins and ends with."""
    first = _FIRST_SPECIAL_TOKENS.match(text)
    start = first.end() if first else 0
    runs = _SPECIAL_TOKENS.finditer(text, start)
    end = next((run.start() for run in runs if run.end() == len(text)), len(text))
    return text[start:end].strip()
