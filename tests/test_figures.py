"""The documents' figures: each has its script, and what that draws of the committed numbers is the committed image."""

import re
import sys
from pathlib import Path

import figures
import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "README.md"
PAGES = [ROOT / "README.md", RESULTS, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = 10
"""Pixels to each side: what an edge of a letter does within one is averaged out."""
TOLERATED = 0.005
"""Share of blocks that may differ visibly."""


def shown() -> list[tuple[Path, Path]]:
    """Every image that a page shows: the page, and the image's file."""
    return [
        (page, (page.parent / target).resolve())
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    ]


def blocks(image: Path) -> np.ndarray:
    """The mean colour of each block of an image, 0 to 1; float of shape (rows, columns, 3)."""
    pixels = matplotlib.image.imread(image)[..., :3]
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    return pixels[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))


def drawn_by(image: Path) -> str:
    """Matplotlib's minor version that drew a PNG file, as the file says."""
    found = re.search(rb"Matplotlib version(\d+\.\d+)", image.read_bytes())
    assert found is not None, f"{image.name} was not drawn by Matplotlib"
    return f"Matplotlib {found[1].decode()}"


def test_every_image_of_a_page_is_of_a_script_that_the_page_or_the_results_name() -> None:
    assert {image for _, image in shown()} == {figures.FIGURES / f"{name}.png" for name in figures.NAMES}
    for page, image in shown():
        assert image.exists(), f"{page.name} shows {image.name}"
        script = f"experiments/{image.stem}.py"
        assert (ROOT / script).exists()
        named = [script in text.read_text(encoding="utf-8") for text in (page, RESULTS)]
        assert any(named), f"{page.name} shows {image.name} without naming {script}"


@pytest.mark.parametrize("name", figures.NAMES)
def test_a_figure_is_drawn_anew_from_the_committed_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["figures.py", name, "--output", str(tmp_path)])
    figures.main()
    [drawn] = tmp_path.iterdir()
    committed = figures.FIGURES / drawn.name
    by, own = drawn_by(committed), drawn_by(drawn)
    if by != own:
        pytest.skip(f"the committed image was drawn by {by}; {own} sets letters elsewhere")
    sizes = [matplotlib.image.imread(image).shape for image in (drawn, committed)]
    assert sizes[0] == sizes[1]
    differs = np.abs(blocks(drawn) - blocks(committed)).max(axis=2) > 0.1
    assert differs.mean() < TOLERATED, f"{differs.mean():.2%} of {name}.png is not what {name}.py draws"


def test_a_name_without_a_figure_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["figures.py", "nothing"])
    with pytest.raises(SystemExit):
        figures.main()
    assert "there is no figure nothing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["labelling", "training", "grpo", "rftt", "reinforce"])
def test_a_method_s_page_ends_with_its_verdict_and_states_equations(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    *_, last = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert last == "Does it work?"
    verdict = text.rpartition("## ")[2]
    assert re.search(r"\d \[.?\d.*, .?\d.*\]|\d % \[\d+, \d+\]", verdict), "no number with its interval"
    assert "results/README.md#" in verdict
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    # GitHub reads a backslash before punctuation as Markdown's own, in a line of text.
    assert not [formula for formula in re.findall(r"\$([^$]+)\$", prose) if re.search(r"\\[^\w\s]", formula)]
    formulas = re.findall(r"^```math\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert formulas
    for formula in formulas:
        assert formula.count("{") == formula.count("}"), formula
        assert re.findall(r"\\begin{(\w+)}", formula) == re.findall(r"\\end{(\w+)}", formula), formula
