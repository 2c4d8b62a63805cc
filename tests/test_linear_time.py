"""No text takes a pattern of the package more than time linear in its length."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import rolewise

PACKAGE = Path(rolewise.__file__).parent
METHODS = {"search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
MADE_AT_RUN_TIME = {
    "rolewise.data.chat_template",
    "rolewise.generator.writer",
    "rolewise.evaluation.suites.bfcl.worker.official",
    "rolewise.search.warmup_data",
}
"""Modules with patterns of escaped text that only a run knows."""


def modules():
    """Each module of the package and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] == "__main__":
            continue
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:  # it runs in an environment of its own
            if str(error.name).startswith("rolewise"):
                raise
            module = ModuleType(name)
            module.re = re
        yield module, ast.parse(path.read_text(encoding="utf-8"))


def held(value, depth=0):
    """The patterns in a module's global: itself, in lists and dictionaries, attributes of classes."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, dict):
        for inner in value.values():
            yield from held(inner, depth + 1)
    elif depth < 3 and isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from held(inner, depth + 1)
    elif isinstance(value, type) and value.__module__.startswith("rolewise"):
        yield from held(dict(vars(value)), depth + 1)


def uses(module, tree):
    """Pairs of a pattern and a method that a module calls on it; None for those that only a run knows."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr in METHODS | {"compile"}):
            continue
        names = [inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name)]
        for name in names:
            for pattern in held(vars(module).get(name)):
                yield pattern, node.attr
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(rf"re\.({'|'.join(METHODS)}|compile)", ast.unparse(node.func)):
            flags = [
                one for one in [*node.args[1:], *(key.value for key in node.keywords)] if "re." in ast.unparse(one)
            ]
            try:
                pattern = re.compile(*(eval(ast.unparse(one), dict(vars(module))) for one in [node.args[0], *flags]))
            except NameError:
                yield None, ""
            else:
                yield pattern, node.func.attr


def package_patterns():
    """`[name, source, flags, method]` of all patterns, and the modules with some that can't be told beforehand."""
    names, methods, unknown = {}, defaultdict(set), set()
    for module, tree in modules():
        for name, value in vars(module).items():
            if not name.startswith("__"):
                for pattern in held(value):
                    names.setdefault(pattern, f"{module.__name__}.{name}")
        known = {pattern for value in vars(module).values() for pattern in held(value)}
        for pattern, method in uses(module, tree):
            if pattern is None:
                unknown |= (
                    set()
                    if any(isinstance(v, dict) and list(held(v)) for v in vars(module).values())
                    else {module.__name__}
                )
                continue
            if pattern not in known:
                names.setdefault(pattern, module.__name__)
            methods[pattern] |= {method} - {"compile"}
    jobs = []
    for pattern, name in names.items():
        kinds = {method if method in ("match", "fullmatch") else "finditer" for method in methods[pattern]}
        kinds = kinds or {"finditer"}
        for kind in sorted(kinds - ({"match"} if "finditer" in kinds else set())):
            jobs.append([name, pattern.pattern, pattern.flags, kind])
    return jobs, unknown


def slow_ones(jobs, patience):
    """Names and texts of patterns that took more than 2 s, or were not done when the whole took too long."""
    worker = Path(__file__).with_name("hostile_texts.py")
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    try:
        done = subprocess.run(
            [sys.executable, str(worker)], input=lines, capture_output=True, text=True, timeout=patience, check=True
        ).stdout
    except subprocess.TimeoutExpired as error:
        done = (error.stdout or b"").decode()
    said = [json.loads(line) for line in done.splitlines()]
    hung = [said[-1]] if said and isinstance(said[-1], str) else []
    return hung + [one for one in said if not isinstance(one, str) and one[2] > 2]


def test_every_pattern_takes_linear_time():
    jobs, unknown = package_patterns()
    assert len(jobs) > 100
    assert unknown <= MADE_AT_RUN_TIME, "say what a pattern that is made at run time may hold"
    assert slow_ones(jobs, patience=180) == []


def test_slow_patterns_are_found():
    assert slow_ones([["fast", r"a+", 0, "finditer"]], patience=20) == []
    assert slow_ones([["square", r"\s+$", 0, "finditer"]], patience=3) == ["square"]
    assert slow_ones([["cube", r"a.*b.*c.*d", re.DOTALL, "finditer"]], patience=3) == ["cube"]
