"""Atomic results of work that can be killed and resumed.

A long-running command works in `<output>.partial`. Finished parts are kept there, so rerunning the command resumes the
work. At the end the results move to their final place in one step.
"""

import json
import platform
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from rolewise.core.errors import RESUMES, InputError
from rolewise.core.files import digest, open_to_umask, unwritable, write_json, write_text
from rolewise.core.versions import package_versions

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
_JOB_FILE = "job.json"


class RunDirectory:
    """The place of one run's results.

    Args:
        output: final directory.
        command: name of the command, for the head of `config.yaml`.
        config: complete settings of the run, as written to `config.yaml`.
        identity: the facts that distinguish this run from others: settings and digests of its inputs, but not, for
            instance, the output path, since a directory may be moved.
        writes: True if this process makes the directories and results; of several on one run, only one may.

    Raises:
        InputError: if the output has no name, such as `.` and `/`.
    """

    def __init__(
        self,
        output: str | Path,
        command: str,
        config: Mapping[str, Any],
        identity: Mapping[str, Any],
        *,
        writes: bool = True,
    ):
        self.output = Path(output)
        if not self.output.name:
            raise InputError(f"output {str(output)!r} has no name of its own; give the name of a new directory")
        self.partial = self.output.with_name(f"{self.output.name}.partial")
        self.work = self.partial / "work"
        self.results = self.partial / "results"
        self.command = command
        self.writes = writes
        self.config = dict(config)
        self.identity = digest({"command": command, **identity})
        self._timings: dict[str, float] = {}
        self._lock = FileLock(self.partial / ".lock", timeout=0)

    def finished(self) -> bool:
        """Return True if this very run is already done.

        Raises:
            InputError: if something else occupies the output path, or the path is not usable, e.g. too long.
        """
        try:
            if not self.output.exists():
                return False
        except OSError as error:
            raise unwritable(self.output, error) from error
        try:
            identity = json.loads((self.output / RUN_FILE).read_text(encoding="utf-8"))["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{self.output}: already exists; choose another output or remove it") from None
        if identity != self.identity:
            raise InputError(
                f"{self.output}: holds a run with other settings or inputs; choose another output or remove it"
            )
        if self.writes:
            shutil.rmtree(self.partial, ignore_errors=True)  # left over if the run was killed right after publishing
        return True

    def open(self) -> bool:
        """Make the working directories, or find those of this very run. Return True if there is work to resume.

        Raises:
            InputError: if an unfinished run with other settings exists there, or writing fails.
        """
        job = self.partial / _JOB_FILE
        try:
            if self.partial.exists():
                if not self._is_same(job):
                    raise InputError(
                        f"{self.partial}: an unfinished run with other settings or inputs; finish it with its own "
                        "settings, or remove it"
                    )
                self._take()
                for leftover in self.partial.rglob(".*.tmp"):
                    leftover.unlink(missing_ok=True)
                # Results are assembled from finished work, quickly; an incomplete set is made again.
                shutil.rmtree(self.results, ignore_errors=True)
                resumed = job.exists()
            else:
                resumed = False
                self.partial.mkdir(parents=True, exist_ok=True)  # another process may have begun at this moment
                self._take()
            self.work.mkdir(parents=True, exist_ok=True)
            self.results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.partial, error) from error
        if not job.exists():
            write_json(job, {"identity": self.identity, "timings": {}})
        else:
            self._timings = json.loads(job.read_text(encoding="utf-8"))["timings"]
        return resumed

    def _take(self) -> None:
        """Lock the directory: two processes in it would mix their work. The lock ends with the process, killed or
        not."""
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"{self.partial}: another process is working on this run; wait for it, or choose another output"
            ) from None

    @contextmanager
    def opened(self, not_worth_keeping: Sequence[str] = ()) -> Iterator[None]:
        """Open the directory; if the block fails before there is work worth keeping, remove everything.

        If work is kept, the exception gets the note `RESUMES`.

        Args:
            not_worth_keeping: names of working files that are quickly made again.

        Raises:
            InputError: as `open`.
        """
        if not self.writes:
            yield
            return
        self.open()
        try:
            yield
        except BaseException as error:
            self._lock.release()
            files = (path for path in self.work.rglob("*") if path.is_file() and path.suffix != ".tmp")
            kept = (path for path in files if path.name not in not_worth_keeping)
            if not any(path.stat().st_size for path in kept):
                shutil.rmtree(self.partial, ignore_errors=True)
            else:
                error.add_note(RESUMES)
            raise

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent in the block to the run's timings, which survive a kill between stages."""
        start = time.perf_counter()
        yield
        if not self.writes:
            return
        self._timings[stage] = round(self._timings.get(stage, 0.0) + time.perf_counter() - start, 3)
        write_json(self.partial / _JOB_FILE, {"identity": self.identity, "timings": self._timings})

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Write `config.yaml` and `run.json` beside the results, and move all to the final place."""
        again = f"rolewise {self.command} --config {shlex.quote(str(self.output / CONFIG_FILE))}"
        head = f"# Run again, from the same folder and with another --output: {again}\n"
        text = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        write_text(self.results / CONFIG_FILE, head + text)
        write_json(
            self.results / RUN_FILE,
            {
                "identity": self.identity,
                "versions": package_versions(),
                "machine": {"platform": platform.platform(), "processor": platform.machine()},
                "seconds": self._timings,
                **facts,
            },
        )
        try:
            open_to_umask(self.results)
            self.results.rename(self.output)
        except OSError as error:
            raise unwritable(self.output, error) from error
        self._lock.release()
        shutil.rmtree(self.partial, ignore_errors=True)

    def _is_same(self, job: Path) -> bool:
        if not job.exists():  # killed before anything was done
            return True
        try:
            return bool(json.loads(job.read_text(encoding="utf-8"))["identity"] == self.identity)
        except (OSError, ValueError, KeyError, TypeError):
            return False
