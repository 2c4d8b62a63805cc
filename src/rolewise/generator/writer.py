"""Write an assistant turn and the role of every piece of it."""

import json
import re
from collections.abc import Mapping

from rolewise.core.role import Role
from rolewise.data.conversation import RoleSpan
from rolewise.generator.arguments import OPERATORS, Value


class RoleWriter:
    """Builder of text and spans together, so that they can't drift apart.

    A space belongs to the text after it, as in byte-pair tokens: a piece that ends in a space passes it to the next.
    """

    def __init__(self, earlier_output: str) -> None:
        """Begin a turn; repetitions of `earlier_output`, the text of the assistant turns so far, are copies."""
        self._earlier = earlier_output
        self._text = ""
        self._space = ""
        self._spans: list[RoleSpan] = []

    def write(self, text: str, role: Role, *, keep_space: bool = False) -> None:
        """Append `text` in `role`; a space at its end goes to the next piece unless `keep_space`."""
        text, self._space = self._space + text, ""
        if text.endswith(" ") and not keep_space:
            text, self._space = text[:-1], " "
        if not text:
            return
        start = len(self._text)
        self._text += text
        if self._spans and self._spans[-1].role == role:
            start = self._spans.pop().start
        self._spans.append(RoleSpan(start, len(self._text), role))

    def worked_out(self, text: str) -> None:
        """Append text that follows from the input: reasoning the first time the assistant writes it, later a copy."""
        said = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", f"{self._earlier}\n{self._text}")
        self.write(text, Role.TEMPLATE if said else Role.REASONING)

    def phrase(self, pattern: str, value: Value | None = None, **fields: str) -> None:
        """Append a stock phrase; `value` fills `{key}`, `{value}`, `{given}` and `{working}`, `fields` the others."""
        for piece in re.split(r"(\{\w+\})", pattern):
            if not piece.startswith("{"):
                self.write(piece, Role.TEMPLATE)
            elif piece == "{working}" and value:
                self._working(value)
            elif value and piece in ("{key}", "{value}", "{given}"):
                self.worked_out({"{key}": value.key, "{value}": value.text, "{given}": value.given[0]}[piece])
            else:
                self.worked_out(fields[piece[1:-1]])

    def _working(self, value: Value) -> None:
        for number, atom in enumerate(value.working):
            if number:
                self.write(" ", Role.REASONING)
            if atom in OPERATORS:
                self.write(atom, Role.REASONING)
            else:
                self.worked_out(atom)

    def arguments(self, arguments: Mapping[str, str | int | bool], separator: str | None = None) -> None:
        """Append a JSON object in `json.dumps`'s default layout, or `key = value` pairs between separators."""
        if separator is not None:
            for number, (key, value) in enumerate(arguments.items()):
                self.write(separator if number else "", Role.FORMAT)
                self.worked_out(key)
                self.write(" = ", Role.FORMAT)
                self.worked_out(value if isinstance(value, str) else json.dumps(value))
            return
        self.write("{", Role.FORMAT)
        for number, (key, value) in enumerate(arguments.items()):
            self.write(', "' if number else '"', Role.FORMAT)
            self.worked_out(key)
            quote = '"' if isinstance(value, str) else ""
            # JSON's own space is layout, even before a number: tokenizers separate it from digits.
            self.write('": ' + quote, Role.FORMAT, keep_space=True)
            self.worked_out(value if isinstance(value, str) else json.dumps(value))
            self.write(quote, Role.FORMAT)
        self.write("}", Role.FORMAT)

    def finish(self) -> tuple[str, list[RoleSpan]]:
        """Return the turn's text and its spans, which cover every character of it."""
        return self._text, self._spans
