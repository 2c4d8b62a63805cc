"""The documents: their Python runs, their command lines parse, their links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import read_command
from workbench import Workbench

from rolewise import LabelOptions, label
from rolewise.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODEL = "Qwen/Qwen3-0.6B"
"""The model that the pages speak of; where their code runs, a tiny one lies under this name."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def command_lines() -> list[tuple[str, list[str]]]:
    """Every `rolewise …` of a bash block, however it is launched: where it stands, and its arguments."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "rolewise" in words:
                    found.append((f"{page.name}: {line}", words[words.index("rolewise") + 1 :]))
    return found


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench's conversations, labelled by rule."""
    output = tmp_path_factory.mktemp("docs") / "labelled"
    return label(
        LabelOptions(model=str(bench.model), data=str(bench.data), output=str(output), method="regex", limit=8)
    ).path


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, bench: Workbench, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / MODEL).parent.mkdir()
    shutil.copytree(bench.model, tmp_path / MODEL)
    shutil.copy(bench.data, tmp_path / "conversations.jsonl")
    if page.name != "labelling.md":  # which makes it
        shutil.copytree(labelled, tmp_path / "labelled")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.name}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
    assert number == len(blocks(page, "python"))  # a block that fails has raised


@pytest.mark.parametrize(("where", "arguments"), [pytest.param(*line, id=line[0]) for line in command_lines()])
def test_a_command_line_parses(where: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the example files are named from
    assert read_command(arguments) is not None


def test_command_lines_are_found() -> None:
    commands = {arguments[0] for _, arguments in command_lines()}
    assert {"label", "sft", "relabel", "view"} <= commands <= COMMANDS.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
