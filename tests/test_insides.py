"""Private names and deep modules of the libraries beneath us are touched in a few modules only, which have tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "rolewise"
MODULES = sorted(PACKAGE.rglob("*.py"))

LIBRARIES = {
    *("transformers", "peft", "torch", "accelerate", "datasets", "trl"),
    *("huggingface_hub", "tokenizers", "urllib3", "httpx", "httpx2", "openai"),
}
ADAPTERS = {
    "core/transformers_insides.py": {"transformers"},
    "core/peft_insides.py": {"peft"},
    "core/torch_insides.py": {"torch"},
    "training/trl_adapter.py": {"trl"},
    "training/trl_grpo_adapter.py": {"trl"},
}
"""Whose insides each of these may touch; `tests/test_NAME.py` is the contract."""

PUBLIC = {
    *("torch.nn", "torch.nn.functional", "torch.distributions", "torch.utils.data", "transformers.utils.logging"),
    *("huggingface_hub.errors", "urllib3.connection", "urllib3.exceptions"),
}
"""Deep modules that their libraries document for everyone's use."""
NAMED_TUPLES = {"_asdict", "_replace", "_fields", "_make"}
OTHERS = {
    "cli/console.py": {"_tasks"},  # rich's
}
"""Private names of libraries that have no adapter."""


def module_names(tree: ast.AST) -> dict[str, str]:
    """Names that stand for modules of the libraries, and for which."""
    return {
        alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in LIBRARIES
    }


def own_names(tree: ast.AST) -> set[str]:
    """What a module gives its own classes: methods, fields, and what it sets on `self`."""
    names = set()
    for statement in (s for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for s in n.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            names |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names | {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute)
        and isinstance(n.ctx, ast.Store)
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
    }


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


STANDARD = {"os._exit", "atexit._run_exitfuncs"}
"""Of the standard library: the one is documented, the other CPython's own name for what `sys.exit` ends with."""


def dotted(node: ast.AST) -> str:
    """`a.b.c` of nested attributes; nothing for other expressions."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def deep_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and names of deep modules and private names that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.split(".")[0] not in LIBRARIES:
                continue
            for alias in node.names:
                if ("." in node.module and node.module not in PUBLIC) or is_private(alias.name):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in LIBRARIES and "." in alias.name and alias.name not in PUBLIC:
                    yield node.lineno, alias.name


def private_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and names of private attributes that are not the module's own, by dot or by `getattr`."""
    own = own_names(tree) | NAMED_TUPLES
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_parents = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
            if is_parents or (node.attr not in own and dotted(node) not in STANDARD):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
            if isinstance(name, str) and is_private(name) and name not in own:
                yield node.lineno, name


def deep_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and names like `transformers.utils.thing`, reached from the library's own name."""
    names = module_names(tree)
    for node in ast.walk(tree):
        path = dotted(node) if isinstance(node, ast.Attribute) else ""
        first, *rest = path.split(".")
        # PyTorch documents its folders (torch.cuda.…) for everyone's use.
        if first not in names or names[first].split(".")[0] == "torch" or len(rest) < 2:
            continue
        full = ".".join([names[first], *rest])
        if rest[0].islower() and not any(full.startswith(public) or public.startswith(full) for public in PUBLIC):
            yield node.lineno, full


def touched(source: str) -> list[tuple[int, str]]:
    """What a module touches of the libraries' insides."""
    tree = ast.parse(source)
    imports = {
        (n.module if isinstance(n, ast.ImportFrom) else alias.name) or ""
        for n in ast.walk(tree)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    # A module that touches private names of an object need not import its library, if it imports ours that do.
    knows = {name.split(".")[0] for name in imports} & (LIBRARIES | {"rolewise"})
    return sorted([*deep_imports(tree), *deep_uses(tree), *(private_uses(tree) if knows else ())])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_adapters_touch_insides(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    found = [(line, what) for line, what in touched(path.read_text(encoding="utf-8"))]
    if name in ADAPTERS:
        others = [f"line {n}: {what}" for n, what in found if what.split(".")[0] in LIBRARIES - ADAPTERS[name]]
        assert [x for x in others if not x.startswith("torch.utils.data")] == [], f"{name} is another library's adapter"
        return
    faults = [f"line {line}: {what}" for line, what in found if what not in OTHERS.get(name, ())]
    assert faults == [], f"put it into one of {', '.join(ADAPTERS)}, with a test of what is relied on"


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_has_its_contract(name: str) -> None:
    assert (PACKAGE / name).is_file()
    assert (Path(__file__).parent / f"test_{Path(name).stem}.py").is_file()


@pytest.mark.parametrize(
    "source",
    [
        "from transformers.cache_utils import DynamicLayer",
        "from transformers.integrations import integration_utils",
        "def f():\n    from peft.tuners.tuners_utils import BaseTunerLayer",
        "import trl.trainer.utils",
        "from torch import _dynamo",
        "import torch\ndef f(p):\n    return p._version",
        "from torch import nn\ndef f(c):\n    return getattr(c, '_commit_hash', None)",
        "import transformers\nx = transformers.trainer_utils.SaveStrategy",
        "from trl import GRPOTrainer\nclass T(GRPOTrainer):\n    def _loss(self):\n        return super()._loss()",
        "from trl import SFTTrainer\nclass T(SFTTrainer):\n    def f(self):\n        return self._metrics",
        "from rolewise.training.sft import f\nx = f()._metrics",
        "import torch\ndef f(p):\n    _version = p._version",
        "import torch\n_storage = 1\ndef _data():\n    pass\ndef f(p):\n    return p._data, p._storage",
        "import huggingface_hub\nx = huggingface_hub.file_download.http_get",
        "from openai._base_client import MAX_RETRY_DELAY",
        "from tokenizers.implementations import ByteLevelBPETokenizer",
        "from urllib3.connectionpool import HTTPConnectionPool",
        "import urllib3\nclass A(urllib3.HTTPConnectionPool):\n    def f(self):\n        return self._get_conn()",
    ],
)
def test_the_rule_sees_insides(source: str) -> None:
    assert touched(source)


@pytest.mark.parametrize(
    "source",
    [
        "from transformers import DynamicCache",
        "from torch.nn import functional",
        "import torch.nn.functional as F\nx = F.pad",
        "import torch\nx = torch.cuda.is_available()",
        "import torch\nclass A:\n    def f(self, other):\n        self._x = 1\n        return other._x",
        "import transformers\ntransformers.utils.logging.disable_progress_bar()",
        "import torch\nx = t._asdict()",
        "import sys\nx = sys._getframe()",
        "from huggingface_hub.errors import HfHubHTTPError",
        "import urllib3\ndef f():\n    raise urllib3.exceptions.TimeoutError",
        "import torch\nclass A:\n    _x: int = 1\n    def _f(self, other):\n        return other._x, other._f",
    ],
)
def test_the_rule_lets_others_pass(source: str) -> None:
    assert touched(source) == []
