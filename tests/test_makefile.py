"""What the Makefile says of settings that it can't work with."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("path", "code"), [("a b", 2), ("", 2), ("a", 0)])
def test_a_path_of_an_environment_with_spaces_is_refused_in_one_line(path, code):
    make = ["make", "--dry-run", "help", f"VENV={path}"]
    run = subprocess.run(make, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == code
    lines = [line for line in run.stderr.splitlines() if "VENV" in line]
    assert len(lines) == (code != 0)
