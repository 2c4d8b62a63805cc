"""Tool calls in a model's response, in the common formats: read with the position of every part, and written."""

from rolewise.data.tool_calls.call_formats import (
    CALL_FORMATS,
    opened_thought,
    parse_response,
    recognise_format,
    write_calls,
)
from rolewise.data.tool_calls.openai import calls_from_openai, calls_to_openai
from rolewise.data.tool_calls.parsed import ArgumentSpan, ParsedCall, ParsedResponse, Segment
from rolewise.data.tool_calls.tokenizer import parse_with_tokenizer

__all__ = [
    "CALL_FORMATS",
    "ArgumentSpan",
    "ParsedCall",
    "ParsedResponse",
    "Segment",
    "calls_from_openai",
    "calls_to_openai",
    "opened_thought",
    "parse_response",
    "parse_with_tokenizer",
    "recognise_format",
    "write_calls",
]
