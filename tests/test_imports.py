"""Imports run one way, down the floors and never in a circle; and asking for help loads nothing heavy."""

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "rolewise"

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

# A module imports from its own floor or below. The table in CONTRIBUTING.md says which folder is on which.
FLOORS = {
    folder: int(floor)
    for floor, folders in re.findall(r"^\| (\d+) \| ([^|]+) \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    for folder in re.findall(r"`(\w+)`", folders)
}

# `rolewise/__init__.py` gathers the public names from every floor, so what the package needs must not come from there.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
FACADE_MAY_GIVE = {"__version__"}


def package_imports(source, package):
    """The parts of `rolewise` that a module's source imports, anywhere in it, with the line of each.

    Args:
        source: the module's text.
        package: the package it lies in, e.g. `rolewise.data`; relative imports start there.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "rolewise" else [origin]
        else:
            continue
        for name in names:
            if name == "rolewise":
                yield node.lineno, ""
            elif name.startswith("rolewise."):
                yield node.lineno, name.split(".")[1]


def broken_rules(source, package):
    """What a module imports that it must not, as lines for people."""
    own_floor = FLOORS[package.split(".")[1]]
    for line, part in package_imports(source, package):
        if part in FACADE_MAY_GIVE:
            continue
        if part not in FLOORS:
            yield f"line {line} imports {part or 'rolewise'!r}, which is on no floor"
        elif FLOORS[part] > own_floor:
            yield f"line {line} imports rolewise.{part} (floor {FLOORS[part]}) from floor {own_floor}"


def test_every_folder_has_a_floor():
    assert MODULES, f"no modules under {PACKAGE}"
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert folders == FLOORS.keys(), "the table of floors in CONTRIBUTING.md and the folders differ"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_the_floors(path):
    package = ".".join(["rolewise", *path.relative_to(PACKAGE).parts[:-1]])
    assert list(broken_rules(path.read_text(encoding="utf-8"), package)) == []


def imported_modules(path):
    """The modules of the package that a module imports, the facade left out; a name's own module before its package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
        else:
            continue
        for candidates in names:
            yield from [name for name in candidates if name in PATHS][:1]


PATHS = {
    ".".join(("rolewise", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in MODULES
}


@pytest.mark.parametrize("parts", [None, 2], ids=["modules", "folders"])
def test_imports_make_no_circle(parts):
    graph = {}
    for name, path in PATHS.items():
        node = ".".join(name.split(".")[:parts])
        imported = {".".join(other.split(".")[:parts]) for other in imported_modules(path)}
        graph.setdefault(node, set()).update(imported - {node})
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize(
    "source",
    [
        "from rolewise.training.sft import f",
        "import rolewise.cli.main",
        "def f():\n    from rolewise.labelling import shad",
        "from rolewise import training",
        "from rolewise import SHAD",
        "import rolewise",
        "from ..training import sft",
        "from .. import training",
    ],
)
def test_the_rule_sees_an_import_from_above(source):
    assert list(broken_rules(source, "rolewise.data"))


@pytest.mark.parametrize(
    "source",
    [
        "from rolewise.core.role import Role",
        "from rolewise.data.spans import project",
        "from rolewise import __version__",
        "from .spans import project",
        "from . import spans",
        "from ..core import role",
        "import torch",
    ],
)
def test_the_rule_lets_others_pass(source):
    assert list(broken_rules(source, "rolewise.data")) == []


@pytest.mark.parametrize("module", ["rolewise", "rolewise.cli.main"])
def test_help_is_quick_because_nothing_heavy_is_loaded(module):
    if module.endswith("cli.main") and not (PACKAGE / "cli" / "main.py").exists():
        pytest.skip("no command line yet")
    heavy = ("torch", "transformers", "trl", "datasets", "matplotlib", "scipy")
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == []


def test_commands_that_ask_a_model_load_neither_data_sets_nor_trainers():
    modules = ("cli.console", "jobs.search", "jobs.evaluate")
    heavy = ("datasets", "pandas", "trl", "matplotlib")
    code = f"""if True:
        import importlib, sys
        for name in {modules!r}:
            importlib.import_module("rolewise." + name)
        sys.modules["rolewise.cli.console"].quieten_libraries()
        print(*[name for name in {heavy!r} if name in sys.modules])
        import datasets
        print(datasets.are_progress_bars_disabled())"""
    environment = {k: v for k, v in os.environ.items() if k != "HF_DATASETS_DISABLE_PROGRESS_BARS"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600, env=environment
    )
    assert result.stdout.split("\n") == ["", "True", ""]
