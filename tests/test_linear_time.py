"""No text takes our patterns and parsers more than time linear in its length."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rolewise

PACKAGE = Path(rolewise.__file__).parent
FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
METHODS = FUNCTIONS - {"compile"}

def modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:  # runs in an environment of its own
            assert not str(error.name).startswith("rolewise"), error
            module = ModuleType(name)
            module.re = re
        yield module, ast.parse(path.read_text(encoding="utf-8"))


def held_patterns(value: Any, depth: int = 0) -> Iterator["re.Pattern[Any]"]:
    """The patterns in a module's global: itself, in lists, dictionaries, attributes of classes."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, dict):
        for inner in value.values():
            yield from held_patterns(inner, depth + 1)
    elif depth < 3 and isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from held_patterns(inner, depth + 1)
    elif isinstance(value, type) and value.__module__.startswith("rolewise"):
        yield from held_patterns(dict(vars(value)), depth + 1)


def package_patterns():
    """Every pattern of the package with the methods that are called, and what could not be found out."""
    names: dict[re.Pattern[Any], str] = {}
    methods: dict[re.Pattern[Any], set[str]] = defaultdict(set)
    unknown = []
    for module, tree in modules():
        for name, value in vars(module).items():
            if name.startswith("__"):
                continue
            for pattern in held_patterns(value):
                names.setdefault(pattern, f"{module.__name__}.{name}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            if isinstance(node.value, ast.Name) and node.value.id == "re":
                continue
            if node.attr in METHODS:
                for inner in ast.walk(node.value):
                    if isinstance(inner, ast.Name):
                        for pattern in held_patterns(vars(module).get(inner.id)):
                            methods[pattern].add(node.attr)
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("re", "regex")):
                continue
            if node.func.attr not in FUNCTIONS:
                continue
            flags = [a for a in node.args[1:] if "re." in ast.unparse(a)] + [k.value for k in node.keywords if k.arg == "flags"]
            try:
                pattern = re.compile(*[eval(ast.unparse(p), dict(vars(module))) for p in [node.args[0], *flags]])
            except NameError:
                unknown.append(f"{module.__name__}:{node.lineno} {ast.unparse(node)}")
                continue
            names.setdefault(pattern, f"{module.__name__}:{node.lineno}")
            if node.func.attr != "compile":
                methods[pattern].add(node.func.attr)
    return names, methods, unknown
