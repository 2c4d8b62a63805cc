"""`rolewise COMMAND …`: finds the command, runs it, and turns errors into one line and exit code 2."""

import dataclasses
import errno
import importlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rolewise import __version__
from rolewise.cli.parser import UnknownOption
from rolewise.core.errors import GOES_ON, RolewiseError
from rolewise.core.launch import check_alone, check_launcher, end_together, is_first, launched
from rolewise.core.limits import one_line

COMMANDS = {
    "demo": "the whole path on a small real model: label, train with SFT and RFT, compare, report",
    "label": "label the tokens of conversations as reasoning or boilerplate",
    "relabel": "label again: with another threshold, from the losses that are stored, or by hand",
    "transfer": "carry labels over to another model's tokens",
    "export": "write labelled data as weights for other trainers",
    "push": "push a labelled data set to the Hugging Face hub, with its card",
    "sample": "let a model answer the data's questions, and keep the right answers (RSFT)",
    "sft": "fine-tune a model on labelled data with a weighting",
    "grpo": "train a model to call tools by reinforcement learning, weighted by region (ResT)",
    "search": "search trees of reasoning steps for questions (RFTT)",
    "warmup": "teach a model functional tokens on paths of search trees (RFTT)",
    "reinforce": "train a model with functional tokens by reinforcement learning through tree search (RFTT)",
    "solve": "answer questions by tree search and vote",
    "eval": "measure a model on benchmark suites",
    "experiment": "run a matrix of methods, settings, seeds and suites, and compare them in one table",
    "view": "show a labelled data set or search trees as one HTML page",
}

BY_SEVERAL = ("label", "sft", "grpo", "warmup", "reinforce")
"""Commands whose work several processes share, as torchrun starts them."""

OF_COMMANDS = ("demo", "experiment")
"""Commands that run others, of which some may be done already when one is interrupted."""

IS_MAIN_PROCESS = is_first()

SECONDS_FOR_THE_MAIN_PROCESS = 5

WRITE_FAILED = re.compile(
    r"No space left on device|\(os error (28|122|27)\)|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
)
"""How libraries that raise errors of their own, safetensors' and torch's, say that a file could not be written."""

USAGE = f"""rolewise {__version__}: fine-tune language models by the role that each token plays.

usage: rolewise COMMAND [options]

{chr(10).join(f"  {name:10} {text}" for name, text in COMMANDS.items())}

`rolewise COMMAND --help` explains a command. A first run, in order:

  rolewise label --model MODEL --data conversations.jsonl --output labelled
  rolewise sft --model MODEL --data labelled --output tuned
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 part of it failed, 2 the user can mend it, 130 interrupted, 143
    terminated. Does not return to its caller in a process of several that a launcher started: it ends the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        several = launched() > 1
    except RolewiseError as error:
        print(f"rolewise: {error}", file=sys.stderr)
        return 2
    if several:
        end_together(lambda: _run(arguments))
    with _told_of_termination():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"rolewise: {command!r} is not a command; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        if command in BY_SEVERAL:
            check_launcher()
        elif not {"-h", "--help"} & set(rest):
            check_alone("this command")
        code: int | None = importlib.import_module(f"rolewise.cli.{command}").run(rest)
    except UnknownOption as error:
        homes = [] if error.is_translated else _commands_with(error.name)
        message = f"{error.what} here; it belongs to rolewise {_some(homes)}" if homes else str(error)
    except RolewiseError as error:
        message = str(error)
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
        if IS_MAIN_PROCESS:
            keeps = command in OF_COMMANDS or GOES_ON in getattr(error, "__notes__", ())
            goes_on = f"; {GOES_ON}" if keeps else ""
            print(f"\nrolewise {command}: {what}{goes_on}", file=sys.stderr)
        return code
    except Exception as error:
        if _is_out_of_space(error):
            message = f"no space left on the device; free some, and the same command goes on where it was ({error})"
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            message = f"{error.filename}: file name too long; give a shorter one"
        else:
            raise
    else:
        return code or 0
    if not IS_MAIN_PROCESS:
        # What befalls all processes the main one says, and torchrun then ends the others while they wait here.
        time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
    print(f"rolewise {command}: {one_line(message, None)}", file=sys.stderr)
    return 2


class _Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM; what an interrupt cleans up is cleaned up."""


@contextmanager
def _told_of_termination() -> Iterator[None]:
    """Within, SIGTERM ends as an interrupt does, unless the caller minds it.

    Not for a process of several: while it waits for another one no handler would run, and the launcher for it in vain.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    own = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a worker that this process forked, and now ends
            os._exit(128 + number)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _commands_with(option: str) -> list[str]:
    """The commands that have an option of that name of their own."""
    found = []
    for command in COMMANDS:
        known = vars(importlib.import_module(f"rolewise.cli.{command}")).items()
        kinds = [value for name, value in known if name.endswith("Options") and dataclasses.is_dataclass(value)]
        if any(field.name == option for kind in kinds for field in dataclasses.fields(kind)):
            found.append(command)
    return found


def _some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _is_out_of_space(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; libraries wrap it in types of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (28, 122, 27):  # no space, quota, file too large
            return True
        if WRITE_FAILED.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
