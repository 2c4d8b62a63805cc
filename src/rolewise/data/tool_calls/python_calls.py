"""Calls in Python's notation: `[f(a=1), g("x")]`, or bare on lines of their own."""

import re
from collections.abc import Sequence
from typing import Any

from rolewise.data.tool_calls.json_scan import skip_space
from rolewise.data.tool_calls.parsed import ArgumentSpan, ParsedCall, ResponseBuilder, Segment, Span
from rolewise.data.tool_calls.python_literals import LiteralSyntaxError, read_literal, string_end

# In a list a name may contain spaces and signs as API names do (ToolACE: "Market Trends API"); bare, it is dotted.
_NAME_IN_LIST = re.compile(r"([^\W\d][\w.\-/ ]*)\(")
_BARE_NAME = re.compile(r"([^\W\d][\w.]*)\(")
_START = re.compile(r"^[ \t]*(?:(?P<list>\[\s*)(?=[^\W\d])|(?=[^\W\d][\w.]*\())", re.MULTILINE)
_KEYWORD = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
_BRACKET_OR_STRING = re.compile(r"[\"'(){}\[\],]")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def parse_python(text: str, position: int, builder: ResponseBuilder) -> None:
    """Read the lists of calls, and the bare calls, that begin a line.

    Values are literals (see `read_literal`); a call with any other value is not valid. Arguments without names are
    kept, in order, under "0", "1" and so on; `**{"any name": 1}` is accepted.
    """
    while start := _START.search(text, position):
        position = start.end()
        found = _read_group(text, position, in_list=start["list"] is not None)
        position = max(position + 1, found.end)
        if not found.calls or found.is_prose:
            continue
        if start["list"]:
            opener = text.index("[", start.start())
            builder.add("tag", opener, opener + 1)
        for call, pieces in found.calls:
            builder.add_call(call, pieces)
        if found.closed_list:
            builder.add("tag", found.end - 1, found.end)


def write_python(calls: Sequence[ParsedCall]) -> str:
    """Write a list of calls; arguments under "0", "1", … at the beginning are written without their names."""
    return f"[{', '.join(f'{call.name}({_written_arguments(call.arguments or {})})' for call in calls)}]"


class _Group:
    """Calls in sequence."""

    def __init__(self) -> None:
        self.calls: list[tuple[ParsedCall, list[Segment]]] = []
        self.end = 0
        self.closed_list = False
        self.is_prose = False
        """True if text after the calls shows that they are not calls."""


def _written_arguments(arguments: dict[str, Any]) -> str:
    parts: list[str] = []
    positional = 0
    for name, value in arguments.items():
        if name == str(positional) == str(len(parts)):
            parts.append(repr(value))
            positional += 1
        elif _KEYWORD.fullmatch(f"{name}=") and name == name.strip():
            parts.append(f"{name}={value!r}")
        else:
            parts.append(f"**{{{name!r}: {value!r}}}")
    return ", ".join(parts)


def _read_group(text: str, position: int, *, in_list: bool) -> _Group:
    group = _Group()
    while name := (_NAME_IN_LIST if in_list else _BARE_NAME).match(text, position):
        call, pieces, closed = _read_call(text, name)
        group.calls.append((call, pieces))
        assert call.span is not None
        group.end = call.span[1]
        if not closed:
            return group
        after = skip_space(text, group.end)
        if text.startswith((",", ";"), after):
            position = skip_space(text, after + 1)
            continue
        if in_list and text.startswith("]", after):
            group.end, group.closed_list = after + 1, True
        elif in_list:
            group.is_prose = after < len(text)
        else:
            group.is_prose = after < len(text) and "\n" not in text[group.end : after]
        return group
    group.end = max(group.end, position)
    # A list that continues with something else, as `[f(x), see below]`, holds no calls; a truncated one does.
    group.is_prose = position < len(text) and in_list
    return group


class _ArgumentReader:
    """Reader of the arguments of one call, from its opening bracket on."""

    def __init__(self, text: str, opening: int) -> None:
        self.values: dict[str, Any] = {}
        self.spans: list[ArgumentSpan] = []
        self.error: str | None = None
        self.closed = False
        self._text = text
        self._positional = 0
        self._may_be_positional = True
        self.end = self._read(skip_space(text, opening + 1))

    def _read(self, position: int) -> int:
        """Read up to the closing bracket; return its end, or the end of the readable part."""
        text = self._text
        while not text.startswith(")", position):
            end = self._argument(position)
            position = skip_space(text, end)
            if text.startswith(",", position):
                position = skip_space(text, position + 1)
            elif not text.startswith(")", position):
                self._fail("the call is cut short or broken")
                return end
        self.closed = True
        return position + 1

    def _argument(self, position: int) -> int:
        """Read one argument; return the end of its value."""
        text = self._text
        if text.startswith("**", position):
            return self._unpacked(position + 2)
        keyword = _KEYWORD.match(text, position)
        start = skip_space(text, keyword.end()) if keyword else position
        try:
            value, end = read_literal(text, start)
            if not text.startswith((",", ")"), skip_space(text, end)):
                raise LiteralSyntaxError("not a literal")
        except LiteralSyntaxError as error:
            value, end = None, _value_end(text, start)
            self._fail(str(error) if end > start else "an argument has no value")
        if keyword:
            self._may_be_positional = False
            self._keep(keyword[1], value, keyword.span(1), (start, end))
        else:
            if not self._may_be_positional:
                self._fail("an argument without a name follows one with a name")
            self._keep(str(self._positional), value, None, (start, end))
            self._positional += 1
        return end

    def _unpacked(self, start: int) -> int:
        self._may_be_positional = False
        try:
            value, end = read_literal(self._text, start)
            if not isinstance(value, dict):
                raise LiteralSyntaxError("only a dict can be unpacked")
        except LiteralSyntaxError as error:
            end = _value_end(self._text, start)
            self._fail(str(error))
            self.spans.append(ArgumentSpan("**", None, (start, end)))
            return end
        for name, item in value.items():
            self._keep(name, item, None, None)
        self.spans.append(ArgumentSpan("**", None, (start, end)))
        return end

    def _keep(self, name: str, value: Any, name_span: Span | None, value_span: Span | None) -> None:
        if name in self.values:
            self._fail(f"the argument {name!r} is given twice")
        self.values[name] = value
        if value_span:
            if value_span[1] - value_span[0] > 1 and self._text[value_span[0]] in "\"'" and self._is_string(value_span):
                value_span = value_span[0] + 1, value_span[1] - 1
            self.spans.append(ArgumentSpan(name, name_span, value_span))

    def _is_string(self, span: Span) -> bool:
        """Return True if the value is one string with a single quote on each side, so that its quotes can be cut."""
        start, end = span
        return string_end(self._text, start) == (end, True) and not self._text.startswith(self._text[start] * 3, start)

    def _fail(self, error: str) -> None:
        self.error = self.error or error


def _read_call(text: str, name: re.Match[str]) -> tuple[ParsedCall, list[Segment], bool]:
    """Read the call that `name` opens; return the call, its pieces, and True if its bracket is closed."""
    written = name[1].rstrip()
    name_span = name.start(1), name.start(1) + len(written)
    opening = name.end() - 1
    arguments = _ArgumentReader(text, opening)
    call = ParsedCall(
        name=written,
        arguments=arguments.values if arguments.error is None else None,
        span=(name.start(1), arguments.end),
        name_span=name_span,
        arguments_span=(opening, arguments.end),
        argument_spans=tuple(arguments.spans),
        error=arguments.error,
    )
    pieces = [Segment("name", *name_span)]
    for argument in arguments.spans:
        if argument.name_span:
            pieces.append(Segment("argument_name", *argument.name_span))
        if argument.value_span[0] < argument.value_span[1]:
            pieces.append(Segment("argument_value", *argument.value_span))
    return call, pieces, arguments.closed


def _value_end(text: str, position: int) -> int:
    """Return the end of an argument that is not a literal: the next comma or bracket, or the first wrong bracket."""
    closers: list[str] = []
    while match := _BRACKET_OR_STRING.search(text, position):
        char = match[0]
        if char in "\"'":
            position, closed = string_end(text, match.start())
            if not closed:
                return position
            continue
        if char in _PAIRS:
            closers.append(_PAIRS[char])
        elif not closers or (char != "," and closers.pop() != char):
            return match.start()
        position = match.end()
    return len(text)
