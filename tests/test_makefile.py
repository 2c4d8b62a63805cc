"""What the Makefile says of settings that it can't work with; no half-made environment passes for a whole one."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
echo "begin $*" >>log
case "$*" in
*locked.txt*)
    i=0; while test -f hold && test $i -lt 100; do sleep 0.1; i=$((i + 1)); done
    if test -f kill; then rm kill; kill -9 $$; fi ;;
*"import torch"*) test -f torch || exit 1 ;;
esac
echo "end $*" >>log
"""
"""An environment's Python for which everything is done at once, and whose pip waits or dies if it is asked to."""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.mark.parametrize(("path", "code"), [("a b", 2), ("", 2), ("a", 0)])
def test_a_path_of_an_environment_with_spaces_is_refused_in_one_line(path, code):
    make = ["make", "--dry-run", "help", f"VENV={path}"]
    run = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == code
    lines = [line for line in run.stderr.splitlines() if "VENV" in line]
    assert len(lines) == (code != 0)


@pytest.fixture
def clone(tmp_path):
    """A folder with what an installation reads, in which `PYTHON` stands for the environment's."""
    folder = tmp_path / "a clone"
    (folder / "requirements").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements/locked.txt"):
        shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    return folder


def start(clone, *settings):
    # The tests may run under make, which hands its own settings on.
    settings_of_make = ("MFLAGS", "VENV", "PYTHON", "TORCH", "RESOLUTION", "PYTEST_OPTIONS")
    environment = {
        name: value for name, value in os.environ.items() if "MAKE" not in name and name not in settings_of_make
    }
    return subprocess.Popen(
        ["make", ".venv/.rolewise-ready", *settings],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def make(clone, *settings):
    """The exit status, what is said, and the calls of pip for the lock, of one `make`."""
    log = clone / "log"
    log.unlink(missing_ok=True)
    running = start(clone, *settings)
    _, said = running.communicate(timeout=60)
    return running.returncode, said, installs(log)


def installs(log):
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("begin") and "locked.txt" in line]


def test_what_pip_was_killed_in_is_installed_anew(clone):
    (clone / "kill").touch()
    code, _, calls = make(clone)
    assert code == 2
    assert len(calls) == 1
    assert not (clone / ".venv/.rolewise-ready").exists()
    code, _, calls = make(clone)
    assert code == 0
    assert ["--force-reinstall" in call for call in calls] == [True]
    assert make(clone)[::2] == (0, [])
    later = time.time() + 5
    os.utime(clone / "requirements/locked.txt", (later, later))  # changed
    code, _, calls = make(clone)
    assert code == 0
    assert ["--force-reinstall" in call for call in calls] == [False]


def test_an_environment_without_torch_is_refused_in_one_line_where_its_own_is_asked_for(clone):
    code, said, calls = make(clone, "TORCH=")
    assert code == 2
    assert calls == []
    assert [line for line in said.splitlines() if "TORCH" in line] == [
        "TORCH= keeps the torch of .venv, and that has none that can be loaded; leave TORCH out, or name one"
    ]
    (clone / "torch").touch()
    assert make(clone, "TORCH=")[0] == 0


def test_another_python_than_the_environment_has_is_refused_in_one_line(clone):
    assert make(clone)[0] == 0
    for python, said in ((clone / "3.14", "another Python"), ("no-python", "missing or older than Python 3.11")):
        if python != "no-python":
            python.write_text('#!/bin/sh\ncase "$*" in *print*) echo "(3, 14)" ;; esac\n', encoding="utf-8")
            python.chmod(0o755)
        code, lines, calls = make(clone, f"PYTHON='{python}'")
        assert code == 2
        assert calls == []
        assert sum(said in line for line in lines.splitlines()) == 1
    assert make(clone)[::2] == (0, [])


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_makes_at_a_time_install_once(clone):
    (clone / "hold").touch()
    first = start(clone)
    for _ in range(200):
        if installs(clone / "log"):
            break
        time.sleep(0.05)
    second = start(clone)
    said = second.stderr.readline()  # that it waits; or nothing, when it has installed as well
    (clone / "hold").unlink()
    first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert [first.returncode, second.returncode] == [0, 0]
    assert "waiting for another make" in said
    assert len(installs(clone / "log")) == 1
