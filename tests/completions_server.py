"""A small completions server in a thread, with a made-up model, that can do some things and misbehave in others."""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Fault = Callable[[int, dict[str, Any]], "tuple[int, Any] | None"]
"""Takes the number of a completion request and its body; returns status and reply instead of the server's, or None.
A reply that is None closes the connection."""

ABILITIES = frozenset(
    {"token_ids", "token_strings", "logprobs", "prompt_logprobs", "echo", "chosen_logprobs", "n", "seed"}
    | {"stop", "stop_token_ids", "top_k", "adapters"}
)


class CompletionsServer:
    """Serves on a free port of the loopback; a context manager.

    Args:
        tokenizer: for texts.
        abilities: what it can do, of `ABILITIES`; also `content`: ids as llama.cpp gives them.
        strict: whether it answers 400 to a field that it does not know, instead of ignoring it.
        models: what it serves.
        context: its `max_model_len`.
        delay: seconds before every answer.
        max_tokens: so many instead of a request's own `max_tokens`, if given.
    """

    def __init__(
        self,
        tokenizer: Any,
        abilities: Sequence[str] | frozenset[str] = ABILITIES,
        *,
        strict: bool = False,
        models: Sequence[str] = ("tiny",),
        context: int | None = 200,
        delay: float = 0.0,
        max_tokens: int | None = None,
    ) -> None:
        self.tokenizer, self.abilities, self.strict = tokenizer, frozenset(abilities), strict
        self.models, self.context, self.delay = list(models), context, delay
        self.max_tokens = max_tokens
        self.pause = 0.0  # seconds between the bytes of a reply
        self.fault: Fault = lambda number, body: None
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.underway = self.most_underway = 0
        self._lock = threading.Lock()
        self.letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def continuation(
        self, prompt: Sequence[int], count: int, temperature: float, seed: int, top_k: int = 0
    ) -> list[int]:
        """What the model says: letters, and now and then the end."""
        random_ = random.Random(seed) if temperature > 0 and top_k != 1 else None
        ids: list[int] = []
        while len(ids) < count and (not ids or ids[-1] != self.tokenizer.eos_token_id):
            place = random_.randrange(30) if random_ else (7 * sum(prompt) + 11 * sum(ids) + len(ids)) % 30
            ids.append(
                self.letters[place] if place < 26 else self.letters[0] if len(ids) < 9 else self.tokenizer.eos_token_id
            )
        return ids

    @staticmethod
    def logprob(token: int) -> float:
        return -((token * 37) % 101) / 50

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and reply to a completion request."""
        known = {"model", "prompt", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "logprobs"}
        if self.strict and set(body) - known:
            return 400, {"error": {"message": f"unknown fields: {sorted(set(body) - known)}"}}
        if body["prompt"] == [66]:
            return 400, {"error": {"message": "a token that\nI don't like"}}
        n = body.get("n", 1)
        if n > 1 and "n" not in self.abilities:
            return 400, {"error": "one at a time"}
        seed = body.get("seed", 0) if "seed" in self.abilities else random.randrange(10**9)
        choices = [self._choice(body, i, seed + i) for i in range(n)]
        return 200, {"choices": choices, "usage": {"prompt_tokens": len(body["prompt"])}}

    def _choice(self, body: dict[str, Any], index: int, seed: int) -> dict[str, Any]:
        prompt, can = body["prompt"], self.abilities
        top_k = body.get("top_k", 0) if "top_k" in can else 0
        ids = self.continuation(
            prompt, self.max_tokens or body["max_tokens"], body.get("temperature", 1.0), seed, top_k
        )
        text, reason = self._text(ids), "length"
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            reason = "stop"
        ends = body.get("stop_token_ids", []) if "stop_token_ids" in can else []
        end = next((i + 1 for i, token in enumerate(ids) if token in ends), None)
        if end is not None:
            ids, reason = ids[:end], "stop"
            text = self._text(ids[:-1])
        for stop in body.get("stop", []) if "stop" in can else []:
            if stop in text:
                text, reason = text[: text.index(stop)], "stop"
                kept = next(i for i in range(len(ids) + 1) if stop in self._text(ids[:i]))
                ids = ids[:kept]
        choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": reason}
        if "token_ids" in can and body.get("return_token_ids"):
            choice["token_ids"] = ids
        if body.get("logprobs") is not None and "content" in can:
            listed = ids if not body.get("stop") or reason == "length" else self.tokenizer(text)["input_ids"]
            choice["logprobs"] = {
                "content": [{"id": i, "token": self._text([i]), "logprob": self.logprob(i)} for i in listed]
            }
        elif body.get("logprobs") is not None and "logprobs" in can:
            strings = "token_strings" in can and body.get("return_tokens_as_token_ids")
            chosen = body.get("logprob_token_ids", []) if "chosen_logprobs" in can else []
            echoed = prompt if "echo" in can and body.get("echo") else []
            values: list[float | None] = [self.logprob(i) for i in [*echoed, *ids]]
            choice["logprobs"] = {
                "tokens": [f"token_id:{i}" if strings else self._text([i]) for i in [*echoed, *ids]],
                "token_logprobs": [None, *values[1:]] if echoed else values,
                "top_logprobs": [{f"token_id:{i}": self.logprob(i) for i in chosen}],
            }
        if "prompt_logprobs" in can and body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [None, *({str(i): {"logprob": self.logprob(i)}} for i in prompt[1:])]
        return choice

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _handler(owner: CompletionsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            entries = [{"id": name, "owned_by": "tests", "max_model_len": owner.context} for name in owner.models]
            self._send(200, {"data": entries} if self.path == "/v1/models" else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/v1/load_lora_adapter":
                able = "adapters" in owner.abilities
                if able:
                    owner.models.append(body["lora_name"])
                self._send(200 if able else 404, "loaded" if able else {"error": "no such route"})
                return
            with owner._lock:
                number = len(owner.bodies)
                owner.bodies.append(body)
                owner.keys.add(self.headers["authorization"])
                owner.underway += 1
                owner.most_underway = max(owner.most_underway, owner.underway)
            try:
                time.sleep(owner.delay)
                status, reply = owner.fault(number, body) or owner.answer(body)
            finally:
                with owner._lock:
                    owner.underway -= 1
            self._send(status, reply)

        def _send(self, status: int, reply: Any) -> None:
            if reply is None:
                self.close_connection = True
                return
            content = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "text/html" if isinstance(reply, str) else "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("retry-after-ms", "10")
            self.end_headers()
            size = 1 if owner.pause else len(content)
            with suppress(ConnectionError):  # whoever asked may have given up
                for start in range(0, len(content), size):
                    self.wfile.write(content[start : start + size])
                    time.sleep(owner.pause)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
