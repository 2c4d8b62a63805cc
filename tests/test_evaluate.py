"""`rolewise eval` on a tiny model: what it writes, resuming, adapters, comparing, and what it refuses."""

import json
import shutil
import signal
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import forked
import pytest
import torch
from completions_server import ABILITIES, CompletionsServer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from workbench import lasting_files_of

from rolewise.cli.main import main
from rolewise.core.errors import InputError
from rolewise.evaluation.runner import Runner
from rolewise.jobs.eval_comparison import comparison_notes, comparison_table
from rolewise.jobs.eval_report import suite_notes
from rolewise.jobs.evaluate import EvalResult, evaluate, read_eval, suite_settings
from rolewise.options.answers import EvalOptions

PLUGIN = Path(__file__).with_name("suite_plugin.py")


def arguments(bench, output, *more):
    given = ["eval", "--model", bench.model, "--suite", "short_answers", "--plugin", PLUGIN, "--output", output, *more]
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def evaluated(bench, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated") / "scores"
    with redirect_stdout(StringIO()) as printed:
        assert main(arguments(bench, output)) == 0
    return output, printed.getvalue()


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_verdicts_and_summary_are_written(evaluated):
    output, printed = evaluated
    answers = lines_of(output / "answers" / "short_answers.jsonl")
    verdicts = lines_of(output / "verdicts" / "short_answers.jsonl")
    assert [line["id"] for line in answers] == [line["id"] for line in verdicts] == [f"q{i}" for i in range(30)]
    assert answers[4]["asked"][0]["prompt"] == "<|im_start|>user\nSay 4 words.<|im_end|>\n<|im_start|>assistant\n"
    assert len(answers[4]["asked"][0]["ids"][0]) == verdicts[4]["detail"]["length"]
    summary = json.loads((output / "summary.json").read_text())["suites"]["short_answers"]
    overall = sum(line["score"] for line in verdicts) / 30
    assert [s["name"] for s in summary["scores"]] == ["overall", "category 0", "category 1", "category 2"]
    assert summary["scores"][0]["value"] == pytest.approx(overall)
    assert summary["scores"][0]["low"] < overall < summary["scores"][0]["high"]
    official = (output / "official" / "short_answers" / "lengths.txt").read_text().split()
    assert official == [str(line["detail"]["length"]) for line in verdicts]
    assert "Short answers" in (output / "report.html").read_text()
    assert f"{overall:.1%}" in printed
    assert json.loads((output / "run.json").read_text())["engine"]


def test_the_same_command_again_does_nothing(bench, evaluated, capsys):
    output, _ = evaluated
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert main(arguments(bench, output)) == 0
    assert "already evaluated" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_killed_run_loses_nothing_and_gives_the_same(bench, evaluated, tmp_path):
    whole, _ = evaluated
    output = tmp_path / "scores"
    marker = tmp_path / "marker"
    killing = {"folder": tmp_path, "KILLED_AT": "q20", "KILLED_MARKER": str(marker)}
    command = arguments(bench, output, "--batch-size", 1)
    assert forked.end_of(forked.start(main, command, **killing)) == -signal.SIGKILL
    said_before = forked.log_of(tmp_path).stat().st_size
    kept = len((output.with_name("scores.partial") / "work" / "0.jsonl").read_bytes().splitlines())
    code = forked.end_of(forked.start(main, command, **killing))
    said = forked.log_of(tmp_path).read_bytes()[said_before:].decode()
    assert code == 0, said
    assert f"{kept} of 30" in said or kept == 0
    ours, theirs = lasting_files_of(output), lasting_files_of(whole)
    # The page has the run's name, the config where it lay and what it was run with.
    assert {k: v for k, v in ours.items() if k != "config.yaml"} == {
        k: v for k, v in theirs.items() if k != "config.yaml"
    }
    assert not output.with_name("scores.partial").exists()


def test_a_limit_draws_over_categories(bench, tmp_path):
    options = EvalOptions(
        model=str(bench.model), suite="short_answers", plugin=str(PLUGIN), output=str(tmp_path / "o"), limit=6
    )
    result = evaluate(options)
    assert [score.count for score in result.scores["short_answers"]] == [6, 2, 2, 2]


def test_an_adapter_is_loaded_on_its_base(bench, evaluated, tmp_path):
    adapter = tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(bench.model)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(adapter)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(bench.model)
    result = evaluate(
        EvalOptions(model=str(adapter), suite="short_answers", plugin=str(PLUGIN), output=str(tmp_path / "tuned"))
    )
    merged = tmp_path / "merged"
    shutil.copytree(bench.model, merged)
    model.merge_and_unload().save_pretrained(merged)
    same = evaluate(
        EvalOptions(model=str(merged), suite="short_answers", plugin=str(PLUGIN), output=str(tmp_path / "whole"))
    )
    base_answers = (evaluated[0] / "answers" / "short_answers.jsonl").read_text()
    tuned_answers = (result.path / "answers" / "short_answers.jsonl").read_text()
    assert tuned_answers == (same.path / "answers" / "short_answers.jsonl").read_text()
    assert tuned_answers != base_answers


@pytest.fixture(scope="module")
def lora(bench, tmp_path_factory):
    """A new adapter of the tiny model; tests change copies."""
    directory = tmp_path_factory.mktemp("lora") / "adapter"
    base = AutoModelForCausalLM.from_pretrained(bench.model)
    get_peft_model(base, LoraConfig(r=4, target_modules="all-linear")).save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_model_name_or_path": "/nowhere/base"}, "its base model /nowhere/base is missing; set base_model"),
        ({"base_model_name_or_path": None}, "does not name its base model"),
        ({"peft_type": "NOPE"}, "this adapter does not fit"),
        ({"r": 5}, "size mismatch for"),
        ({}, "an adapter without weights (adapter_model.safetensors)"),
    ],
)
def test_an_adapter_that_can_not_be_used_is_named_in_one_line(change, says, bench, lora, tmp_path, capsys):
    adapter = changed_adapter(lora, tmp_path, change)
    if not change:
        (adapter / "adapter_model.safetensors").unlink()
    capsys.readouterr()
    assert main(arguments(bench, tmp_path / "out", "--model", str(adapter))) == 2
    error = capsys.readouterr().err
    assert says in error
    assert str(adapter) in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [adapter]


def changed_adapter(lora, folder, change):
    adapter = shutil.copytree(lora, folder / "adapter")
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    return adapter


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_an_adapter_whose_base_is_nowhere_is_told_from_one_without_a_tokenizer(
    own_tokenizer, bench, lora, tmp_path, capsys
):
    adapter = changed_adapter(lora, tmp_path, {"base_model_name_or_path": "some/model"})
    if own_tokenizer:
        bench.tokenizer().save_pretrained(adapter)
    assert main(arguments(bench, tmp_path / "out", "--model", str(adapter))) == 2
    error = capsys.readouterr().err
    assert (
        f"{adapter}: an adapter whose base model some/model is missing: there is no such folder, and the hub" in error
    )
    assert error.count("\n") == 1


def test_two_runs_are_compared_example_by_example(bench, evaluated, tmp_path, capsys):
    output, _ = evaluated
    command = arguments(bench, tmp_path / "limited", "--limit", "9", "--against", str(output), "--native-tools")
    assert main(command) == 0
    captured = capsys.readouterr()
    printed = " ".join(captured.out.split())
    assert "Comparison on shared examples" in printed
    assert "(McNemar," in printed  # the rest may stand in the cell's next line
    assert "+0.0% [+0.0%," in printed
    told = " ".join(captured.err.split())
    assert f"note: native_tools is False in {output} and True in {tmp_path / 'limited'}" in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--suite", "bfc"], "suite 'bfc' is not known; choose from bfcl, api_bank"),
        (["--suite", "short_answers,short_answers"], "names a suite twice"),
        (["--samples", "4"], "set a temperature above 0"),
        (["--samples", "4", "--temperature", "1"], "samples is 4, but short_answers takes one answer per question"),
        (["--limit", "0"], "limit is 0"),
        (["--suite", ","], "suite is ',', which names no suite"),
        (["--server", ","], "server is ',', which names none; give its URL"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--temperature", "inf"], "temperature is inf"),
        (["--suite", "short_answers:long"], "short_answers takes nothing after its name"),
        (["--data-dir", "nowhere"], "nowhere: no such folder"),
        (["--judge", "url"], "judge is 'url'; give it as url="),
        (["--served-model", "x"], "served_model needs server"),
        (["--against", "nowhere"], "nowhere: holds no finished evaluation"),
        (["--model", "nowhere"], "nowhere: no tokenizer found"),
        (["--output", "a" * 300], "aaa: cannot write: File name too long"),
        (["--model", "a" * 300], "aaa/adapter_config.json: file name too long"),
        (["--against", "a" * 300], "aaa: holds no finished evaluation"),
        (["--suite", "t_eval:" + "a" * 300], "choose from"),
        (["--server", "http://127.0.0.1:9/v1"], "http://127.0.0.1:9/v1"),
        (["--server", "http://127.0.0.1:9/v1", "--api-key", "NOT_SET_HERE"], "NOT_SET_HERE, which is not set"),
        (["--server", "http://127.0.0.1:9/v1", "--api-key", "sk-123"], "api_key must be the name of an environment"),
    ],
)
def test_what_can_not_be_done_is_refused_in_one_line(bench, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments(bench, "out"), *more]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1, captured.err
    assert not list(tmp_path.iterdir())


def test_every_sampling_option_reaches_the_engine(bench, tmp_path, monkeypatch):
    asked = []

    class Asked(Runner):
        def __init__(self, engine, prompter, sampling, *rest):
            asked.append(sampling)
            super().__init__(engine, prompter, sampling, *rest)

    monkeypatch.setattr("rolewise.jobs.evaluate.Runner", Asked)
    given = ["--temperature", "0.5", "--top-p", "0.6", "--top-k", "7", "--seed", "8", "--limit", "1"]
    assert main(arguments(bench, tmp_path / "out", *given)) == 0
    assert [(s.temperature, s.top_p, s.top_k, s.seed) for s in asked] == [(0.5, 0.6, 7, 8)]


def test_a_model_without_a_template_wants_one(bench, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(bench.model, bare)
    (bare / "chat_template.jinja").unlink()
    assert main(arguments(bench, tmp_path / "out", "--model", str(bare))) == 2
    assert "pass --chat-template" in capsys.readouterr().err
    assert main(arguments(bench, tmp_path / "out", "--model", str(bare), "--chat-template", "chatml")) == 0


def test_judge_and_folders_reach_the_suites(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ROLEWISE_DATA", str(tmp_path))
    options = EvalOptions(model="m", suite="s", output="o", judge="url=http://localhost/v1,model=a=b")
    settings = suite_settings(options)
    assert settings.judge == {"url": "http://localhost/v1", "model": "a=b"}
    assert (settings.cache, settings.data) == (tmp_path / "cache", tmp_path)
    assert suite_settings(EvalOptions(model="m", suite="s", output="o", judge='{"model": "x,y"}')).judge == {
        "model": "x,y"
    }


def test_where_the_judge_is_changes_nothing_and_which_it_is_does(bench, tmp_path, capsys):
    def run(judge):
        return main(arguments(bench, tmp_path / "out", "--limit", "3", "--judge", judge))

    assert run("url=http://a/v1,model=m") == 0
    assert run("url=http://b/v1,model=m,key=K,simulator_url=http://c/v1,simulator_key=L") == 0
    assert "already evaluated" in capsys.readouterr().err
    assert run("url=http://a/v1,model=n") == 2


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished evaluation"):
        read_eval(tmp_path)


def test_a_run_of_other_suites_is_refused_before_the_work(evaluated, bench, tmp_path, capsys):
    output, _ = evaluated
    command = ["eval", "--model", bench.model, "--suite", "gsm8k", "--output", tmp_path / "o", "--against", output]
    assert main([str(part) for part in command]) == 2
    assert "has short_answers, but none of gsm8k to compare with" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_same_suites_in_yaml_are_the_same_run(evaluated, bench, tmp_path, capsys):
    output, _ = evaluated
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {bench.model}\nsuite: [short_answers]\nplugin: {PLUGIN}\noutput: {output}\n")
    assert main(["eval", "--config", str(config)]) == 0
    assert "already evaluated" in capsys.readouterr().err


def test_a_relative_cache_is_found_from_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = EvalOptions(model="m", suite="s", output="o", cache_dir="cache")
    assert suite_settings(options).cache == tmp_path / "cache"


def run_of(name, **suites):
    """A finished run; of each suite its version and its scores by id, and `settings`."""
    settings = suites.pop("settings", {})
    return EvalResult(
        path=Path(name),
        scores={suite: [] for suite in suites},
        examples={suite: scores for suite, (_, scores) in suites.items()},
        titles={suite: suite.upper() for suite in suites},
        untested=[],
        versions={suite: version for suite, (version, _) in suites.items()},
        settings=settings,
        notes=[],
        was_finished=True,
    )


ONES, TWOS = {"q1": 1.0, "q2": 0.0}, {"q2": 1.0, "q3": 0.0}


def test_what_two_runs_differ_in_besides_the_model_is_said():
    asked = {"native_tools": False, "temperature": 0.0, "top_k": 0, "samples": 1, "limit": 9, "model": "a"}
    judged = {"data": "d1", "math-verify": "0.8", "judge": {"kind": "server", "model": "x"}}
    a = run_of("a", math=(judged, ONES), bfcl=({"sha256": "1", "tools": "in it"}, ONES), settings=asked)
    judged = {"data": "d1", "math-verify": "0.9", "judge": {"kind": "server", "model": "y" * 70}, "rule": "r"}
    asked = asked | {"native_tools": True, "temperature": 0.5, "top_k": 5, "limit": 5, "model": "b"}
    b = run_of("b", math=(judged, TWOS), bfcl=({"sha256": "2", "tools": "around"}, TWOS), settings=asked)
    assert comparison_notes(a, b) == [
        "native_tools is False in a and True in b",
        "temperature is 0.0 in a and 0.5 in b",
        "top_k is 0 in a and 5 in b",
        "math: math-verify is 0.8 in a and 0.9 in b",
        f"math: judge model is x in a and {'y' * 60}… in b",
        "math: rule is None in a and r in b",
    ]
    assert [row[0] for row in comparison_table(a, b).rows] == ["MATH", "BFCL"]
    assert comparison_notes(a, a) == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"data": "d1"}, {"data": "d2"}, False),
        ({"files": {"x": "1", "y": "2"}}, {"files": {"x": "1", "y": "3"}}, False),
        ({"files": {"x": "1", "y": "2"}}, {"files": {"x": "1", "z": "3"}}, True),
        ({}, {"data": "d2"}, True),
    ],
)
def test_examples_of_different_data_are_not_compared(first, second, same):
    a, b = run_of("a", s=(first, ONES), other=({}, ONES)), run_of("b", s=(second, ONES), other=({}, TWOS))
    told = "s: not compared, since a and b were played on different data"
    assert comparison_notes(a, b) == ([] if same else [told])
    assert [row[0] for row in comparison_table(a, b).rows] == (["S", "OTHER"] if same else ["OTHER"])
    if not same:
        with pytest.raises(InputError, match="a and b share no example; compare runs of the same suites on the same"):
            comparison_table(run_of("a", s=(first, ONES)), run_of("b", s=(second, ONES)))


def step(text, reason="stop", **more):
    return {"answers": [text], "finish_reasons": [reason], **more}


def test_what_makes_a_score_doubtful_is_noted():
    records = [
        {"id": "a", "asked": [step("fine"), step("too long", "length")]},
        {"id": "b", "asked": [step(" "), step("fine")]},
        {"id": "c", "asked": [{"answers": [], "finish_reasons": [], "error": "too long a prompt"}]},
        {"id": "d", "asked": []},
    ]
    assert suite_notes("s", records, {"data": "0a1b (not a file that is known)"}) == [
        "s: 1 of 4 examples got no answer; the first: too long a prompt",
        "s: 1 of 4 examples got an empty answer",
        "s: 1 of 4 examples got an answer that was cut off at the maximum length (max_new_tokens)",
        "s: played on a local copy that differs from the pinned file; its digest is in summary.json",
    ]
    assert suite_notes("s", [{"id": "a", "asked": [step("fine")]}], {"data": "0a1b"}) == []


@pytest.fixture
def server(bench):
    tokenizer = AutoTokenizer.from_pretrained(bench.model)
    with CompletionsServer(tokenizer, ABILITIES - {"seed"}) as server:
        yield server


def refuse_long(number, body):
    return (400, {"error": "no more"}) if body["max_tokens"] == 12 else None


def test_what_the_server_says_during_the_run_is_in_the_records(bench, server, tmp_path, capsys):
    output = tmp_path / "scores"
    server.fault = refuse_long
    assert main(arguments(bench, output, "--server", server.url, "--temperature", "1", "--limit", "3")) == 0
    notes = json.loads((output / "summary.json").read_text())["notes"]
    assert "the server ignores seeds: another run draws other samples" in notes
    assert any("3 of 3 examples got no answer; the first:" in note and "no more" in note for note in notes)
    assert notes[0] in json.loads((output / "run.json").read_text())["engine"]["notes"]
    assert "note: the server ignores seeds" in capsys.readouterr().err


def test_answers_of_two_served_models_are_not_mixed(bench, server, tmp_path, capsys):
    answered = []

    def die_after_some(number, body):
        if body["max_tokens"] != 12:
            return None
        answered.append(number)
        return (401, {"error": "expired"}) if len(answered) > 8 else None

    server.fault = die_after_some
    command = arguments(bench, tmp_path / "scores", "--server", server.url, "--concurrency", "2")
    assert main(command) == 2
    assert (tmp_path / "scores.partial" / "work" / "0.jsonl").read_bytes()
    server.fault = lambda number, body: None
    server.models = ["other"]
    capsys.readouterr()
    assert main(command) == 2
    assert "holds answers of tiny, but the server now serves other" in capsys.readouterr().err
    server.models = ["other", "tiny"]
    assert main([*command, "--served-model", "tiny"]) == 0


def test_a_suite_s_name_may_be_longer_than_a_file_s(bench, tmp_path):
    name = "short_answers" * 30
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN.read_text().replace('"short_answers"', f'"{name}"'))
    result = evaluate(
        EvalOptions(model=str(bench.model), suite=name, plugin=str(plugin), output=str(tmp_path / "o"), limit=2)
    )
    assert len(result.examples[name]) == 2


def test_a_finished_run_is_not_shown_for_another_served_model(bench, server, tmp_path, capsys):
    command = arguments(bench, tmp_path / "scores", "--server", server.url, "--limit", "3")

    def again(*more):
        capsys.readouterr()
        code = main([*command, *more])
        return code, " ".join(capsys.readouterr().err.split())

    assert again()[0] == 0
    code, said = again()
    assert code == 0
    assert "already evaluated" in said
    assert "holds answers" not in said
    server.models = ["other", "tiny"]
    refusal = f"{tmp_path / 'scores'}: holds answers of tiny, not of other; choose another output, or select the former"
    for more in ([], ["--served-model", "other"]):
        code, said = again(*more)
        assert (code, refusal in said) == (2, True), said
    code, said = again("--served-model", "tiny")
    assert code == 0
    assert "holds answers" not in said


def test_a_finished_run_says_whose_answers_it_holds_where_another_server_is_named(bench, server, tmp_path, capsys):
    command = arguments(bench, tmp_path / "scores", "--limit", "3", "--server")
    assert main([*command, server.url]) == 0
    with CompletionsServer(server.tokenizer) as other:
        asked = len(other.bodies)
        assert main([*command, other.url.removesuffix("/v1")]) == 0
        said = capsys.readouterr().err
        assert f"holds answers of tiny at {server.url}, none from {other.url}" in said
        assert len(other.bodies) == asked
    server.stop()
    assert main([*command, server.url]) == 0
    said = capsys.readouterr().err
    assert (
        f"holds answers of tiny; it is unknown whether the server still serves it: {server.url} can't be reached"
        in said
    )


def test_a_run_that_fails_before_an_answer_leaves_nothing(bench, server, tmp_path):
    server.fault = lambda number, body: (401, {"error": "expired"}) if body["max_tokens"] == 12 else None
    assert main(arguments(bench, tmp_path / "scores", "--server", server.url)) == 2
    assert not list(tmp_path.iterdir())


FAULTY = """
from rolewise.evaluation.suite import Ask, Suite
from rolewise.evaluation.examples import Example, Verdict
from rolewise.evaluation.suites import register_suite

class Faulty(Suite):
    name = title = "faulty"

    def examples(self):
        {examples}

    def play(self, example):
        yield Ask(messages=[{{"role": "user", "content": "hello"}}], max_new_tokens=2)
        return Verdict(1.0)

    def version(self):
        return {version}

register_suite("faulty", lambda settings: {made})
"""


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"examples": "return [Example('a', 'c', 0), Example('a', 'c', 1)]"}, "has 2 examples with the id 'a'"),
        ({"examples": "return []"}, "has no examples"),
        ({"examples": "raise KeyError('boom')"}, "its examples failed: KeyError: 'boom' (faulty.py:10); fix the suite"),
        ({"version": "{'a': {1}}"}, "its version failed: TypeError"),
        ({"made": "None"}, "the function registered for it returns None, not a Suite"),
    ],
)
def test_a_faulty_suite_is_refused_before_the_work(fault, says, bench, tmp_path, capsys):
    parts = {"examples": "return [Example('a', 'c', 0)]", "version": "{}", "made": "Faulty()", **fault}
    plugin = tmp_path / "faulty.py"
    plugin.write_text(FAULTY.format(**parts))
    assert main(arguments(bench, tmp_path / "out", "--suite", "faulty", "--plugin", str(plugin))) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [plugin]
