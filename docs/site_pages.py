"""What the site of the documentation has besides the pages that lie here; a hook of MkDocs, see mkdocs.yml.

It brings in results/, examples/ and the scripts, which the pages link to as they lie in the repository, and writes the
pages of the commands, from their `--help`, and of the Python API, from the docstrings of what `rolewise` exports.
"""

import contextlib
import io
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import rolewise
from rolewise.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "examples", "experiments", "results", "src/rolewise")
INDEX = "README.md"
LINK = re.compile(r"\]\((?!https?://|#)([^)\s#]*)(#[^)\s]*)?\)")
COLUMNS = "100"
"""Width of the commands' help, in characters."""

API_TITLES = {
    "core": "Roles and errors",
    "data": "Conversations and labelled data",
    "engines": "Engines",
    "evaluation": "Evaluation",
    "experiment_runner": "Experiments",
    "generator": "Made-up data",
    "jobs": "Commands as functions",
    "labelling": "Labelling",
    "options": "Options of the commands",
    "rewards": "Rewards",
    "roles": "Roles by rule",
    "search": "Tree search",
    "training": "Trainers",
    "weighting": "Weightings",
}
"""Pages of the API by the package that a name is at home in."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The guides in the order of the index's table, then the rest."""
    index = (ROOT / "docs" / INDEX).read_text(encoding="utf-8")
    guides = re.findall(r"^\| \[[^\]]+\]\((\w+\.md)\)", index, re.MULTILINE)
    api = [f"api/{package}.md" for package in API_TITLES if package in _public_names()]
    config.nav = [
        {"Home": INDEX},
        {"Guides": guides},
        {"Commands": "commands.md"},
        {"Python API": api},
        {"Results": f"results/{INDEX}"},
        {"Examples": f"examples/{INDEX}"},
        {"Changelog": "CHANGELOG.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's other files, a list of each folder's, and the written pages."""
    for path, text in _written_pages():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "CHANGELOG.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    for path in _repository_files():
        files.append(File.generated(config, path.as_posix(), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository become those of the site, where docs/ is the root."""
    site_path = page.file.src_uri
    folder = posixpath.dirname(site_path)
    in_repository = (ROOT / "docs" / site_path).exists()
    origin = posixpath.join("docs", folder) if in_repository else folder

    def site_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(origin, match[1]))
        if (ROOT / target).is_dir():
            target = posixpath.join(target, INDEX)
        link = posixpath.relpath(target.removeprefix("docs/"), folder or ".")
        return f"]({link}{match[2] or ''})"

    return LINK.sub(site_link, markdown)


def _repository_files() -> list[Path]:
    """Of `FOLDERS`, relative to the repository."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path.relative_to(ROOT) for path in paths if "__pycache__" not in path.parts]


def _written_pages() -> Iterator[tuple[str, str]]:
    """(path, Markdown) of each page that is made here."""
    yield "commands.md", _commands()
    for package, names in _public_names().items():
        yield f"api/{package}.md", _api(package, names)
    by_folder = defaultdict(list)
    for path in _repository_files():
        by_folder[path.parent].append(path.name)
    for folder, names in by_folder.items():
        if INDEX not in names:
            folders = [f"{path.name}/" for path in sorted(by_folder) if path.parent == folder]
            yield (folder / INDEX).as_posix(), _list(folder, folders, names)


def _commands() -> str:
    """The help of every command."""
    parts = ["# Commands\n"]
    os.environ["COLUMNS"] = COLUMNS
    for command in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            main([command, "--help"])
        parts.append(f"## rolewise {command}\n\n```text\n{printed.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def _public_names() -> dict[str, list[str]]:
    """Full names of what `rolewise` exports, by package."""
    names = defaultdict(list)
    for name in rolewise.__all__:
        module = rolewise._HOME_OF[name]
        names[module.split(".")[1]].append(f"{module}.{name}")
    return names


def _api(package: str, names: list[str]) -> str:
    parts = [f"# {API_TITLES[package]}\n", "All of it is imported from `rolewise` itself.\n"]
    for name in names:
        parts.append(f"::: {name}")
        if name.endswith("Options"):  # fields with help of their own, which the commands' page shows
            parts.append("    options: {members: false, show_signature: false}")
        parts.append("")
    return "\n".join(parts)


def _list(folder: Path, folders: list[str], names: list[str]) -> str:
    lines = [f"- [{name}]({(folder / name).as_posix()})" for name in [*folders, *names]]
    title = folder.as_posix()
    # Written as from the repository's root, where this page has no file to stand beside.
    return f"# {title}\n\n" + "\n".join(line.replace(f"({title}/", "(") for line in lines) + "\n"
