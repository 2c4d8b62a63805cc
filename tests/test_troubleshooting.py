"""The troubleshooting page quotes messages; each must be one that the program can say."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
GAP = "…"


def said(path: Path) -> set[str]:
    """Every text of a module, what an f-string fills in as a gap."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values]
            found.add("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


TEXTS = [text for path in (ROOT / "src" / "rolewise").rglob("*.py") for text in said(path)]


def quoted() -> list[str]:
    """The messages of the tables: code of several words that is no command."""
    cells = [cell for row in re.findall(r"^\| (?!---)(.*) \|$", PAGE, re.MULTILINE) for cell in row.split(" | ")]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    others = ("pip ", "rolewise ", "--", "hf ", "curl ", "export ")
    return [span for span in spans if " " in span and not span.startswith(others)]


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_the_programs_own(message: str) -> None:
    pattern = re.compile(".*".join(map(re.escape, message.split(GAP))), re.DOTALL)
    assert any(pattern.search(text) for text in TEXTS), message


def test_messages_are_found() -> None:
    assert len(quoted()) > 30
