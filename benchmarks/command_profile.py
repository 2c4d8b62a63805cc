"""One command of rolewise, and where its time goes.

    python benchmarks/command_profile.py RESULT.json eval --model MODEL_DIRECTORY --suite gsm8k --output OUTPUT

Runs the command line after the first argument in this process and writes to `RESULT.json`:

- `seconds`: from the start of the process to the command's end. These and all other seconds leave out those in which
  the process stood in the system's queue for a core, so that other work on the machine adds little; `wall_seconds` has
  them. What it waits for of its own accord, other processes of its own say, is in.
- `model`: seconds in the outermost module's forward, in backward passes and in the optimizer's steps, each measured.
- `start_up`: starting Python, imports whenever they happen, hashing and loading the tokenizer and the model.
- `work_seconds`: all but the start-up; `model_share` of it is the model's own.
- `others`: of the work outside the model, what takes longest. An item is the innermost function of ours on the stack,
  with the innermost one of TRL, Transformers, Accelerate, Datasets or PEFT that it has called.

Start-up and items are told apart by a thread that looks at the main thread's stack many times a second, so that
nothing is slowed down by being watched. Needs Linux.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from unittest import mock

import psutil
import torch
from clock import undisturbed_seconds
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from rolewise.cli.main import main as rolewise

K = TypeVar("K")

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
IMPORTS = "imports"
START_UP = {
    "_find_and_load": IMPORTS,
    "load_tokenizer": "tokenizer",
    "load_model": "model",
    "load_trainable": "model",
    "open_model": "model",
    "model_fingerprint": "hash of the model",
    "tokenizer_fingerprint": "hash of the tokenizer",
}
"""Functions whose time is start-up, and what it is called."""
LIBRARIES = ("trl", "transformers", "accelerate", "datasets", "peft")
SECONDS_BETWEEN_LOOKS = 0.01
SHOWN = 5


class ModelClock:
    """Seconds in the model's own work; what one kind of it calls of another belongs to the outer one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((FORWARD, BACKWARD, OPTIMIZER), 0.0)
        self.depth = 0
        self._began = 0.0

    def begin(self) -> None:
        """Begin a piece of work, perhaps within another."""
        if self.depth == 0:
            self._began = undisturbed_seconds()
        self.depth += 1

    def end(self, kind: str) -> None:
        """End the piece of work that was begun last."""
        self.depth -= 1
        if self.depth == 0:
            self.seconds[kind] += undisturbed_seconds() - self._began

    def timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        """The function, with its seconds counted as `kind`."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                self.end(kind)

        return run


@contextmanager
def model_timed(clock: ModelClock) -> Iterator[None]:
    """Have every module's call, backward pass and optimizer step of this process counted."""
    hooks = [
        register_optimizer_step_pre_hook(lambda *_: clock.begin()),
        register_optimizer_step_post_hook(lambda *_: clock.end(OPTIMIZER)),
    ]
    called = clock.timed(torch.nn.Module.__call__, FORWARD)
    with (
        mock.patch.object(torch.nn.Module, "__call__", lambda *args, **kwargs: called(*args, **kwargs)),
        mock.patch.object(torch.autograd, "backward", clock.timed(torch.autograd.backward, BACKWARD)),
    ):
        yield
    for hook in hooks:
        hook.remove()


class Looks:
    """Seconds that the main thread spends outside the model, by what it is about."""

    def __init__(self, clock: ModelClock) -> None:
        self.start_up: dict[str, float] = {}
        self.others: dict[tuple[str, str], float] = {}
        self._clock = clock
        self._main = threading.main_thread().ident
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Looks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        seen = self._outside()
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            frame = sys._current_frames().get(self._main or 0)
            if self._clock.depth == 0 and frame is not None:
                now = self._outside()
                seconds, item = self._about(frame)
                seconds[item] = seconds.get(item, 0.0) + now - seen
                seen = now

    def _outside(self) -> float:
        return undisturbed_seconds() - sum(self._clock.seconds.values())

    def _about(self, innermost: FrameType) -> tuple[dict[Any, float], Any]:
        ours = library = ""
        frame: FrameType | None = innermost
        while frame is not None:
            if (kind := START_UP.get(frame.f_code.co_name)) is not None:
                return self.start_up, kind
            module = frame.f_globals.get("__name__", "")
            package = module.partition(".")[0]
            if not ours and package == "rolewise":
                ours = f"{module.removeprefix('rolewise.')}.{frame.f_code.co_qualname}"
            elif not ours and not library and package in LIBRARIES:
                library = f"{module}.{frame.f_code.co_qualname}"
            frame = frame.f_back
        return self.others, (ours, library)


def most_first(seconds: Mapping[K, float]) -> list[tuple[K, float]]:
    """Items and their seconds, most first."""
    return sorted(seconds.items(), key=lambda item: -item[1])


def profile(argv: list[str]) -> dict[str, Any]:
    """Run a command line and say where its time went."""
    clock = ModelClock()
    started = psutil.Process().create_time()
    python = time.time() - started - (time.perf_counter() - undisturbed_seconds())
    began = undisturbed_seconds()
    with model_timed(clock), Looks(clock) as looks:
        code = rolewise(argv)
    if code != 0:
        sys.exit(code)
    seconds = python + undisturbed_seconds() - began
    start_up = {"python and torch": python, **dict(most_first(looks.start_up))}
    work = seconds - sum(start_up.values())
    others = [
        {"ours": ours, "library": library, "seconds": spent, "share": spent / work}
        for (ours, library), spent in most_first(looks.others)[:SHOWN]
    ]
    return {
        "seconds": seconds,
        "wall_seconds": time.time() - started,
        "start_up": start_up,
        "work_seconds": work,
        "model": clock.seconds,
        "model_share": sum(clock.seconds.values()) / work,
        "others": others,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(profile(sys.argv[2:]), indent=2), encoding="utf-8")
