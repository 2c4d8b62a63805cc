"""Plugins that extend Rolewise: files named on the command line, and installed packages that announce themselves.

A plugin is a module that registers something when it is imported, for instance a format with
`rolewise.data.register_format`. A package announces a plugin with an entry point:

    [project.entry-points."rolewise.plugins"]
    my-format = "my_package.my_format"
"""

import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from rolewise.core.errors import InputError
from rolewise.core.files import digest

ENTRY_POINT_GROUP = "rolewise.plugins"


def load_plugins(paths: Iterable[str | Path] = ()) -> None:
    """Import the installed plugins and then the files, each once per process.

    Raises:
        InputError: naming the plugin, if it can't be found or its import fails.
    """
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:  # a plugin is a program and can fail in any way
            raise _failed(f"the installed plugin {entry.name} ({entry.value})", error) from error
    for path in paths:
        _load_file(Path(path))


def plugin_digests(paths: Iterable[str | Path]) -> list[str]:
    """Return hashes of the files: plugins may change the results of a run."""
    return [digest(Path(path).read_text(encoding="utf-8", errors="replace")) for path in paths]


def _load_file(path: Path) -> None:
    name = f"rolewise_plugin_{digest(str(path.resolve()))}"
    if name in sys.modules:
        return
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"plugin {path}: no such Python file (.py)")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # Python imports files with this suffix
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(f"plugin {path}", error) from error


def _failed(what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{what} can't be imported: {type(error).__name__}: {reason}; fix it or leave it out")
