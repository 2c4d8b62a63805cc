"""A server on loopback that answers every request with bytes of the test's choice, at a pace of the test's choice."""

import itertools
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Pieces = Callable[[], Iterator[bytes]]

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
OK = HEAD % b"200 OK"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pieces: Pieces, pause: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pieces, self.pause, self.ended = pieces, pause, threading.Event()


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # the client has left
            for piece in self.server.pieces():
                self.wfile.write(piece)
                if self.server.ended.wait(self.server.pause):
                    return


@contextmanager
def hostile_server(pieces: Pieces, *, pause: float = 0.0) -> Iterator[str]:
    """The address of a server that sends what `pieces()` gives, `pause` seconds between, and closes the connection."""
    with _Server(pieces, pause) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def whole(body: bytes | Any, status: bytes = b"200 OK", headers: bytes = b"") -> Pieces:
    """An answer that comes at once; what is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda: iter([HEAD % status + headers + b"Content-Length: %d\r\n\r\n" % len(raw) + raw])


def then_for_ever(start: bytes, piece: bytes) -> Pieces:
    """Something, and then the same again and again."""
    return lambda: itertools.chain([start], itertools.repeat(piece))
