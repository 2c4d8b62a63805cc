"""Every pattern of the package, and whatever takes model output apart, is linear in hostile text."""

import ast
import importlib
import pkgutil
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rolewise

SMALL, LARGE = 25_000, 100_000
SURELY_LINEAR = 0.15
"""Seconds of CPU time below which a hundred thousand characters raise no doubt, even on a slow machine."""
TOO_LONG = 5.0
GROWTH = 9.0
"""Four times the text: linear takes 4 times as long, quadratic 16."""
SOURCE = Path(rolewise.__file__).parent
FUNCTIONS = ("compile", "search", "match", "fullmatch", "sub", "split", "findall", "finditer")


def _patterns() -> dict[str, re.Pattern[str]]:
    """Compiled patterns of all modules by place, and those that are written out where they are used."""
    found: dict[str, re.Pattern[str]] = {}
    for info in pkgutil.walk_packages(rolewise.__path__, "rolewise."):
        if info.name.endswith("__main__") or ".worker" in info.name:
            continue
        module = importlib.import_module(info.name)
        for value in list(vars(module).values()):
            for pattern in value.values() if isinstance(value, dict) else [value]:
                if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
                    found.setdefault(f"{pattern.pattern}{pattern.flags}", pattern)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_re = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_re and isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.args:
                first = node.args[0]
                if node.func.attr in FUNCTIONS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    flags = _flags(node)
                    pattern = re.compile(first.value, flags)
                    found.setdefault(f"{pattern.pattern}{pattern.flags}", pattern)
    return {pattern.pattern: pattern for pattern in found.values()}


def _flags(call: ast.Call) -> int:
    """The flags that a call of `re` names."""
    given = [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "flags")]
    named = (node.attr for argument in given for node in ast.walk(argument) if isinstance(node, ast.Attribute))
    return sum({int(getattr(re, name)) for name in named if isinstance(getattr(re, name, None), re.RegexFlag)})


def _pieces(pattern: str) -> list[str]:
    """What texts are made of: the pattern's own words and signs, and what repeats are fond of."""
    plain = re.sub(r"\\[AbBdDsSwWZ]|\(\?P<\w+>|\(\?[:=!<]+", " ", pattern).replace("\\n", "\n").replace("\\", "")
    own = re.findall(r"[\w</>|#]+[:=(\[{\"']?|[^\w\s]", plain)
    return list(dict.fromkeys([*own[:24], " ", "\n", "a", "1", '"', "'", "[", "{", "(", "<", ".", ",", "\\"]))


def _texts(pattern: str) -> Iterator[Callable[[int], str]]:
    """Texts by their length: each piece over and over, pairs of them, the pattern's words in order, and endings."""
    pieces = _pieces(pattern)
    chooser = random.Random(0)
    literal = re.sub(r"\(\?P?<?\w*>?:?|[()?*+^$]|\\[AZbdDsSwW]", "", pattern).replace("\\n", "\n").replace("\\", "")
    pairs = [left + right for left in pieces for right in pieces]
    for piece in [*pieces, literal, literal[: len(literal) // 2], *chooser.sample(pairs, min(40, len(pairs)))]:
        if piece:
            yield lambda length, piece=piece: (piece * (length // len(piece) + 1))[:length]
    for start in [literal, *pieces[:8]]:
        for filler in (" ", "\n", "a", "1", "\\", "1,", "a ", "]\n", "\n ", "a-"):
            yield lambda length, start=start, filler=filler: (
                start + (filler * (length // len(filler) + 1))[: length - len(start) - 1] + "!"
            )


def _uses(pattern: re.Pattern[str]) -> dict[str, Callable[[str], object]]:
    return {
        "search": pattern.search,
        "finditer": lambda text: sum(1 for _ in pattern.finditer(text)),
        "fullmatch": pattern.fullmatch,
        "sub": lambda text: pattern.sub("", text),
    }


def _seconds(use: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    use(text)
    return time.process_time() - start


def slower_than_linear(use: Callable[[str], object], make: Callable[[int], str]) -> str:
    """Why a use is not linear; empty if it is. Small texts first, so that what is cubic does not hold up the test."""
    for length in (500, 2_000, 8_000):
        if _seconds(use, make(length)) > 1.0:
            return f"over a second for {length} characters"
    large = _seconds(use, make(LARGE))
    if large < SURELY_LINEAR:
        return ""
    # A hiccup of the machine must not count: the best of three.
    small = min(_seconds(use, make(SMALL)) for _ in range(3))
    large = min(large, *(_seconds(use, make(LARGE)) for _ in range(2)))
    if large > TOO_LONG or (large > SURELY_LINEAR and large > GROWTH * max(small, 0.002)):
        return f"{small:.3f} s for {SMALL} characters, {large:.3f} s for {LARGE}"
    return ""


PATTERNS = _patterns()


def test_the_walk_finds_the_patterns() -> None:
    """A pattern that the walk missed would be tried by nobody."""
    assert len(PATTERNS) > 70
    written = sum(path.read_text(encoding="utf-8").count("re.compile(") for path in SOURCE.rglob("*.py"))
    assert len(PATTERNS) > 0.8 * written


@pytest.mark.parametrize("pattern", sorted(PATTERNS), ids=range(len(PATTERNS)))
def test_pattern_is_linear(pattern: str) -> None:
    for make in _texts(pattern):
        for name, use in _uses(PATTERNS[pattern]).items():
            reason = slower_than_linear(use, make)
            assert not reason, f"{pattern!r}.{name} on {make(40)!r}…: {reason}"


def test_the_measure_tells_slow_patterns() -> None:
    slow = re.compile(r'\napi = (\[.*\])\ntask = "(.*)"\n', re.DOTALL)
    assert slower_than_linear(slow.search, lambda length: ("\napi = [" + "]\ntask = " * length)[:length])
    assert slower_than_linear(re.compile(r"\s+$").search, lambda length: " " * (length - 1) + "x")
