"""`rolewise COMMAND …`: find and run the command, and turn errors into one line and exit code 2."""

import difflib
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
from rolewise.cli.parser import command_of
from rolewise.core.errors import RESUMES, RolewiseError
from rolewise.core.launch import check_alone, check_launcher, end_together, is_first, launched
from rolewise.core.limits import one_line
from rolewise.options.table import UnknownOption

COMMANDS = {
    "demo": "run the whole pipeline on a small real model: label, train with SFT and RFT, compare, report",
    "label": "label the tokens of conversations as reasoning or boilerplate",
    "check": "judge the labels of a data set, and say what to do with them",
    "relabel": "relabel a labelled data set: another threshold on its stored losses, or corrections by hand",
    "transfer": "transfer labels to another model's tokens",
    "export": "export labelled data as weights for other trainers",
    "push": "push a labelled data set and its card to the Hugging Face hub",
    "sample": "have a model answer the data's questions and keep the right answers (RSFT)",
    "sft": "fine-tune a model on labelled data, with token weights",
    "grpo": "train a model to call tools by reinforcement learning, weighted by region (ResT)",
    "search": "search trees of reasoning steps for questions (RFTT)",
    "warmup": "teach a model functional tokens from paths of search trees (RFTT)",
    "reinforce": "train a model with functional tokens by reinforcement learning through tree search (RFTT)",
    "solve": "answer questions by tree search and vote",
    "eval": "measure a model on benchmark suites",
    "experiment": "run a matrix of methods, settings, seeds and suites, and compare them in one table",
    "view": "show a labelled data set or search trees as one HTML page",
    "schema": "print the JSON Schema of a command's config file",
    "completion": "print a script that completes commands and options in bash, zsh or fish",
}

BY_SEVERAL = ("label", "sft", "grpo", "warmup", "reinforce")
"""Commands whose work several processes can share, as started by torchrun."""

OF_COMMANDS = ("demo", "experiment")
"""Commands that run others, some of which may already be done when an interrupt arrives."""

IS_MAIN_PROCESS = is_first()

SECONDS_FOR_THE_MAIN_PROCESS = 5

WRITE_FAILED = re.compile(
    r"No space left on device|\(os error (28|122|27)\)|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
)
"""Messages by which safetensors and torch, with their own error types, report that a file could not be written."""

USAGE = f"""rolewise {__version__}: fine-tune language models by the role that each token plays.

usage: rolewise COMMAND [options]

{chr(10).join(f"  {name:10} {text}" for name, text in COMMANDS.items())}

`rolewise COMMAND --help` explains a command. A first run, in order:

  rolewise label --model MODEL --data conversations.jsonl --output labelled
  rolewise sft --model MODEL --data labelled --output tuned
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 part of it failed, 2 an error that the user can fix, 130
    interrupted, 143 terminated. In one of several processes that a launcher started, end the process instead."""
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
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        told = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        print(f"rolewise: {command!r} is not a command; {told}", file=sys.stderr)
        return 2
    try:
        if command in BY_SEVERAL:
            check_launcher()
        elif not {"-h", "--help"} & set(rest):
            check_alone("this command")
        code: int | None = importlib.import_module(f"rolewise.cli.{command}").run(rest)
    except UnknownOption as error:
        homes = [] if error.is_translated else _commands_with(error.name)
        more = f" and {len(homes) - 3} more" if len(homes) > 3 else ""
        message = f"{error.what} here; it belongs to rolewise {', '.join(homes[:3])}{more}" if homes else str(error)
    except RolewiseError as error:
        message = str(error)
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
        if IS_MAIN_PROCESS:
            keeps = command in OF_COMMANDS or RESUMES in getattr(error, "__notes__", ())
            resumes = f"; {RESUMES}" if keeps else ""
            print(f"\nrolewise {command}: {what}{resumes}", file=sys.stderr)
        return code
    except Exception as error:
        if _is_out_of_space(error):
            message = f"no space left on the device; free some and rerun the command to resume ({error})"
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            message = f"{error.filename}: file name too long; give a shorter one"
        else:
            raise
    else:
        return code or 0
    if not IS_MAIN_PROCESS:
        # The main process reports what affects all of them; torchrun then ends the others while they wait here.
        time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
    print(f"rolewise {command}: {one_line(message, None)}", file=sys.stderr)
    return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end; the same cleanup runs as for an interrupt."""


@contextmanager
def _told_of_termination() -> Iterator[None]:
    """Treat SIGTERM as an interrupt within the context, unless the caller handles it.

    Not for one of several processes: no handler would run while it waits for another one, so the launcher would wait
    for it in vain.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    own = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a worker that this process forked and is now ending
            os._exit(128 + number)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _commands_with(option: str) -> list[str]:
    """Return the commands that themselves declare an option of that name."""
    tables = {name: command.light_table() for name in COMMANDS if (command := command_of(name)) is not None}
    return [name for name, table in tables.items() if option in table]


def _is_out_of_space(error: BaseException | None) -> bool:
    """Return True if a full disk caused an error; libraries wrap it in their own types."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (28, 122, 27):  # no space, quota, file too large
            return True
        if WRITE_FAILED.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
