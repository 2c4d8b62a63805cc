"""Serve the official checker: read requests as JSON lines from standard input, write replies to standard output.

    python serve.py SECONDS FOLDER…

FOLDER… are the folders of the unpacked packages; a request that takes longer than SECONDS ends the process. A request
is `[operation, arguments]` with a public method of `official.Official`, a reply `{"value": …}` or `{"error": text}`.

Rights. The official code calls `eval` on a model's output: on arithmetic while it reads an answer, and on calls of the
simulated tools in multi-turn tasks. Both are checked first (`guard.py`). If something slips through, this process has
limited memory, can't write files, and an audit hook refuses to start programs, open sockets and change the file
system. This is not a sandbox: code that got that far could read everything that the user may read. If a model is not
trusted at all, run the evaluation in a container.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMORY = 2 << 30
_GRACE = 5  # seconds; the parent, if still alive, stops this process sooner
_FORBIDDEN = (
    *("subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork", "os.kill", "os.putenv"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
    *("os.chmod", "os.chown", "os.chflags", "os.setxattr", "os.removexattr"),
)


def main(seconds: int, folders: list[str]) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    # The official code prints; its output must not mix with the replies.
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    sys.path[1:1] = folders  # after this script's own folder

    def reply(**fields: Any) -> None:
        replies.write(json.dumps(fields, default=str).encode() + b"\n")
        replies.flush()

    try:
        from official import Official  # type: ignore[import-not-found]  # beside this script, outside any package

        official = Official()
    except Exception as error:
        reply(error=f"{type(error).__name__}: {error}")
        return
    give_up_rights()
    reply(value="ready")
    for line in sys.stdin.buffer:
        operation, arguments = json.loads(line)
        with time_limit(seconds + _GRACE):
            try:
                answer = {"value": getattr(official, operation)(**arguments)}
                json.dumps(answer, default=str)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            reply(**answer)


def give_up_rights() -> None:
    """Limit memory and files, and refuse operations that no check needs."""
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        for limit, value in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            with contextlib.suppress(ValueError, OSError):  # some systems define a limit but don't support it
                resource.setrlimit(limit, (value, value))
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"the checker may not use {event}")
    if event == "open":
        _, mode, flags = arguments
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & writes):
            raise PermissionError("the checker may not write files")


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """End the process after this many seconds: unlike an exception, a signal without a handler stops even a single long
    operation."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
    try:
        yield
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), [str(Path(folder)) for folder in sys.argv[2:]])
