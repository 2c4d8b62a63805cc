"""Calls read by a tokenizer's own parser."""

from typing import Any

from rolewise.core.errors import InputError
from rolewise.data.tool_calls.openai import calls_from_openai
from rolewise.data.tool_calls.parsed import ParsedCall


def parse_with_tokenizer(
    tokenizer: Any, text: str, *, prefix: str = "", tools: list[dict[str, Any]] | None = None
) -> list[ParsedCall]:
    """Read the calls of a response with Transformers' parser, which uses the tokenizer's `response_template`.

    Such a parser knows a model's own format, but no character positions: the calls have no spans.

    Args:
        tokenizer: a tokenizer with a `response_template`.
        text: the response, special tokens included.
        prefix: the prompt before it; some templates open the thought there.
        tools: JSON schemas, used by the parser to cast arguments that are written as bare text.

    Returns:
        The calls; one call that is not valid if the parser rejected the response.

    Raises:
        InputError: if the tokenizer has no such template.
    """
    if getattr(tokenizer, "response_template", None) is None:
        raise InputError(
            f"the tokenizer {getattr(tokenizer, 'name_or_path', '')!r} has no response_template; "
            "use parse_response, which knows the common formats"
        )
    try:
        message = tokenizer.parse_response(text, prefix=prefix, tools=tools)
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # broken JSON, a part that the template lacks
        return [ParsedCall(None, None, error=f"the tokenizer's parser rejected the response: {error}")]
    return calls_from_openai(message.get("tool_calls") or [])
