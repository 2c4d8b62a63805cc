"""Llama 3's calls: bare JSON objects, separated by `;`, with or without `<|python_tag|>` before them."""

import json
import re
from collections.abc import Sequence

from rolewise.data.tool_calls.json_calls import read_calls
from rolewise.data.tool_calls.json_scan import skip_space
from rolewise.data.tool_calls.parsed import ParsedCall, ResponseBuilder
from rolewise.data.tool_calls.python_literals import PYTHON

_START = re.compile(r"(?P<marker><\|python_tag\|>)|^[ \t]*(?=[{\[])", re.MULTILINE)


def parse_llama3(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read objects with a name and `parameters` or `arguments` that begin a line or follow the marker; also arrays."""
    while start := _START.search(text, position):
        position = start.end()
        if start["marker"]:
            builder.add("tag", *start.span())
            if not text.startswith(("{", "["), skip_space(text, position)):
                continue  # code for one of Llama's built-in tools
        position = max(position + 1, read_calls(text, position, builder, trusted=bool(start["marker"])))


def write_llama3(calls: Sequence[ParsedCall]) -> str:
    """Write the objects, separated by `; `."""
    return "; ".join(
        json.dumps({"name": call.name, "parameters": call.arguments}, ensure_ascii=False) for call in calls
    )


def parse_seal_tools(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read Seal-Tools' list of Python dicts, `[{'api': …, 'parameters': {…}, 'responses': […]}]`."""
    while start := _START.search(text, position):
        position = start.end()
        if not start["marker"]:
            position = max(position + 1, read_calls(text, position, builder, trusted=False, notation=PYTHON))


def write_seal_tools(calls: Sequence[ParsedCall]) -> str:
    """Write the list, with responses numbered as in Seal-Tools (arXiv 2405.08355): one per call."""
    entries = [
        {"api": call.name, "parameters": call.arguments, "responses": [f"API_call_{number}"]}
        for number, call in enumerate(calls)
    ]
    return repr(entries)
