"""What a release says of itself: one version everywhere, and whatever is not code in its place."""

import re
from pathlib import Path

import yaml

import rolewise

ROOT = Path(__file__).parents[1]


def test_one_version_is_cited_and_described() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == rolewise.__version__
    assert citation["license"] == "Apache-2.0"
    described = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert described[0] == rolewise.__version__


def test_files_that_are_not_code_are_package_data() -> None:
    package = ROOT / "src" / "rolewise"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (patterns,) = re.findall(r"^\[tool\.setuptools\.package-data\]\nrolewise = \[(.*?)\]", text, re.MULTILINE)
    shipped = {path for pattern in re.findall(r'"(.*?)"', patterns) for path in package.glob(pattern)}
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == shipped


def test_what_the_sdist_is_to_hold_is_there() -> None:
    """Setuptools only warns of a name that leads nowhere."""
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    words = [line.split() for line in lines if line.startswith(("graft ", "include "))]
    names = [name for _, *names in words for name in names]
    assert {"tests", "docs", "examples"} <= set(names)  # which the tests read
    assert [name for name in names if not (ROOT / name).exists()] == []
