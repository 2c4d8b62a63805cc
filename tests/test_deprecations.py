"""`--fail-on-deprecations` hears what libraries say, however they say it, and knows whose call it is."""

import logging
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from deprecations import OURS, Listener

pytestmark = pytest.mark.deprecated_on_purpose
INSTALLED = Path(sysconfig.get_path("purelib"))


def library(package: str, body: str) -> dict[str, object]:
    """The names that a module of a package would have."""
    code: CodeType = compile(body, str(INSTALLED / package / "some.py"), "exec")
    names: dict[str, object] = {"logging": logging, "warnings": warnings}
    exec(code, names)
    return names


SAYS = library(
    "transformers",
    """
def warn(text, kind): warnings.warn(text, kind)
def once(text): logging.getLogger("transformers.models").warning_once(text)
def log(text): logging.getLogger("transformers").warning(text)
""",
)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    listener.install()
    yield listener
    listener.remove()


def test_warnings_are_heard_even_where_they_are_filtered_out(listener: Listener) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SAYS["warn"]("use `b` instead", FutureWarning)
    assert [(d.library, d.caller) for d in listener.heard] == [("transformers", OURS)]
    assert "test_deprecations.py" in listener.heard[0].place
    assert "use `b` instead" in listener.take()[0]
    assert listener.take() == []


def test_loggers_are_heard_each_time_they_would_say_it_once(listener: Listener) -> None:
    for _ in range(2):
        SAYS["once"]("`a` is deprecated. Use `b` instead.")
    assert len(listener.heard) >= 2
    assert len(listener.take()) == 1


def test_loggers_are_heard_below_their_level(listener: Listener) -> None:
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    SAYS["log"]("`a` will be removed in v6")
    logger.setLevel(level)
    assert len(listener.take()) == 1


def test_other_words_and_other_speakers_are_left_alone(listener: Listener) -> None:
    SAYS["log"]("weights were initialised at random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SAYS["warn"]("this is slow", UserWarning)
        library("pandas", "def warn(): warnings.warn('a', FutureWarning)")["warn"]()
        warnings.warn("ours is deprecated", FutureWarning, stacklevel=1)
    assert listener.heard == []


def test_a_call_from_another_library_is_that_librarys(listener: Listener) -> None:
    trl = library("trl", "def call(warn, text): warn(text, FutureWarning)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl["call"](SAYS["warn"], "`is_gradient_checkpointing` is deprecated")
        assert [d.caller for d in listener.heard] == ["trl"]
        assert listener.take() == []  # known, with its reason
        trl["call"](SAYS["warn"], "another thing is deprecated")
        assert len(listener.take()) == 1
        SAYS["warn"]("`is_gradient_checkpointing` is deprecated", FutureWarning)
        assert len(listener.take()) == 1, "what excuses TRL does not excuse us"


def test_it_is_silent_once_it_is_removed() -> None:
    before = (warnings.warn, logging.Logger.warning)
    listener = Listener()
    listener.install()
    listener.remove()
    assert (warnings.warn, logging.Logger.warning) == before


@pytest.mark.parametrize("options", [[], ["--fail-on-deprecations"]])
def test_the_option_fails_a_test(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").write_text(
        # A function that stands, by its file's name, in Transformers.
        "import sysconfig, warnings\n"
        "place = sysconfig.get_path('purelib') + '/transformers/some.py'\n"
        "exec(compile('def old(): warnings.warn(\"`old` is deprecated\", FutureWarning)', place, 'exec'))\n"
        "def test(): old()\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    words = ["-m", "pytest", "-q", "-p", "deprecations", "-W", "ignore", *options, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == (1 if options else 0), done.stdout
    assert ("used by rolewise or its tests" in done.stdout) == bool(options)
