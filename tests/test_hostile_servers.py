"""Whatever a server sends, each client ends in one clear line, in the time and the memory that it may take."""

import gzip
import importlib
import time

import pytest
from hostile_server import OK, hostile_server, then_for_ever, whole

from rolewise.core import limits
from rolewise.core.errors import InputError, RolewiseError
from rolewise.engines import chat, endpoints
from rolewise.evaluation.sources import DataFile, find_file
from rolewise.evaluation.suite import SuiteSettings
from rolewise.rewards.process_reward import Solution
from rolewise.rewards.process_reward_server import ServerReward

PATIENCE = 0.4
"""Seconds that a request may take here."""

DRIP = 0.02
"""Seconds between bytes: far less than `PATIENCE`, which therefore must be that of the whole."""


def ask_chat(url):
    client = chat.ChatClient(url + "/v1", "m", who="judge", retries=0)
    try:
        client.check()
    finally:
        client.close()


def ask_endpoint(url):
    endpoints.first_model(url, None)


def ask_rewards(url):
    model = ServerReward(url + "/score", timeout=PATIENCE, retries=0)
    try:
        model.score([Solution("1 + 1?", ("2",))])
    finally:
        model.close()


CLIENTS = {"chat": ask_chat, "completions": ask_endpoint, "rewards": ask_rewards}


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    importlib.import_module("openai.resources.chat.completions")  # the first use would take seconds to load it
    monkeypatch.setattr(limits, "MAX_REPLY_BYTES", 100_000)
    monkeypatch.setattr(chat, "_TIMEOUT", PATIENCE)
    monkeypatch.setattr(endpoints, "FIRST_TIMEOUT", PATIENCE)
    monkeypatch.setattr(endpoints, "FIRST_RETRIES", 0)


def failure(client, pieces, pause=0.0):
    """What a client says of such an answer; one line, soon, that can't steer a terminal."""
    start = time.monotonic()
    with hostile_server(pieces, pause=pause) as url:
        with pytest.raises(RolewiseError) as error:
            CLIENTS[client](url)
        took = time.monotonic() - start
        said = str(error.value)
        assert url in said
    assert took < 3 * PATIENCE + 2
    assert said.isprintable()
    assert len(said) < 600
    return said


SLOW = {
    "headers": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
    "more headers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", b"A: a\r\n"),
    "body": (OK + b"\r\n", b" "),
    "body of known length": (OK + b"Content-Length: 5000\r\n\r\n", b" "),
    "chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n", b" "),
    "chunk's length": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("part", SLOW)
def test_the_time_limit_is_that_of_the_whole_reply(client, part):
    assert f"within {PATIENCE:g} s" in failure(client, then_for_ever(*SLOW[part]), DRIP)


ENDLESS = {
    "body": then_for_ever(OK + b"\r\n", b" " * 10_000),
    "chunks": then_for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2710\r\n" + b" " * 10_000 + b"\r\n"),
    "redirection": then_for_ever(b"HTTP/1.1 302 Found\r\nLocation: /v1/models\r\n\r\n", b" " * 10_000),
    "packed": whole(gzip.compress(b" " * 10_000_000), headers=b"Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_reply_is_not_kept(client, kind):
    assert "more than" in failure(client, ENDLESS[kind])


@pytest.mark.parametrize("client", CLIENTS)
def test_endless_headers_end(client):
    said = failure(client, then_for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 5000 + b"\r\n"))
    assert "can't be reached (" in said or "broke the connection (" in said


@pytest.mark.parametrize("client", CLIENTS)
def test_deep_json_is_no_json(client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REPLY_BYTES", 1_000_000)
    assert "JSON" in failure(client, whole(b"[" * 200_000 + b"]" * 200_000))


STEERING = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202e \r\n second line \x00 " + "long " * 5000


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [b"400 Bad Request", b"422 No", b"500 Broken", b"503 Busy", b"418 \x1b[31mred"])
@pytest.mark.parametrize("body", [{"error": {"message": STEERING}}, {"error": STEERING}, STEERING.encode(), b""])
def test_a_servers_message_steers_no_terminal(client, status, body):
    assert status[:3].decode() in failure(client, whole(body, status))


@pytest.mark.parametrize(("piece", "said"), [(b" ", "not done within"), (b" " * 10_000, "more than")])
def test_a_download_has_its_time_and_size(tmp_path, monkeypatch, piece, said):
    monkeypatch.setattr(limits, "MAX_DOWNLOAD_SECONDS", PATIENCE)
    monkeypatch.setattr(limits, "MAX_DOWNLOAD_BYTES", 100_000)
    start = time.monotonic()
    with hostile_server(then_for_ever(OK + b"\r\n", piece), pause=DRIP) as url:
        file = DataFile("rows.json", f"{url}/rows.json", None, "rows.json")
        with pytest.raises(InputError, match=f"^[^\n]*cannot download: [^\n]*{said}[^\n]*$"):
            find_file(file, SuiteSettings(data=None, cache=tmp_path))
    assert time.monotonic() - start < PATIENCE + 2
    assert list(tmp_path.rglob("rows*")) == []
