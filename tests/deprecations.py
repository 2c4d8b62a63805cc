"""`pytest --fail-on-deprecations`: a test fails when a library beneath us says that something is deprecated.

A pytest plugin, named in `conftest.py`; without the option it does nothing. It listens where the words are spoken, at
`warnings.warn` and at the loggers (Transformers says many by `logger.warning_once`), so neither filters, nor levels,
nor their being said once to a process, nor a `try` around the call hides any. Warnings raised in C and what processes
of their own say are not heard.

Who is to blame is told by the call stack: the innermost code outside the library that speaks. `NOT_OURS` excuses
what the libraries ask of one another, each with its reason.
"""

import logging
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

LIBRARIES = {"torch", "transformers", "trl", "peft", "accelerate", "datasets"}
CATEGORIES = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
WORDS = re.compile(r"deprecat|will be (removed|dropped)|removed in (v|version|a future)", re.IGNORECASE)
OURS = "rolewise or its tests"

NOT_OURS: list[tuple[str, str, str]] = [
    ("trl", r"is_gradient_checkpointing|gradient_checkpointing_(en|dis)able", "TRL 1.16 knows only the old names"),
    ("peft", r"is_gradient_checkpointing|gradient_checkpointing_(en|dis)able", "PEFT 0.20 knows only the old names"),
]
"""Who may say or cause it, what it says (a regular expression), and why we can't do otherwise."""


@dataclass(frozen=True)
class Deprecation:
    """What a library said.

    Attributes:
        library: who says it.
        caller: the library that caused it, or `OURS`.
        place: file and line of the caller.
        text: what it says.
    """

    library: str
    caller: str
    place: str
    text: str

    @property
    def excuse(self) -> str | None:
        """Why it may be; None if it may not."""
        for caller, pattern, reason in NOT_OURS:
            if caller == self.caller and re.search(pattern, self.text):
                return reason
        return None

    def __str__(self) -> str:
        return f"{self.library}, used by {self.caller} at {self.place}: {self.text}"


class Listener:
    """Hears what is deprecated while it is installed.

    Attributes:
        heard: since it was last emptied.
    """

    def __init__(self) -> None:
        self.heard: list[Deprecation] = []
        self._patch = pytest.MonkeyPatch()

    def install(self) -> None:
        """Stand in for the functions by which libraries speak; each still does what it did."""
        self._patch.setattr(warnings, "warn", self._around_warn(warnings.warn))
        import transformers  # noqa: F401  # gives loggers their `warning_once`

        for name, given in (("warning", 0), ("warning_once", 0), ("warning_advice", 0), ("log", 1)):
            if hasattr(logging.Logger, name):
                self._patch.setattr(logging.Logger, name, self._around_log(getattr(logging.Logger, name), given))

    def remove(self) -> None:
        """Give the functions back."""
        self._patch.undo()

    def take(self) -> list[str]:
        """What was heard and has no excuse, each once; it is forgotten then."""
        faults = list(dict.fromkeys(str(heard) for heard in self.heard if heard.excuse is None))
        self.heard.clear()
        return faults

    def _hear(self, text: str, *, is_kind: bool) -> None:
        if not is_kind and not WORDS.search(text):
            return
        said = blame(sys._getframe(2))
        if said is not None:
            self.heard.append(Deprecation(*said, " ".join(text.split())))

    def _around_warn(self, original: Callable[..., None]) -> Callable[..., None]:
        def warn(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **kwargs: Any) -> None:
            kind = type(message) if isinstance(message, Warning) else category or UserWarning
            self._hear(str(message), is_kind=issubclass(kind, CATEGORIES))
            original(message, category, stacklevel + 1, *args, **kwargs)

        return warn

    def _around_log(self, original: Callable[..., Any], given: int) -> Callable[..., Any]:
        def log(logger: logging.Logger, *args: Any, **kwargs: Any) -> Any:
            self._hear(str(args[given]), is_kind=False)
            return original(logger, *args, **kwargs)

        return log


def blame(frame: FrameType | None) -> tuple[str, str, str] | None:
    """Who speaks at this frame, whose call it is, and from where; None if none of `LIBRARIES` speaks.

    Code that is nobody's (generated, the standard library's, helpers between) is passed over.
    """
    speaker = None
    while frame is not None:
        package = package_of(frame.f_code.co_filename)
        if speaker is None and package is not None:
            if package not in LIBRARIES:
                return None
            speaker = package
        elif speaker is not None and package not in (None, speaker):
            caller = package if package in LIBRARIES else OURS
            return speaker, str(caller), f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None if speaker is None else (speaker, OURS, "no place that is known")


_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_PASSED_OVER = {"typing_extensions", "typing_extensions.py"}


def package_of(filename: str) -> str | None:
    """The installed package that a file belongs to, `OURS` for files elsewhere, None for nobody's."""
    if filename.startswith("<") or filename == __file__:
        return None
    for root in _INSTALLED:
        if filename.startswith(root):
            name = Path(filename).relative_to(root).parts[0]
            return None if name in _PASSED_OVER else name
    return None if filename.startswith(_STANDARD) else OURS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-deprecations",
        action="store_true",
        help=f"fail when one of {', '.join(sorted(LIBRARIES))} says that something we use is deprecated",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deprecated_on_purpose: uses what a library calls deprecated, and means to")
    if config.getoption("--fail-on-deprecations"):
        config.pluginmanager.register(_Failing(), "failing-on-deprecations")


class _Failing:
    """Fails the phase of a test in which something was heard; what imports say fails the first test."""

    def __init__(self) -> None:
        self._listener = Listener()
        self._listener.install()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        yield
        self._fail(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        yield
        self._fail(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        yield
        self._fail(item)

    def pytest_unconfigure(self) -> None:
        self._listener.remove()

    def _fail(self, item: pytest.Item) -> None:
        faults = self._listener.take()
        if faults and item.get_closest_marker("deprecated_on_purpose") is None:
            pytest.fail("deprecated:\n" + "\n".join(faults), pytrace=False)
