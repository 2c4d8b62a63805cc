"""Processes with a hard time limit: they hang, die, or fail to start, and the pool lives on."""

import os
import threading
import time

import pytest

from rolewise.core.errors import RolewiseError
from rolewise.rewards.worker_pool import DeadWorker, LateReply, WorkerPool

TOY = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        os._exit(3)
    if request["do"] == "hang":
        time.sleep(600)
    time.sleep(request.get("sleep", 0))
    print(json.dumps({"value": request["value"], "pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_worker.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    pool = WorkerPool("toy_worker", workers=2, limit=1.0)
    yield pool
    pool.close()


def echoes(values, **fields):
    return [{"do": "echo", "value": value, **fields} for value in values]


def test_replies_keep_the_order_of_requests_and_use_every_process(toy):
    replies = toy.ask_all([{**request, "sleep": 0.05 * (5 - request["value"])} for request in echoes(range(6))[1:]])
    assert [reply["value"] for reply in replies] == [1, 2, 3, 4, 5]
    assert len({reply["pid"] for reply in replies}) == 2
    assert toy.ask_all([]) == []


def test_what_hangs_or_dies_costs_its_own_reply_only(toy):
    ends = [{"do": "hang"}, {"do": "die"}, *echoes("ab"), {"do": "die"}, *echoes("c")]
    began = time.monotonic()
    replies = toy.ask_all(ends)
    assert time.monotonic() - began < 30
    assert [type(reply) for reply in replies] == [LateReply, DeadWorker, dict, dict, DeadWorker, dict]
    assert [reply["value"] for reply in replies if isinstance(reply, dict)] == ["a", "b", "c"]
    assert [reply["value"] for reply in toy.ask_all(echoes("d"))] == ["d"]


def test_a_process_that_died_between_two_calls_is_replaced(toy):
    first = toy.ask_all(echoes("ab", sleep=0.2))
    for pid in {reply["pid"] for reply in first}:
        os.kill(pid, 9)
    # The death may be noticed at once or by the request that meets it, never by the caller as a hang or an error.
    replies = [toy.ask_all(echoes("c"))[0] for _ in range(4)]
    assert all(isinstance(reply, DeadWorker) or reply["value"] == "c" for reply in replies)
    assert replies[-1]["value"] == "c"


def test_closing_leaves_no_process(toy):
    pids = {reply["pid"] for reply in toy.ask_all(echoes("ab", sleep=0.2))}
    toy.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):  # not even a zombie
            os.kill(pid, 0)
    assert toy.ask_all(echoes("c"))[0]["value"] == "c"


def test_started_early_they_get_ready_meanwhile_and_are_no_more_than_needed(toy):
    toy.start(1)
    toy.start(1)
    assert len(toy._workers) == 1
    toy.start(5)
    early = {worker.process.pid for worker in toy._workers}
    assert len(early) == 2
    waited = time.monotonic()
    while toy._replies.qsize() < 2 and time.monotonic() - waited < 60:
        time.sleep(0.01)
    for worker in toy._workers:
        worker.deadline = time.monotonic() - 1  # they were ready in time, whenever somebody asks
    assert {reply["pid"] for reply in toy.ask_all(echoes("ab", sleep=0.2))} == early


def test_threads_wait_for_one_another(toy):
    replies = {}

    def ask(name):
        replies[name] = [reply["value"] for reply in toy.ask_all(echoes([f"{name}{i}" for i in range(5)]))]

    threads = [threading.Thread(target=ask, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert replies == {name: [f"{name}{i}" for i in range(5)] for name in "xyz"}


def test_a_process_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_worker.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    pool = WorkerPool("broken_worker", workers=2, limit=1.0)
    with pytest.raises(RolewiseError, match=r"a helper process ended \(1\); .* -m broken_worker"):
        pool.ask_all(echoes("a"))
    assert pool._workers == []


def test_an_interrupted_call_leaves_no_reply_behind(toy, monkeypatch):
    toy.ask_all(echoes("a"))

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(toy._replies, "get", interrupt)
        with pytest.raises(KeyboardInterrupt):
            toy.ask_all(echoes("bc"))
    assert [reply["value"] for reply in toy.ask_all(echoes("de"))] == ["d", "e"]
