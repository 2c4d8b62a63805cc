"""`rolewise warmup`: from trees to data, and from data to a tuned tiny model; killed, resumed, and refused."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from completions_server import CompletionsServer
from safetensors.torch import load_file
from scripted_search import ScriptedModel
from transformers import AutoTokenizer
from workbench import lasting_files_of

from rolewise import InputError, WarmupOptions, make_warmup_data
from rolewise.cli.main import main
from rolewise.core.behaviour import RFTT, behaviours_of, find_behaviours
from rolewise.jobs import answering_run
from rolewise.jobs.label import plan_labelling
from rolewise.jobs.questions import read_questions
from rolewise.jobs.reinforce_data import load_questions
from rolewise.jobs.search import prepare
from rolewise.options.answers import SearchOptions
from rolewise.options.labelling import LabelOptions
from rolewise.options.training import ReinforceOptions
from rolewise.search.tree import Node, Question, Tree, write_trees
from rolewise.search.verdicts import VerdictWriter
from rolewise.training.functional_tokens import functional_token_ids

COUNT = 5


def leaf_of(tree: Tree, right: bool, *steps: tuple[str, str]) -> Node:
    node = tree.root
    for behaviour, text in steps:
        made = [child for child in tree.children(node) if child.text == text]
        node = made[0] if made else tree.add(node, behaviour, text=text)
    node.leaf, node.right, node.outcome, node.answer = True, right, float(right), "7" if right else "8"
    tree.rollouts.append(node.number)
    for passed in [tree.root, *tree.path(node)]:
        passed.visits += 1
        passed.value += float(right)
    return node


def tree_of(number: int, *, right: bool = True) -> Tree:
    """A shared step, a wrong and perhaps a right branch."""
    tree = Tree(Question(f"q{number}", f"What is {number} + 1?", str(number + 1)), "prompts")
    shared = ("clarify", f"We add 1 to {number}.")
    leaf_of(tree, False, shared, ("next_step", f"{number} + 1 = {number + 2}."), ("direct_answer", r"\boxed{0}"))
    if right:
        answer = rf"So \boxed{{{number + 1}}}."
        leaf_of(tree, True, shared, ("next_step", f"{number} + 1 = {number + 1}."), ("direct_answer", answer))
    return tree


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "trees.jsonl"
    write_trees(path, [tree_of(number) for number in range(COUNT)] + [tree_of(COUNT, right=False)])
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedModel]:
    """Verify steps are written by a scripted model; those that were asked."""
    models = []

    def open_engine(options, tokenizer):
        models.append(ScriptedModel(tokenizer, ("The sum is wrong.", "It adds 2, not 1.", ""), concurrency=1))
        return models[-1]

    monkeypatch.setattr(answering_run, "open_engine", open_engine)
    return models


def arguments(steps_models: Path, output: Path, *more: object) -> list[str]:
    given = ["warmup", "--model", steps_models / "plain", "--output", output, *more]
    return [str(argument) for argument in given]


def training(*more: object) -> list[object]:
    given = ["--max-steps", 2, "--per-device-train-batch-size", 2, "--gradient-accumulation-steps", 1]
    return [*given, "--generations", 1, "--generation-tokens", 4, "--learning-rate", 0.01, *more]


def conversations_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "conversations.jsonl").read_text(encoding="utf-8").splitlines()]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_from_trees_to_a_model_that_knows_the_tokens(steps_models, trees, tmp_path, capsys):
    """The verify steps are the tiny model's own."""
    output = tmp_path / "warm"
    more = training("--trees", trees, "--verify-tokens", 6, "--weighting", "rft", "--lora", "--merge")
    assert main(arguments(steps_models, output, *more)) == 0
    shown = capsys.readouterr()
    data = tmp_path / "warm-data"
    kinds = [record["kind"] for record in conversations_of(data)]
    assert kinds.count("plain") == COUNT
    assert 0 < kinds.count("merged") <= COUNT
    assert f"data:   {data / 'conversations.jsonl'}" in shown.out
    [line, *_] = [json.loads(text) for text in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert line["share_reasoning"] > 0  # roles come from the functional tokens
    assert line["weight_boilerplate"] > 0
    tokenizer = AutoTokenizer.from_pretrained(output / "merged")
    assert len(functional_token_ids(tokenizer, RFTT)) == 8
    before = load_file(steps_models / "plain" / "model.safetensors")["model.embed_tokens.weight"]
    after = load_file(output / "merged" / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(after[: len(before)], before)
    assert not torch.equal(after[-16:], torch.zeros_like(after[-16:]))
    assert json.loads((data / "run.json").read_text(encoding="utf-8"))["engine"]["kind"] == "transformers"
    assert main(arguments(steps_models, output, *more)) == 0
    told = said(capsys)
    assert "already built" in told
    assert "already trained" in told


@pytest.mark.usefixtures("scripted")
def test_data_alone_and_then_all_weights_on_them(steps_models, trees, tmp_path, capsys):
    data = tmp_path / "data"
    assert main(arguments(steps_models, data, "--trees", trees, "--data-only")) == 0
    shown = capsys.readouterr()
    assert "No sample shows analysis, subquestion: the model will not learn" in " ".join(shown.err.split())
    assert not (tmp_path / "data-data").exists()
    summary = json.loads((data / "summary.json").read_text(encoding="utf-8"))
    records = conversations_of(data)
    assert (summary["trees"], summary["with_right"], summary["with_both"]) == (COUNT + 1, COUNT, COUNT)
    assert summary["merged"] == sum(record["kind"] == "merged" for record in records) > 0
    silent = summary["dropped"]["the model says nothing on where the wrong path fails"]
    assert summary["merged"] + silent == COUNT
    assert summary["plain"] == COUNT
    texts = [record["messages"][1]["content"] for record in records]
    for name, count in summary["behaviours"].items():
        assert (
            count == sum(text.count(f"<{name}>") for text in texts) == sum(text.count(f"</{name}>") for text in texts)
        )
    merged = next(record for record in records if record["kind"] == "merged" and record["tree"] == "q1")
    verdict = "The sum is wrong." if "The sum" in merged["messages"][1]["content"] else "It adds 2, not 1."
    assert merged["messages"] == [
        {"role": "user", "content": "What is 1 + 1?"},
        {
            "role": "assistant",
            "content": "<clarify>We add 1 to 1.</clarify><next_step>1 + 1 = 3.</next_step>"
            rf"<direct_answer>\boxed{{0}}</direct_answer><verify>{verdict}</verify>"
            r"<refine>1 + 1 = 2.</refine><direct_answer>So \boxed{2}.</direct_answer><output>\boxed{2}</output>",
        },
    ]
    assert [question.reference for question in read_questions(str(data / "conversations.jsonl"), limit=1).questions]
    assert main(["warmup", "--config", str(data / "config.yaml"), "--output", str(tmp_path / "again")]) == 0
    assert lasting_files_of(tmp_path / "again")["conversations.jsonl"] == (data / "conversations.jsonl").read_bytes()

    capsys.readouterr()
    output = tmp_path / "warm"
    assert main(arguments(steps_models, output, *training("--data", data / "conversations.jsonl"))) == 0
    assert not (tmp_path / "warm-data").exists()
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert len(functional_token_ids(tokenizer, RFTT)) == 8
    before = load_file(steps_models / "plain" / "model.safetensors")["model.embed_tokens.weight"]
    after = load_file(output / "model.safetensors")["model.embed_tokens.weight"]
    assert after.shape[0] == before.shape[0] + 16
    assert not torch.equal(after[: len(before)], before)


def test_what_the_model_is_asked(scripted, steps_models, trees, tmp_path):
    assert main(arguments(steps_models, tmp_path / "data", "--trees", trees, "--data-only", "--data-seed", 3)) == 0
    assert len(scripted[0].asked) == COUNT
    text, sampling = scripted[0].asked[2]
    places = [text.index(part) for part in ("What is 2 + 1?", "We add 1 to 2.", "2 + 1 = 4.", "2 + 1 = 3.")]
    assert places == sorted(places)
    assert text.count("We add 1 to 2.") == 1
    assert (sampling.max_new_tokens, sampling.temperature) == (128, 0.7)
    assert len({sampling.seed for _, sampling in scripted[0].asked}) == COUNT


def test_killed_in_the_midst_no_verify_step_is_asked_for_twice(scripted, steps_models, trees, tmp_path, monkeypatch):
    given = arguments(steps_models, tmp_path / "data", "--trees", trees, "--data-only")
    log = tmp_path / "data.partial" / "work" / "verdicts.jsonl"
    original = VerdictWriter.write

    def killed_after(count: int) -> None:
        def dies(self, pairs):
            for number, answer in enumerate(original(self, pairs)):
                if number == count:
                    raise KeyboardInterrupt
                yield answer

        monkeypatch.setattr(VerdictWriter, "write", dies)
        assert main(given) == 130

    killed_after(2)
    with log.open("a", encoding="utf-8") as stream:
        stream.write('["q4 0", "half a li')  # as if killed in the midst of writing
    killed_after(1)
    assert len(log.read_text(encoding="utf-8").splitlines()) == 3
    monkeypatch.setattr(VerdictWriter, "write", original)
    assert main(given) == 0
    assert len(scripted[2].asked) == COUNT - 3
    assert main(arguments(steps_models, tmp_path / "undisturbed", "--trees", trees, "--data-only")) == 0
    resumed, undisturbed = (lasting_files_of(tmp_path / name) for name in ("data", "undisturbed"))
    for name in ("conversations.jsonl", "summary.json"):
        assert resumed[name] == undisturbed[name]


def test_a_served_model_writes_verify_steps_and_no_other_goes_on(steps_models, trees, tmp_path, monkeypatch, capsys):
    tokenizer = AutoTokenizer.from_pretrained(steps_models / "plain")
    with CompletionsServer(tokenizer, models=("one", "two"), context=1000) as server:
        more = ("--trees", trees, "--data-only", "--server", server.url, "--concurrency", 1, "--verify-tokens", 12)
        given = arguments(steps_models, tmp_path / "data", *more)
        original = VerdictWriter.write

        def dies(self, pairs):
            yield next(original(self, pairs))
            raise KeyboardInterrupt

        monkeypatch.setattr(VerdictWriter, "write", dies)
        assert main(given) == 130
        monkeypatch.setattr(VerdictWriter, "write", original)
        server.models.reverse()
        capsys.readouterr()
        assert main(given) == 2
        assert "holds answers of one, but the server now serves two" in said(capsys)
        assert main([*given, "--served-model", "one"]) == 0
    assert len(conversations_of(tmp_path / "data")) > COUNT


@pytest.mark.usefixtures("scripted")
def test_a_set_without_verify_asks_nothing(steps_models, trees, tmp_path, scripted):
    record = RFTT.as_record()
    kept = [entry for entry in record["behaviours"] if entry["name"] != "verify"]
    for entry in kept:
        entry["follows"] = [name for name in entry["follows"] if name != "verify"]
    house = tmp_path / "house.yaml"
    house.write_text(yaml.safe_dump({"first": record["first"], "behaviours": kept}), encoding="utf-8")
    more = ("--trees", trees, "--data-only", "--behaviours", house)
    assert main(arguments(steps_models, tmp_path / "data", *more)) == 0
    assert scripted == []
    assert [entry["kind"] for entry in conversations_of(tmp_path / "data")] == ["plain"] * COUNT
    assert len(find_behaviours(str(house)).tokens) == 14


@pytest.mark.usefixtures("scripted")
def test_what_gives_no_data_is_one_line(steps_models, trees, tmp_path, capsys):
    lines = trees.read_text(encoding="utf-8").splitlines()
    house = "first: [think]\nbehaviours:\n- {name: think, description: think, follows: [answer]}\n"
    written = {
        "empty.jsonl": "",
        "damaged.jsonl": f"{lines[0]}\n{lines[1][:-9]}\n",
        "other.jsonl": '{"messages": []}\n',
        "twice.jsonl": f"{lines[0]}\n{lines[0]}\n",
        "house.yaml": f"{house}- {{name: answer, description: answer}}\n",
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    write_trees(tmp_path / "wrong.jsonl", [tree_of(1, right=False)])
    clarify = Tree(Question("q", "?", "7"), "prompts")
    leaf_of(clarify, True, ("clarify", r"\boxed{7}"))
    write_trees(tmp_path / "illegal.jsonl", [clarify])
    cases = {
        (): "give trees to build the data from, or existing data",
        ("--trees", trees, "--data", trees): "give trees to build the data from, or existing data",
        ("--data", trees, "--data-only"): "data_only builds data from trees; give trees",
        ("--trees", tmp_path / "nothing.jsonl"): "nothing.jsonl: cannot read the trees",
        ("--trees", tmp_path / "empty.jsonl"): "empty.jsonl: contains no trees; create some with rolewise search",
        ("--trees", tmp_path / "damaged.jsonl"): "damaged.jsonl:2: not a line of JSON",
        ("--trees", tmp_path / "other.jsonl"): "other.jsonl:1: not a tree",
        ("--trees", tmp_path / "twice.jsonl"): "twice.jsonl: 2 trees belong to the question 'q0'",
        ("--trees", tmp_path / "wrong.jsonl"): "none of 1 trees has a right path, so there is nothing to learn",
        ("--trees", tmp_path / "illegal.jsonl"): "no sample is left (output may not follow clarify (1))",
        ("--trees", trees, "--behaviours", tmp_path / "house.yaml"): "trees.jsonl: tree q0: has steps with unknown",
        ("--trees", trees, "--merged", 0, "--plain", 0): "one of them must be at least 1",
        ("--trees", trees, "--limit", 0): "limit is 0; it must be at least 1",
        ("--trees", trees, "--verify-tokens", 0): "verify_tokens is 0",
        ("--trees", trees, "--temperature", -1): "temperature is -1.0",
        ("--trees", trees, "--weighting", "luck"): "weighting 'luck' is not known",
        ("--trees", trees, "--weighting", "reward"): "weighting reward needs a labelled data set",
        ("--trees", trees, "--learning-rat", 1): "did you mean --learning-rate?",
        ("--trees", trees, "--packing", "true", "--packing-strategy", "wrapped"): "packing",
        ("--trees", trees, "--merge"): "without LoRA there is nothing to merge",
        ("--trees", trees, "--served-model", "m"): "served_model needs server",
        ("--trees", trees, "--model", steps_models / "no_template"): "chat template",
        ("--data", tmp_path / "nothing.jsonl"): "nothing.jsonl",
        ("--data", tmp_path / "empty.jsonl"): "empty.jsonl",
    }
    for more, message in cases.items():
        assert main(arguments(steps_models, tmp_path / "run", *training(*more))) == 2, more
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rolewise warmup: ")]
        assert len(told) == 1, more
        assert message in told[0]
        assert not list(tmp_path.glob("run*")), more


@pytest.mark.usefixtures("scripted")
def test_other_settings_are_another_run(steps_models, trees, tmp_path, capsys):
    given = arguments(steps_models, tmp_path / "data", "--trees", trees, "--data-only")
    assert main(given) == 0
    assert main([*given, "--plain", "2"]) == 2
    assert "data: holds a run with other settings or inputs" in said(capsys)
    # What concerns the training alone does not.
    assert main([*given, "--weighting", "rft", "--learning-rate", "1e-3"]) == 0
    assert "already built" in said(capsys)


@pytest.mark.usefixtures("scripted")
def test_data_of_other_behaviours_teach_nothing_and_that_is_said(steps_models, trees, tmp_path, capsys):
    assert main(arguments(steps_models, tmp_path / "data", "--trees", trees, "--data-only")) == 0
    assert "contain no functional token" not in said(capsys)
    house = tmp_path / "house.yaml"
    think = "{name: think, description: think, follows: [answer]}"
    house.write_text(f"first: [think]\nbehaviours:\n- {think}\n- {{name: answer, description: answer}}\n")
    more = training("--data", tmp_path / "data" / "conversations.jsonl", "--behaviours", house)
    assert main(arguments(steps_models, tmp_path / "warm", *more)) == 0
    assert "these conversations contain no functional token" in said(capsys)
    # The model remembers whose tokens it has, and other commands need not be told.
    assert behaviours_of(str(tmp_path / "warm"), None).as_record() == find_behaviours(str(house)).as_record()
    assert behaviours_of(str(tmp_path / "warm"), "rftt") is RFTT
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    taught = {"model": str(tmp_path / "warm"), "data": str(questions), "output": str(tmp_path / "out")}
    assert prepare(SearchOptions(**taught)).policy.kind == "tokens"
    with pytest.raises(InputError, match="has no functional token <clarify>"):
        prepare(SearchOptions(**taught, policy="tokens", behaviours="rftt"))
    assert load_questions(ReinforceOptions(**taught)).functional.keys() == {"think", "answer"}
    made = str(tmp_path / "data" / "conversations.jsonl")
    again = WarmupOptions(**taught | {"data": made}).of_training(made)
    assert find_behaviours(again.behaviours).as_record() == find_behaviours(str(house)).as_record()
    plan = plan_labelling(LabelOptions(**taught | {"data": made}, method="functional"))
    assert [behaviour.name for behaviour in plan.behaviours] == ["think", "answer"]
    command = ["sft", "--model", taught["model"], "--data", made, "--output", str(tmp_path / "on"), "--no-lora"]
    assert main([*command, "--weighting", "none", "--max-steps", "1", "--generations", "0"]) == 0
    assert behaviours_of(str(tmp_path / "on"), None).as_record() == find_behaviours(str(house)).as_record()


def test_several_processes_do_not_make_data(steps_models, trees, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rolewise.training.processes.count", lambda: 2)
    assert main(arguments(steps_models, tmp_path / "run", *training("--trees", trees))) == 2
    assert "the data is built by one process; build it first (data_only)" in said(capsys)


def test_in_python_trees_are_asked_for() -> None:
    with pytest.raises(InputError, match="data is built from trees"):
        make_warmup_data(WarmupOptions(model="m", data="made.jsonl", output="o"))
