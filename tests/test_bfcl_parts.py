"""What of BFCL needs no wheel: names, averages, guards, the fetching of wheels, and the checker's process."""

import subprocess
import time
import zipfile
from hashlib import sha256

import pytest

from rolewise.core.errors import InputError
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suite import SuiteSettings
from rolewise.evaluation.suites import make_suite
from rolewise.evaluation.suites.bfcl import checker as checker_module
from rolewise.evaluation.suites.bfcl import package
from rolewise.evaluation.suites.bfcl.categories import CATEGORIES, MULTI_TURN, chosen_categories, official_folder
from rolewise.evaluation.suites.bfcl.checker import CheckFailed, OfficialChecker
from rolewise.evaluation.suites.bfcl.modes import NativeMode, PromptMode
from rolewise.evaluation.suites.bfcl.package import CHECKER, PARSERS, Pin, read_pins, unpacked_packages
from rolewise.evaluation.suites.bfcl.scores import summarise
from rolewise.evaluation.suites.bfcl.worker.guard import CallGuard, Refused, evaluate_arithmetic


def test_parts_are_categories_or_collections_of_them():
    assert chosen_categories("bfcl") == CATEGORIES
    assert len(set(CATEGORIES)) == 17
    assert chosen_categories("bfcl:live_simple+simple_python") == ("simple_python", "live_simple")
    assert chosen_categories("bfcl:multi_turn+multi_turn_base") == MULTI_TURN
    assert set(chosen_categories("bfcl:single_turn+multi_turn")) == set(CATEGORIES)
    assert "irrelevance" in chosen_categories("bfcl:non_live")
    assert [official_folder(name) for name in ("irrelevance", "live_relevance", "multi_turn_base")] == [
        "non_live",
        "live",
        "multi_turn",
    ]


@pytest.mark.parametrize("name", ["bfcl:memory", "bfcl:", "bfcl:live,simple", "bfcl:live+"])
def test_an_unknown_part_is_named_with_those_that_there_are(name, tmp_path):
    with pytest.raises(InputError, match=r"no part .* here; choose from non_live, .*multi_turn_long_context"):
        make_suite(name, SuiteSettings(data=None, cache=tmp_path))
    assert not list(tmp_path.iterdir())


def results(**scores):
    return [
        (Example(f"{category}_{i}", category, None), Verdict(score))
        for category, values in scores.items()
        for i, score in enumerate(values)
    ]


def test_groups_are_averaged_as_the_leaderboard_does():
    played = results(
        simple_python=[1, 1, 1, 1],
        simple_java=[1, 0],
        simple_javascript=[0, 0],
        multiple=[1, 1],
        parallel=[0, 0],
        parallel_multiple=[1, 0],
        irrelevance=[1, 0],
        live_simple=[1],
        live_multiple=[0],
        live_parallel=[1],
        live_parallel_multiple=[0],
        live_irrelevance=[1],
        live_relevance=[0],
        multi_turn_base=[1, 0],
        multi_turn_miss_func=[0],
        multi_turn_miss_param=[0],
        multi_turn_long_context=[0],
    )
    sizes = dict.fromkeys(CATEGORIES, 1) | {"live_simple": 258, "live_multiple": 1053, "live_parallel": 16}
    scores = {score.name: score for score in summarise(played, sizes)}
    non_live = ((1 + 0.5 + 0) / 3 + 1 + 0 + 0.5) / 4
    live = (258 + 16) / (258 + 1053 + 16 + 1)
    assert scores["non_live"].value == pytest.approx(non_live)
    assert scores["live"].value == pytest.approx(live)
    assert scores["hallucination"].value == pytest.approx(0.75)
    assert scores["multi_turn"].value == pytest.approx(0.125)
    assert scores["overall"].value == pytest.approx((10 * non_live + 10 * live + 10 * 0.75 + 30 * 0.125) / 60)
    assert scores["overall"].note == "BFCL v4 weighting; partial: without agentic"
    assert scores["overall"].low < scores["overall"].value < scores["overall"].high
    assert scores["overall"].count == len(played) - 1  # live_relevance is in no group
    assert list(scores)[:5] == ["overall", "non_live", "live", "hallucination", "multi_turn"]


def test_what_is_missing_is_said():
    played = results(simple_python=[1, 0], multi_turn_base=[1])
    sizes = {"simple_python": 400, "live_parallel": 16, "multi_turn_base": 200}
    overall, *rest = summarise(played, sizes)
    assert overall.value == pytest.approx((10 * 0.5 + 30 * 1) / 40)
    assert [score.name for score in rest] == ["simple_python", "multi_turn_base"]
    assert "without agentic, simple_java, " in overall.note
    assert ", hallucination, multi_turn_miss_func" in overall.note
    assert overall.note.endswith("nothing drawn of live_parallel")
    (overall, _) = summarise(results(live_relevance=[1, 0]), {"live_relevance": 16})
    assert overall.value == 0.5
    assert "not part of" in overall.note


@pytest.mark.parametrize(
    ("source", "value"), [("2 * 3.5", 7.0), ("10 ** -2", 0.01), ("'a' + 'b'", "ab"), ("-1 - 2", -3)]
)
def test_arithmetic_of_literals_is_worked_out(source, value):
    assert evaluate_arithmetic(source) == value


@pytest.mark.parametrize(
    "source",
    [
        "x + 1",
        "f() + 1",
        "().__class__",
        "[a for a in (1,)]",
        "10 ** 10 ** 10",
        "1 << 10 ** 12",
        "f'{1}' + ''",
        "(x := 1)",
    ],
)
def test_other_expressions_are_refused(source):
    with pytest.raises(Refused):
        evaluate_arithmetic(source)


class Tool:
    def __init__(self):
        self.calls = []

    def add(self, *values, **named):
        self.calls.append((values, named))
        return len(self.calls)

    def _hidden(self):
        self.calls.append("hidden")


@pytest.fixture
def guard():
    return CallGuard({"a_instance": Tool(), "module": subprocess, "other": Tool()})


@pytest.mark.parametrize(
    "source", ["a_instance.add(1, b=[-2, {'c': (None, 3.5)}])", "a_instance.add(x=a_instance.add(y={1, 2}))"]
)
def test_calls_of_tools_with_literals_are_carried_out(guard, source):
    assert guard(source) >= 1
    assert guard.refused is None


@pytest.mark.parametrize(
    "source",
    [
        "a_instance.calls",
        "a_instance._hidden()",
        "a_instance.calls.append(1)",
        "a_instance.add.__globals__.get('x')",
        "other.add(1)",
        "module.run('x')",
        "a_instance.add(module)",
        "a_instance.add(open('x'))",
        "a_instance.add(*[1])",
        "a_instance.add(**{'x': 1})",
        "a_instance.add(x={**{}})",
        "a_instance.add(x=[i for i in (1,)])",
        "a_instance.add(x='a' * 3)",
        "exit()",
        "(lambda: 1)()",
    ],
)
def test_other_calls_are_refused_and_not_carried_out(guard, source):
    with pytest.raises(Refused):
        guard(source)
    assert "not a plain call" in guard.refused
    assert guard._namespace["a_instance"].calls == guard._namespace["other"].calls == []


@pytest.mark.parametrize(
    "source", ["nobody(x=1)", "nobody.add(x=1)", "a_instance.add(x=nobody)", "a_instance.add(nobody(1))"]
)
def test_an_unknown_name_is_pythons_own_error(guard, source):
    with pytest.raises(NameError, match="name 'nobody' is not defined"):
        guard(source)
    assert guard.refused is None


def test_native_calls_become_official_results_and_messages():
    text = 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"a": [1, "ü"]}}\n</tool_call>'
    result, message = NativeMode().read(text)
    assert result == [{"f": '{"a": [1, "ü"]}'}]
    assert message["content"] == "Let me see."
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": [1, "ü"]}}
    assert NativeMode().results(message, {"results": ["done"]}) == [{"role": "tool", "name": "f", "content": "done"}]
    for unreadable in ("No call.", '<tool_call>{"name": "f", "arguments": [}</tool_call>', "[f(a={1, 2})]"):
        assert NativeMode().read(unreadable) == (unreadable, {"role": "assistant", "content": unreadable})
    assert PromptMode().read("<think>\nhm\n</think>\n\n[f(a=1)]<|im_end|>")[0] == "[f(a=1)]"


@pytest.fixture
def pins(monkeypatch, tmp_path):
    """A package of our own, pinned: its wheel's bytes."""
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("bfcl_eval/__init__.py", "VALUE = 1\n")
    content = wheel.read_bytes()
    pin = Pin(CHECKER, "1.0", frozenset([sha256(content).hexdigest()]))
    monkeypatch.setattr(package, "read_pins", lambda: {CHECKER: pin})
    return content


def pip_that(monkeypatch, *, leaves=None, says=""):
    """Stands in for pip, which writes a wheel, or fails."""

    def run(command, **_):
        assert "--require-hashes" in command
        if leaves is not None:
            folder = command[command.index("--dest") + 1]
            with open(f"{folder}/bfcl_eval-1.0-py3-none-any.whl", "wb") as stream:  # noqa: PTH123
                stream.write(leaves)
        return subprocess.CompletedProcess(command, 1 if says else 0, "", says)

    monkeypatch.setattr(package.subprocess, "run", run)


def test_a_wheel_is_fetched_once(pins, monkeypatch, tmp_path):
    pip_that(monkeypatch, leaves=pins)
    cache = tmp_path / "new" / "cache"
    (folder,) = unpacked_packages([CHECKER], cache)
    assert (folder / "bfcl_eval" / "__init__.py").read_text() == "VALUE = 1\n"
    assert not list(cache.glob(".fetch-*"))
    pip_that(monkeypatch, says="ERROR: asked again")
    assert unpacked_packages([CHECKER], cache) == [folder]


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        ({"leaves": b"something else"}, "pip gave no file"),
        (
            {"says": "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES from the requirements file."},
            "is not the pinned one",
        ),
        ({"says": "WARNING: Retrying\nERROR: No matching distribution found"}, "No matching distribution found"),
        ({"says": "/usr/bin/python: No module named pip"}, "this Python has no pip"),
    ],
)
def test_what_can_not_be_fetched_is_one_line(pins, monkeypatch, tmp_path, pip, reason):
    pip_that(monkeypatch, **pip)
    with pytest.raises(InputError, match=r"bfcl-eval 1\.0 can't be downloaded .*put it in .*wheels") as error:
        unpacked_packages([CHECKER], tmp_path / "cache")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache" / f"{CHECKER}-1.0").exists()


def test_a_wheel_at_hand_is_taken_if_it_is_the_pinned_one(pins, monkeypatch, tmp_path):
    pip_that(monkeypatch, says="ERROR: not to be asked")
    wheel = tmp_path / "wheels" / "bfcl_eval-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(pins + b"more")
    with pytest.raises(
        InputError, match=r"bfcl_eval-1\.0-py3-none-any\.whl: SHA-256 .* is not the pinned one of bfcl-eval"
    ):
        unpacked_packages([CHECKER], tmp_path)
    wheel.write_bytes(pins)
    assert unpacked_packages([CHECKER], tmp_path)[0].is_dir()


def test_every_package_is_pinned_by_version_and_digest():
    pins = read_pins()
    assert set(pins) == {CHECKER, *PARSERS}
    assert pins[CHECKER].version == "2026.3.23"
    assert len(pins[CHECKER].digests) == 1
    assert all(len(digest) == 64 for pin in pins.values() for digest in pin.digests)


SCRIPT = """
import json, os, sys, time
print('{"value": "ready"}', flush=True)
for line in sys.stdin:
    operation, arguments = json.loads(line)
    if operation == "hang": time.sleep(600)
    if operation == "die": os._exit(1)
    if operation == "fail": print(json.dumps({"error": "KeyError: 'x'"}), flush=True)
    else: print(json.dumps({"value": [operation, arguments, sorted(os.environ)]}), flush=True)
"""


@pytest.fixture
def script(monkeypatch, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    monkeypatch.setattr(checker_module, "_SCRIPT", path)
    return path


def test_the_process_is_started_once_and_again_after_an_end(script, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    checker = OfficialChecker([tmp_path], seconds=2)
    try:
        assert checker.starts == 0
        for number in range(3):
            operation, arguments, variables = checker.request("ask", number=number, text="é\ud800\n")
            assert (operation, arguments) == ("ask", {"number": number, "text": "é\ud800\n"})
            assert "SOME_API_KEY" not in variables
        with pytest.raises(CheckFailed, match="the checker failed: KeyError: 'x'"):
            checker.request("fail")
        assert checker.starts == 1
        with pytest.raises(CheckFailed, match="ended the checker's process"):
            checker.request("die")
        started = time.monotonic()
        with pytest.raises(CheckFailed, match="more than 2 seconds"):
            checker.request("hang")
        assert time.monotonic() - started < 60
        assert checker.request("ask")[0] == "ask"
        assert checker.starts == 3
        process = checker._process
    finally:
        checker.close()
    assert process.poll() is not None
    checker.forget("no process, no need to start one")
    assert checker.starts == 3


def test_a_process_that_does_not_start_is_one_line(script, tmp_path):
    script.write_text('print(\'{"error": "ImportError: no bfcl_eval"}\')')
    with pytest.raises(InputError, match=r"can't be started \(ImportError: no bfcl_eval\); delete that folder"):
        OfficialChecker([tmp_path]).request("ask")
    script.write_text("raise SystemExit(1)")
    with pytest.raises(InputError, match="it ended at once"):
        OfficialChecker([tmp_path]).request("ask")
