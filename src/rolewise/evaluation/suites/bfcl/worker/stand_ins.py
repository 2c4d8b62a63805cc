"""Stand-ins for modules that the official package imports but checking does not need, or needs in another form."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

PROMPT, NATIVE = "prompt", "native"
"""Names of the two ways to ask a model, for the official code."""

_UNUSED = ("dotenv", "numpy", "overrides", "pandas", "tenacity", "tqdm")


class _Unused(ModuleType):
    """A module whose every name is a function that returns its first argument, which suits decorators and tqdm."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **_: arguments[0] if arguments else None


def install() -> None:
    """Install the stand-ins for import. Call this before importing anything official."""
    for name in _UNUSED:
        sys.modules[name] = _Unused(name)
    # The data are only read, and only by this process; real locks would leave files behind.
    locks: Any = ModuleType("filelock")
    locks.FileLock = lambda path: contextlib.nullcontext()
    sys.modules["filelock"] = locks
    # The real module imports the clients of every vendor. Names of tools have "_" for "." when they go through a chat
    # template, as in the official tool for models with native tools.
    models: Any = ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {
        PROMPT: SimpleNamespace(underscore_to_dot=False),
        NATIVE: SimpleNamespace(underscore_to_dot=True),
    }
    sys.modules[models.__name__] = models
    _install_parsers()


def _install_parsers() -> None:
    """Give the official parsers the interface of tree-sitter 0.21 on a newer version, if there is one."""
    try:
        import tree_sitter  # type: ignore[import-not-found]
    except ImportError:
        for name in ("tree_sitter", "tree_sitter_java", "tree_sitter_javascript"):
            sys.modules[name] = _Unused(name)
        unused: Any = sys.modules["tree_sitter"]
        unused.Parser = lambda: SimpleNamespace(set_language=lambda language: None)
        return
    parser_of, language_of = tree_sitter.Parser, tree_sitter.Language

    class Root:
        def __init__(self, node: Any) -> None:
            self._node = node

        def __getattr__(self, name: str) -> Any:
            return getattr(self._node, name)

        def sexp(self) -> str:
            return str(self._node)

    class Parser:
        def set_language(self, language: Any) -> None:
            self._parser = parser_of(language)

        def parse(self, source: bytes) -> Any:
            # The tree must outlive its nodes.
            tree = self._parser.parse(source)
            return SimpleNamespace(root_node=Root(tree.root_node), tree=tree)

    tree_sitter.Parser = Parser
    tree_sitter.Language = lambda pointer, name: language_of(pointer)
