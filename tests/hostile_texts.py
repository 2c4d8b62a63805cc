"""Texts that are hard for a regular expression, made of its own parts, and a process that tries them.

    python tests/hostile_texts.py < PATTERNS

reads lines `[name, source, flags, method]` of JSON and prints for each `[name, text, seconds]`: its slowest text, as
far as found, and the time that it took at `LENGTH` characters. Each name is printed before it is tried, since a search
in `re` can't be interrupted: who started the process ends it, and knows what it was at.
"""

import itertools
import json
import re
import sys
import time
from collections.abc import Iterator

LENGTH = 100_000
_FIRST_LENGTH = 1_500  # here something quadratic takes some 10 ms, something linear some 10 µs
_TOO_SLOW = 2.0
_ATOMS = 12

_PART = re.compile(
    r"(?P<opens>\((?:\?(?:P<\w+>|<?[=!]|[:>]|[a-z]+\)?))?)|(?P<closes>\))|(?P<bar>\|)|(?P<repeats>(?:[*+?]|\{\d*,?\d*\})[+?]?)"
    r"|(?P<of>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<escape>\\(?:x..|u....|.))|(?P<plain>.)",
    re.DOTALL,
)
_KINDS = {"w": "a", "W": "-", "d": "0", "D": "a", "s": " ", "S": "a", "b": "", "B": "", "A": "", "Z": ""}
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}


def hostile_texts(source: str, length: int) -> Iterator[str]:
    """Texts about so long: what a pattern begins with, without its end, once or over and over; and its parts mixed."""
    beginnings, atoms = _pieces(source)
    fillers = [*atoms[:_ATOMS], "a", " ", "\n", "0"]
    units = [*beginnings, *fillers, *map("".join, itertools.permutations(atoms[:_ATOMS], 2))]
    for unit in dict.fromkeys(units):
        yield _repeated(unit, length)
    for unit, filler in itertools.product(dict.fromkeys([*beginnings, *atoms[:_ATOMS]]), dict.fromkeys(fillers)):
        run = unit + _repeated(filler, length)
        yield run
        yield run + unit
        yield run + "\x00"
        yield _repeated(unit, length // 2) + _repeated(filler, length // 2)


def _repeated(unit: str, length: int) -> str:
    return unit * (length // len(unit)) if unit else ""


def _pieces(source: str) -> tuple[list[str], list[str]]:
    """What a text that matches may begin with, shorter and longer, as the first branches have it; and literal parts."""
    beginnings, atoms = [""], [""]
    skipped: list[bool] = [False]
    for part in _PART.finditer(source):
        if part["opens"]:
            atoms.append("")
            if not part["opens"].endswith((")",)):
                skipped.append(skipped[-1] or part["opens"].endswith("!"))
        elif part["closes"]:
            atoms.append("")
            skipped[1:] = skipped[1:-1]
        elif part["bar"]:
            atoms.append("")
            skipped[-1] = True
        elif not part["repeats"]:
            written, others = _characters(part)
            atoms[-1] += written if not others and written else ""
            atoms += [*others, ""] if others else []
            if written and not skipped[-1]:
                beginnings.append(beginnings[-1] + written)
    return list(dict.fromkeys(filter(None, beginnings))), list(dict.fromkeys(filter(None, atoms)))


def _characters(part: "re.Match[str]") -> tuple[str, list[str]]:
    """A character that a part of a pattern matches, and, of a class, characters of both sides of its border."""
    if part["plain"]:
        plain = {".": "a", "^": "", "$": ""}.get(part["plain"], part["plain"])
        return plain, [plain] if part["plain"] == "." else []
    if part["escape"]:
        return _escaped(part["escape"]), [_escaped(part["escape"])] if part["escape"][1] in "wWdDsS" else []
    inner = part["of"][1:-1]
    negated = inner.startswith("^")
    named = [
        _escaped(found) if found.startswith("\\") else found for found in re.findall(r"\\x..|\\u....|\\.|[^\\]", inner)
    ]
    named = [one for one in named[negated:] if one][:6]
    if not negated:
        return named[0] if named else "", named
    return next(one for one in "a0 -\n" if one not in named), named


def _escaped(escape: str) -> str:
    if escape[1] in "xu" and len(escape) > 2:
        return chr(int(escape[2:], 16))
    return _KINDS.get(escape[1], _NAMED.get(escape[1], escape[1]))


def _seconds(pattern: "re.Pattern[str]", method: str, text: str) -> float:
    start = time.process_time()
    if method == "finditer":
        for _ in pattern.finditer(text):
            pass
    else:
        getattr(pattern, method)(text)
    return time.process_time() - start


def main() -> None:
    for line in sys.stdin:
        name, source, flags, method = json.loads(line)
        print(json.dumps(name), flush=True)
        pattern = re.compile(source, flags)
        timed = [
            (_seconds(pattern, method, text), number)
            for number, text in enumerate(hostile_texts(source, _FIRST_LENGTH))
        ]
        slowest = [number for _, number in sorted(timed, reverse=True)[:3]]
        worst = (0.0, "")
        for number in slowest:
            text = next(itertools.islice(hostile_texts(source, LENGTH), number, None))
            worst = max(worst, (_seconds(pattern, method, text), text[:60]))
            if worst[0] > _TOO_SLOW:
                break
        print(json.dumps([name, worst[1], worst[0]]), flush=True)


if __name__ == "__main__":
    main()
