"""Results that appear whole, from work that can be killed and resumed.

A command that works for long does so in `<output>.partial`. What is finished there is kept, so the same command again
goes on where it was. At the end the results take their final place in one step.
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

from rolewise.core.errors import GOES_ON, InputError
from rolewise.core.files import digest, open_to_umask, unwritable, write_json, write_text
from rolewise.core.versions import package_versions

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
_JOB_FILE = "job.json"


class RunDirectory:
    """The place of one run's results.

    Args:
        output: final directory.
        command: the command that makes it, for the head of `config.yaml`.
        config: complete settings of the run, as written to `config.yaml`.
        identity: what makes it this run and no other: settings and digests of what it reads, but not, for one, where
            it writes, since a directory may be moved.
        writes: whether this process makes the directories and results; of several on one run, only one may.

    Raises:
        InputError: if the output has no name, as `.` and `/`.
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
            raise InputError(f"output {str(output)!r} has no name of its own; give a directory that is to be made")
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
        """Whether this very run is already done.

        Raises:
            InputError: if something else stands in the output's place, or nothing can: its name is too long.
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
            shutil.rmtree(self.partial, ignore_errors=True)  # left over when a kill came right after publishing
        return True

    def open(self) -> bool:
        """Make the working directories, or find those of this very run. True if there is work to go on with.

        Raises:
            InputError: if an unfinished run with other settings lies there, or nothing can be written.
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
                # Results are assembled from finished work, quickly; a half-made set of them is made again.
                shutil.rmtree(self.results, ignore_errors=True)
                resumed = job.exists()
            else:
                resumed = False
                self.partial.mkdir(parents=True, exist_ok=True)  # another may have begun in this moment
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
        """Two processes in one directory would mix their work; the lock goes with the process, killed or not."""
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"{self.partial}: another process is at work on this run; wait for it, or choose another output"
            ) from None

    @contextmanager
    def opened(self, not_worth_keeping: Sequence[str] = ()) -> Iterator[None]:
        """Open, and leave nothing behind if what is done within fails before there is anything worth keeping.

        An exception that leaves something behind gets the note `GOES_ON`.

        Args:
            not_worth_keeping: names of working files that are soon made again.

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
                error.add_note(GOES_ON)
            raise

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent within to the run's timings, which survive a kill between stages."""
        start = time.perf_counter()
        yield
        if not self.writes:
            return
        self._timings[stage] = round(self._timings.get(stage, 0.0) + time.perf_counter() - start, 3)
        write_json(self.partial / _JOB_FILE, {"identity": self.identity, "timings": self._timings})

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Write `config.yaml` and `run.json` beside the results, and put them in their final place."""
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
