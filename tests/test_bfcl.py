"""BFCL with the official wheel: published answers, hostile answers, turns, and the official tool on our results."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from bfcl_answers import DONE, PublishedAnswers, play
from engines_at_hand import ScriptedEngine

from rolewise.core.errors import InputError
from rolewise.engines.base import Sampling
from rolewise.evaluation.prompting import Prompter
from rolewise.evaluation.runner import Runner
from rolewise.evaluation.suite import Answer, SuiteSettings
from rolewise.evaluation.suites import bfcl, make_suite
from rolewise.evaluation.suites.bfcl.categories import COLLECTIONS, MULTI_TURN, OTHER_LANGUAGES
from rolewise.evaluation.suites.bfcl.checker import OfficialChecker
from rolewise.evaluation.suites.bfcl.package import CHECKER, PARSERS, unpacked_packages
from rolewise.evaluation.suites.bfcl.suite import MAX_CHARACTERS

WORKER = Path(bfcl.__file__).with_name("worker")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the wheels in it: that of ROLEWISE_CACHE, else one fetched once for all tests."""
    folder = Path(os.environ.get("ROLEWISE_CACHE") or tmp_path_factory.mktemp("cache"))
    try:
        unpacked_packages([CHECKER, *PARSERS], folder)
    except InputError as error:
        pytest.skip(f"no official checker: {error}")
    return folder


@pytest.fixture(scope="module")
def data(cache):
    return unpacked_packages([CHECKER], cache)[0] / "bfcl_eval" / "data"


def make(cache, name="bfcl", **settings):
    return make_suite(name, SuiteSettings(data=None, cache=cache, **settings))


@pytest.fixture(scope="module")
def suites(cache):
    suites = {native: make(cache, native_tools=native) for native in (False, True)}
    yield suites
    for suite in suites.values():
        suite.close()


@pytest.fixture(params=[False, True], ids=["prompt", "native"])
def suite(request, suites):
    return suites[request.param]


@pytest.fixture
def prompted(suites):
    return suites[False]


@pytest.fixture
def native(suites):
    return suites[True]


def example(suite, id):
    return next(example for example in suite.examples() if example.id == id)


def published(suite, data, **options):
    return PublishedAnswers(data, native=suite._settings.native_tools, **options)


def with_index(examples):
    seen = Counter()
    for one in examples:
        yield seen[one.category], one
        seen[one.category] += 1


def finish(running, answers):
    """Give the rest of the answers; the verdict, and what was asked on the way."""
    asks = []
    try:
        for answer in answers:
            asks.append(running.send(Answer([answer], [])))
    except StopIteration as end:
        return end.value, asks
    raise AssertionError("the play goes on")


def test_the_wheel_has_all_tasks(prompted):
    counts = Counter(example.category for example in prompted.examples())
    assert counts["simple_python"] == 400
    assert counts["live_multiple"] == 1053
    assert all(counts[category] == 200 for category in MULTI_TURN)
    assert len({example.id for example in prompted.examples()}) == sum(counts.values()) == 4441


def test_published_answers_are_right_and_renamed_functions_wrong(suite, data):
    right, renamed = published(suite, data), published(suite, data, rename=True)
    for index, one in with_index(suite.examples()):
        if index == 3:
            verdict, _ = play(suite, one, right.of(one, index))
            assert verdict.score == 1, (one.id, verdict.reason)
            if "relevance" not in one.category:
                verdict, _ = play(suite, one, renamed.of(one, index))
                assert verdict.score == 0, one.id
                assert verdict.detail["error_type"]
                assert verdict.detail["error"]


@pytest.mark.slow
@pytest.mark.parametrize("rename", [False, True])
def test_every_published_answer(suite, data, rename):
    answers = published(suite, data, rename=rename)
    scores = defaultdict(list)
    for index, one in with_index(suite.examples()):
        if one.category not in OTHER_LANGUAGES and not (rename and "relevance" in one.category):
            scores[one.category].append(play(suite, one, answers.of(one, index))[0].score)
    assert suite.checker.starts == 1
    if rename:
        assert sum(map(sum, scores.values())) == 0
    else:
        python = [score for category in COLLECTIONS["python"] for score in scores[category]]
        assert sum(python) / len(python) >= 0.99
        assert all(scores[category] == [1] * 200 for category in MULTI_TURN)


def test_java_and_javascript_are_read_by_the_official_parsers(prompted, data):
    for id, wrong in (("simple_java_0", ("mapArea", "map")), ("simple_javascript_3", ("30", "31"))):
        one = example(prompted, id)
        (answer,) = published(prompted, data).of(one, int(id.rpartition("_")[2]))
        assert play(prompted, one, [answer])[0].score == 1
        assert wrong[0] in answer
        assert play(prompted, one, [answer.replace(*wrong)])[0].score == 0
        assert play(prompted, one, [answer.replace(")", "")])[0].detail["error_type"] == "ast_decoder:decoder_failed"


def test_no_call_is_right_where_none_is_due_and_only_there(suite):
    for category, score in (("irrelevance", 1), ("live_irrelevance", 1), ("live_relevance", 0), ("simple_python", 0)):
        one = next(example for example in suite.examples() if example.category == category)
        for text in ("", "[]", "I can't help with that."):
            assert play(suite, one, [text])[0].score == score, (category, text)


def test_thoughts_and_special_tokens_are_no_part_of_a_prompted_answer(prompted, data):
    one = example(prompted, "simple_python_0")
    (answer,) = published(prompted, data).of(one, 0)
    for text in (f"<think>[f(x=1)]?</think>\n{answer}", f"<|python_tag|>{answer}<|eom_id|>", f"{answer}</s>\n"):
        verdict, _ = play(prompted, one, [text])
        assert verdict.score == 1
        assert verdict.detail["result"] == answer
    assert play(prompted, one, [f"Here: {answer}"])[0].score == 0


def test_the_official_prompt_is_asked(prompted, data):
    one = example(prompted, "simple_python_0")
    _, (ask,) = play(prompted, one, [""])
    entry = json.loads((data / "BFCL_v4_simple_python.json").read_text(encoding="utf-8").splitlines()[0])
    assert [message["role"] for message in ask.messages] == ["system", "user"]
    assert ask.messages[1] == entry["question"][0][0]
    assert json.dumps(entry["function"][0]["parameters"], indent=4).splitlines()[-2] in ask.messages[0]["content"]
    assert ask.tools is None
    assert ask.max_new_tokens == 4096


def test_native_tools_have_names_without_dots_and_json_types(native):
    one = example(native, "simple_python_1")
    _, (ask,) = play(native, one, [""])
    (tool,) = ask.tools
    assert [message["role"] for message in ask.messages] == ["user"]
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "math_factorial"
    assert tool["function"]["parameters"]["type"] == "object"
    call = '{"name": "%s", "arguments": {"number": 5}}'
    assert play(native, one, [call % "math_factorial"])[0].score == 1
    assert play(native, one, [call % "math.factorial"])[0].score == 0
    # A call that can't be read makes the whole answer text, as on a server.
    assert (
        play(native, one, [f"<tool_call>{call % 'math_factorial'}</tool_call><tool_call>{{]</tool_call>"])[0].score == 0
    )


def test_turns_go_on_until_no_call_is_read(suite, data):
    one = example(suite, "multi_turn_base_0")
    answers = published(suite, data).of(one, 0)
    verdict, asks = play(suite, one, answers)
    assert verdict.score == 1
    assert len(asks) == len(answers)
    turns = verdict.detail["result"]
    assert [turn[-1] for turn in turns] == [DONE] * len(turns)
    roles = [message["role"] for message in asks[1].messages]
    if suite._settings.native_tools:
        assert roles == ["user", "assistant", *["tool"] * len(asks[1].messages[1]["tool_calls"])]
        assert "current_working_directory" in asks[1].messages[2]["content"]
    else:
        assert roles == ["system", "user", "assistant", "user"]
        assert "current_working_directory" in asks[1].messages[3]["content"]
        assert asks[1].messages[2]["content"] == answers[0]
    # The state stays over turns, and starts afresh with the next play.
    assert play(suite, one, answers)[0].score == 1
    assert play(suite, one, answers[2:])[0].score == 0


def test_too_many_steps_end_the_play(suite, data):
    one = example(suite, "multi_turn_base_0")
    call = published(suite, data)._written([("pwd", {})], "multi_turn_base")
    verdict, asks = play(suite, one, [call] * 100)
    assert len(asks) == 21
    assert verdict.detail["error_type"] == "multi_turn:force_terminated"


def test_functions_that_were_held_back_come_later(suite):
    one = example(suite, "multi_turn_miss_func_0")
    _, asks = play(suite, one, [])
    before, after = asks[2], asks[3]
    told = after.messages[-1]["content"]
    assert after.messages[-1]["role"] == "user"
    if suite._settings.native_tools:
        names = [{tool["function"]["name"] for tool in ask.tools} for ask in (before, after)]
        assert names[1] - names[0] == {"sort"}
    else:
        assert "'name': 'sort'" in told
        assert '"name": "sort"' not in before.messages[0]["content"]


HOSTILE = [
    "[" * 1_000_000,
    "[" * 90_000,
    "-" * 90_000 + "1",
    "f(x=" * 15_000,
    "__import__('os').system('touch PROOF')",
    "[f(x=__import__('os').system('touch PROOF') + 1)]",
    "[f(x=lambda: __import__('os').system('touch PROOF'))]",
    "[open(file='PROOF', mode='w')]",
    "[inspect.os.system(command='touch PROOF')]",
    "[json.codecs.open(filename='PROOF', mode='w')]",
    "[cd(folder=open(file='PROOF', mode='w'))]",
    "[mkdir(dir_name={\"__import__('os').system('touch PROOF') or x\": {}})]",
    "[mkdir(**{\"dir_name=open('PROOF', 'w') or \": 1})]",
    '{"name": "open", "arguments": {"file": "PROOF", "mode": "w"}}',
    '{"name": "mkdir", "arguments": {"dir_name=open(\'PROOF\', \'w\'), x": 1}}',
    '{"name": "__import__(\'os\').system", "arguments": {"command": "touch PROOF"}}',
    "math(10**10**10)",
    "[calculate_triangle_area(base=10**10**10, height=5)]",
    "[calculate_triangle_area(base=1 << 10**12, height=5)]",
    "[calculate_triangle_area(base='a' * 10**10, height=5)]",
    "[f(x='\ud800')]",
    "\x00",
]


@pytest.mark.parametrize("id", ["simple_python_0", "simple_java_0", "multi_turn_base_0"])
def test_hostile_answers_are_wrong_and_not_carried_out(suite, tmp_path, id):
    one = example(suite, id)
    proof = tmp_path / "proof"
    for answer in HOSTILE:
        verdict, _ = play(suite, one, [answer.replace("PROOF", str(proof))] * 3)
        assert verdict.score == 0, answer[:80]
        assert verdict.reason
        assert "seconds" not in verdict.reason, answer[:80]  # none needs the time limit
        assert not proof.exists(), answer[:80]


def test_calls_of_anything_but_the_tools_end_the_play(prompted):
    one = example(prompted, "multi_turn_base_0")
    verdict, asks = play(prompted, one, ["[open(file='/nowhere/at/all')]"])
    assert verdict.detail["error_type"] == "rolewise:refused_call"
    assert len(asks) == 1
    # A function that does not exist is an ordinary mistake: the model is told, and may go on.
    _, asks = play(prompted, one, ["[no_such_tool(x=1)]"])
    assert "name 'no_such_tool' is not defined" in asks[1].messages[-1]["content"]


def test_an_answer_that_hangs_is_wrong_and_others_go_on(cache, data):
    suite = make(cache, "bfcl:multi_turn_base")
    try:
        suite._official = OfficialChecker(unpacked_packages([CHECKER], cache), seconds=2)
        other, hanging = example(suite, "multi_turn_base_0"), example(suite, "multi_turn_base_15")
        # In the middle of one play another's answer stops the process, and with it all state.
        answers = published(suite, data).of(other, 0)
        _, undisturbed = play(suite, other, answers)
        running = suite.play(other)
        next(running)
        for answer in answers[:3]:
            running.send(Answer([answer], []))
        verdict, _ = play(suite, hanging, ["[power(base=7, exponent=10000000000)]"])
        assert verdict.detail["error_type"] == "rolewise:no_verdict"
        verdict, asks = finish(running, answers[3:])
        assert verdict.score == 1
        assert asks == undisturbed[4:]  # with the same results of the tools
        assert suite.checker.starts == 2
    finally:
        suite.close()


def test_no_answer_is_wrong_even_where_no_call_is_due(prompted):
    for id in ("irrelevance_0", "multi_turn_base_0"):
        running = prompted.play(example(prompted, id))
        next(running)
        with pytest.raises(StopIteration) as end:
            running.send(Answer([], [], error="the prompt is too long"))
        assert end.value.value.score == 0
        assert "too long" in end.value.value.reason
    assert MAX_CHARACTERS >= 4 * 4096


def test_the_worker_can_neither_write_nor_start_programs(tmp_path):
    code = """
import os, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
import serve
serve.give_up_rights()
for attempt in (
    lambda: open(sys.argv[2], "w"), lambda: os.open(sys.argv[2], os.O_CREAT), lambda: os.mkdir(sys.argv[2]),
    lambda: os.system("touch " + sys.argv[2]), lambda: subprocess.run(["touch", sys.argv[2]]), os.fork,
    lambda: socket.create_connection(("127.0.0.1", 9)), lambda: os.remove(sys.argv[2]),
):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit(1)
"""
    command = [sys.executable, "-c", code, str(WORKER), str(tmp_path / "proof")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert not (tmp_path / "proof").exists()


def test_a_runner_plays_it_through_a_chat_template(suite, data, chatml_tokenizer):
    one, several = example(suite, "simple_python_0"), example(suite, "multi_turn_base_0")
    answers = {one.id: published(suite, data).of(one, 0), several.id: published(suite, data).of(several, 0)}

    def answer(prompt, number):
        waiting = answers[several.id if "pwd" in prompt else one.id]
        return waiting.pop(0) if waiting else DONE

    runner = Runner(ScriptedEngine(chatml_tokenizer, answer), Prompter(chatml_tokenizer), Sampling())
    assert {played.example.id: played.verdict.score for played in runner.play(suite, [one, several])} == {
        one.id: 1,
        several.id: 1,
    }


OFFICIAL_RUN = """
import sys
from types import SimpleNamespace
folders, results, scores, native = sys.argv[1:5]
sys.path[:0] = folders.split(",")
import stand_ins
stand_ins.install()
from bfcl_eval.constants.model_config import MODEL_CONFIG_MAPPING
from bfcl_eval.eval_checker import eval_runner
from bfcl_eval.model_handler import utils
import json
from pathlib import Path

class Handler:
    def __init__(self, **settings): pass
    def decode_ast(self, result, language, has_tool_call_tag):
        if native == "True":
            return [{name: json.loads(text) for name, text in call.items()} for call in result]
        return utils.default_decode_ast_prompting(result, language, has_tool_call_tag)
    def decode_execute(self, result, has_tool_call_tag):
        return (utils.convert_to_function_call if native == "True" else utils.default_decode_execute_prompting)(result)

MODEL_CONFIG_MAPPING["rolewise"] = SimpleNamespace(
    model_name="rolewise", model_handler=Handler, is_fc_model=native == "True", underscore_to_dot=native == "True",
    input_price=None, output_price=None, display_name="rolewise", url="", org="", license="",
)
eval_runner.runner(["rolewise"], sys.argv[5:], Path(results), Path(scores), allow_missing=True)
"""


def test_the_official_tool_reads_our_results_and_agrees(suite, cache, data, tmp_path):
    right = published(suite, data)
    results = []
    for index, one in with_index(suite.examples()):
        if index in (2, 3):
            wrong = index == 3 and not one.category.startswith("live")  # live ones are weighted by all their tasks
            answers = ["[any_function(a=1)]", DONE] if wrong else right.of(one, index)
            results.append((one, play(suite, one, answers)[0]))
    results.reverse()  # the official tool sorts them itself
    suite.write_official(results, tmp_path)
    categories = sorted({one.category for one, _ in results})
    scores = tmp_path / "score"
    scores.mkdir()
    folders = ",".join(map(str, [WORKER, *unpacked_packages([CHECKER, *PARSERS], cache)]))
    command = [sys.executable, "-c", OFFICIAL_RUN, folders, str(tmp_path / "result"), str(scores)]
    command += [str(suite._settings.native_tools), *categories]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours = {score.name: score for score in suite.summarise(results)}
    theirs = {}
    for path in scores.rglob("*_score.json"):
        header = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        theirs[path.stem.removeprefix("BFCL_v4_").removesuffix("_score")] = header["accuracy"]
    assert theirs == {name: pytest.approx(ours[name].value) for name in categories}
    table = dict(zip(*csv.reader((scores / "data_overall.csv").open(encoding="utf-8")), strict=True))
    for column, group in (("Multi Turn Acc", "multi_turn"), ("Irrelevance Detection", "hallucination")):
        assert float(table[column].rstrip("%")) == pytest.approx(100 * ours[group].value, abs=0.01)
    # The official tool counts the agentic categories that are not here as 0, ours leaves them out.
    assert float(table["Overall Acc"].rstrip("%")) == pytest.approx(60 * ours["overall"].value, abs=0.01)
