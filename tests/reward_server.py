"""A server of process rewards on loopback, for tests: a function of the request says what it answers."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], Any]


class RewardServer(ThreadingHTTPServer):
    """Attributes: `url`; `requests`, the bodies so far; `keys`, their authorisations; `most_at_once`."""

    daemon_threads = True

    def __init__(self, reply: Reply, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.delay = reply, delay
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.underway = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/score"


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(body)
            server.keys.append(self.headers["Authorization"])
            server.underway += 1
            server.most_at_once = max(server.most_at_once, server.underway)
        time.sleep(server.delay)
        answer = server.reply(body)
        with server.lock:
            server.underway -= 1
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        with suppress(BrokenPipeError):  # the client's patience has ended
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        pass


def by_length(body: dict[str, Any]) -> dict[str, Any]:
    """A score for each step: a tenth of its characters, at most 1."""
    return {"scores": [[min(1.0, len(step) / 10) for step in item["steps"]] for item in body["items"]]}


@contextmanager
def reward_server(reply: Reply = by_length, *, delay: float = 0.0) -> Iterator[RewardServer]:
    """A server that answers each request's body with `reply(body)`: a reply, or a status and a reply."""
    with RewardServer(reply, delay) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
