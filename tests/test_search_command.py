"""`rolewise search` from the command line: trees, report and notes, killed and resumed; and what it refuses."""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import forked
import pytest
import yaml
from reward_server import reward_server
from scripted_search import ScriptedModel
from workbench import lasting_files_of

from rolewise.cli.main import main
from rolewise.core.behaviour import RFTT
from rolewise.core.statistics import wilson
from rolewise.data.chat_template import CHATML
from rolewise.jobs import answering_run
from rolewise.jobs import search as job
from rolewise.jobs.answering_run import AnsweringRun
from rolewise.options.answers import SearchOptions
from rolewise.search.tree import Question, Tree, read_trees

RECORDS = [
    {"id": "right", "question": "What is 3 plus 4?", "answer": "3 + 4 = 7\n#### 7"},
    {"id": "wrong", "question": "What is 4 plus 4?", "answer": "#### 8"},
    {"id": "open", "question": "What is 5 plus 2?"},
    {"id": "also right", "question": "What is 9 less 2?", "answer": 7},
]

LOGPROBS = ("logprobs", "next_logprobs", "prior")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedModel]:
    """Searches ask a scripted model; those that were asked."""
    models = []

    def open_engine(options, tokenizer):
        models.append(ScriptedModel(tokenizer))
        return models[-1]

    monkeypatch.setattr(answering_run, "open_engine", open_engine)
    return models


def arguments(steps_models: Path, questions: Path, output: Path, *more: object) -> list[str]:
    given = ["search", "--model", steps_models / "plain", "--data", questions, "--output", output]
    given += ["--rollouts", 6, "--max-depth", 4, "--step-tokens", 6, *more]
    return [str(argument) for argument in given]


def stop_after(monkeypatch: pytest.MonkeyPatch, rollouts: int) -> Callable[[], None]:
    """Interrupt searches after so many rollouts; what is returned ends that."""
    original, kept = job._Keeper.keep, []

    def keep(self, tree: Tree) -> None:
        if len(kept) == rollouts:
            raise KeyboardInterrupt
        kept.append(tree)
        original(self, tree)

    monkeypatch.setattr(job._Keeper, "keep", keep)
    return lambda: monkeypatch.setattr(job._Keeper, "keep", original)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def without_numbers(tree: Tree) -> dict:
    """A tree without its log-probabilities."""
    nodes = [replace(node, logprobs=[], next_logprobs=[], prior=None) for node in tree.nodes]
    return replace(tree, nodes=nodes).as_record()


def summary_of(output: Path) -> dict:
    return json.loads((output / "summary.json").read_text(encoding="utf-8"))


def test_a_model_without_functional_tokens_is_asked_by_prompts(steps_models, questions, tmp_path, capsys):
    output = tmp_path / "searched"
    assert main(arguments(steps_models, questions, output)) == 0
    told = said(capsys)
    assert "The model has no functional tokens: it is prompted for each kind of step" in told
    assert "no reference answer" in told
    trees = list(read_trees(output / "trees.jsonl"))
    assert [tree.question.id for tree in trees] == ["right", "wrong", "open", "also right"]
    assert [tree.question.reference for tree in trees] == ["7", "8", None, "7"]
    for tree in trees:
        assert (tree.policy, tree.prompt_ids, tree.ended, len(tree.rollouts)) == ("prompts", [], "rollouts", 6)
        assert {node.behaviour for node in tree.nodes[1:]} <= {b.name for b in RFTT if b.prompt is not None}
        assert tree.tokens == sum(len(node.ids) for node in tree.nodes)
        assert max(tree.depth(node) for node in tree.nodes) <= 4
        assert tree.root.visits == 6
        for node in tree.nodes[1:]:
            assert node.behaviour in RFTT.after(tree.nodes[node.parent].behaviour)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "What is 5 plus 2?" in page
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert (run["engine"]["kind"], run["engine"]["usage"]["generated_tokens"] > 0) == ("transformers", True)
    config = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
    assert (config["rollouts"], config["policy"]) == (6, "auto")
    assert main(["search", "--config", str(output / "config.yaml")]) == 0
    assert "already searched" in said(capsys)


def test_a_model_with_functional_tokens_chooses_its_steps(steps_models, questions, tmp_path, capsys):
    output = tmp_path / "searched"
    more = ("--model", steps_models / "functional", "--limit", 2)
    assert main(arguments(steps_models, questions, output, *more)) == 0
    assert "no functional tokens" not in said(capsys)
    trees = list(read_trees(output / "trees.jsonl"))
    assert [tree.question.id for tree in trees] == ["right", "wrong"]
    openings = json.loads((steps_models / "openings.json").read_text(encoding="utf-8"))
    for tree in trees:
        assert tree.policy == "tokens"
        assert tree.prompt_ids
        for node in tree.nodes[1:]:
            assert node.ids[0] == openings[node.behaviour]
    assert main(arguments(steps_models, questions, tmp_path / "by prompts", *more, "--policy", "prompts")) == 0
    [first, _] = read_trees(tmp_path / "by prompts" / "trees.jsonl")
    assert first.policy == "prompts"


def test_killed_and_started_again_the_trees_are_the_same(steps_models, questions, tmp_path):
    more = ("--model", steps_models / "functional", "--rollouts", 24, "--step-tokens", 16, "--limit", 3)
    assert main(arguments(steps_models, questions, tmp_path / "undisturbed", *more)) == 0
    given = arguments(steps_models, questions, tmp_path / "killed", *more)
    process = forked.start(main, given, folder=tmp_path)
    kept = tmp_path / "killed.partial" / "work" / "trees" / "000000.json"
    while process.exitcode is None and not (kept.exists() and len(json.loads(kept.read_bytes())["rollouts"]) > 2):
        time.sleep(0.005)
    process.kill()
    assert forked.end_of(process) == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    assert len(json.loads(kept.read_bytes())["rollouts"]) < 24
    assert main(given) == 0
    killed, undisturbed = (list(read_trees(tmp_path / name / "trees.jsonl")) for name in ("killed", "undisturbed"))
    assert [without_numbers(tree) for tree in killed] == [without_numbers(tree) for tree in undisturbed]
    for tree, expected in zip(killed, undisturbed, strict=True):
        for node, other in zip(tree.nodes, expected.nodes, strict=True):
            for name in LOGPROBS:  # what else was in the batch is in the last digit
                assert getattr(node, name) == pytest.approx(getattr(other, name), abs=2.1e-5), name
    assert summary_of(tmp_path / "killed") == summary_of(tmp_path / "undisturbed")


@pytest.mark.usefixtures("scripted")
def test_the_summary_is_what_the_trees_say(steps_models, questions, tmp_path, capsys):
    output = tmp_path / "searched"
    assert main(arguments(steps_models, questions, output, "--rollouts", 12)) == 0
    shown = capsys.readouterr().out
    summary, trees = summary_of(output), list(read_trees(output / "trees.jsonl"))
    paths = [(tree, tree.nodes[number]) for tree in trees for number in sorted(set(tree.rollouts))]
    assert summary["policy"] == "prompts"
    assert (summary["questions"], summary["with_reference"]) == (4, 3)
    assert summary["rollouts"] == sum(len(tree.rollouts) for tree in trees)
    assert summary["nodes"] == sum(1 for tree in trees for node in tree.nodes if node.parent is not None)
    assert summary["paths"] == len(paths)
    assert summary["paths_with_answer"] == sum(leaf.answer is not None for _, leaf in paths)
    assert 0 < summary["paths_with_answer"] < summary["paths"]
    assert summary["mean_depth"] == pytest.approx(fmean(len(tree.path(leaf)) for tree, leaf in paths))
    assert summary["generated_tokens"] == sum(len(node.ids) for tree in trees for node in tree.nodes)
    assert summary["ended"] == {
        reason: [tree.ended for tree in trees].count(reason) for reason in {tree.ended for tree in trees}
    }
    # Every answer is 7, so a question is answered right by majority if any rollout has an answer and 7 is right.
    solvable = [tree for tree in trees if tree.question.reference == "7"]
    answered = sum(any(tree.nodes[number].answer for number in tree.rollouts) for tree in solvable)
    first = sum(tree.nodes[tree.rollouts[0]].answer is not None for tree in solvable)
    assert answered > 0
    assert summary["right"] == {"first rollout": first, "majority": answered, "any rollout": answered}
    assert f"{wilson(answered, 3):.1%}" in shown
    for tree in trees:
        for number in tree.rollouts:
            leaf = tree.nodes[number]
            known = tree.question.reference is not None
            assert leaf.right == ((leaf.answer == tree.question.reference) if known else None)
            assert leaf.outcome == float(bool(leaf.right))


def test_right_by_the_first_rollout_by_the_majority_and_by_any() -> None:
    def tree(*answers: str) -> Tree:
        grown = Tree(Question("".join(answers), "?", "7"), "tokens", ended="rollouts")
        for answer in answers:
            right = answer == "7"
            leaf = grown.add(grown.root, "output", leaf=True, answer=answer, outcome=float(right), right=right)
            grown.rollouts.append(leaf.number)
        return grown

    summary = job.summarise([tree("7", "8", "8"), tree("8", "7", "7"), tree("8", "8", "7"), tree("8", "9", "8")])
    assert summary["right"] == {"first rollout": 1, "majority": 1, "any rollout": 3}


def test_notes_of_earlier_starts_stay(tmp_path: Path) -> None:
    options = SearchOptions(model="m", data="d", output=str(tmp_path / "run"), server="http://127.0.0.1:9/v1")
    for told in (["a: 1", "a: 2"], ["b"], []):
        run = AnsweringRun(options, options.output, "search", {}, {})
        for note in told:  # of one start, the last counts
            run.keep_notes([note])
    assert run.notes() == ["a: 2", "b"]


@pytest.mark.usefixtures("scripted")
def test_records_without_a_question_are_left_out_and_listed(steps_models, questions, tmp_path, capsys):
    questions.write_text(questions.read_text(encoding="utf-8") + '{"text": "no question"}\n', encoding="utf-8")
    assert main(arguments(steps_models, questions, tmp_path / "run", "--skip-invalid")) == 0
    assert "left out: questions.jsonl:5: no question" in said(capsys)
    [rejected] = (tmp_path / "run" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rejected)["source"] == "questions.jsonl:5"


def test_what_the_template_makes_prompts_otherwise_is_said_once(scripted, steps_models, questions, tmp_path):
    template = tmp_path / "no_header.jinja"
    template.write_text(CHATML.partition("{% if add_generation_prompt %}")[0], encoding="utf-8")
    assert main(arguments(steps_models, questions, tmp_path / "run", "--chat-template", template)) == 0
    notes = summary_of(tmp_path / "run")["notes"]
    assert sum("no generation prompt" in note for note in notes) == 1


def test_notes_of_a_stopped_search_are_not_lost(scripted, steps_models, questions, tmp_path, monkeypatch, capsys):
    """Also where nothing but the writing of the results was left to do."""
    given = arguments(steps_models, questions, tmp_path / "run", "--process-reward", "http://127.0.0.1:1/score")
    original = job.write_trees
    monkeypatch.setattr(job, "write_trees", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(given) == 130
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(job, "write_trees", original)
    assert main(given) == 0
    assert len(scripted) == 1
    notes = summary_of(tmp_path / "run")["notes"]
    assert len(notes) == 3
    assert any("no functional tokens" in note for note in notes)
    assert any("no reference answer" in note for note in notes)
    [reward] = [note for note in notes if "127.0.0.1:1" in note]
    assert "judged by the answer alone" in reward


def test_a_process_reward_server_that_is_down_is_said_once(scripted, steps_models, questions, tmp_path, capsys):
    given = arguments(steps_models, questions, tmp_path / "run", "--process-reward", "http://127.0.0.1:1/score")
    assert main(given) == 0
    assert said(capsys).count("can't be reached") == 1
    assert main(arguments(steps_models, questions, tmp_path / "without")) == 0
    assert (tmp_path / "run" / "trees.jsonl").read_bytes() == (tmp_path / "without" / "trees.jsonl").read_bytes()
    assert scripted[0].asked == scripted[1].asked


@pytest.mark.usefixtures("scripted")
def test_a_process_reward_server_gets_its_key_and_may_move(steps_models, questions, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    keyed = ["--process-reward-key", "JUDGE_KEY"]
    with reward_server() as server:
        given = arguments(steps_models, questions, tmp_path / "run", "--process-reward", server.url, *keyed)
        assert main(given) == 0
        assert set(server.keys) == {"Bearer secret"}
    capsys.readouterr()
    elsewhere = arguments(steps_models, questions, tmp_path / "run", "--process-reward", "http://127.0.0.1:1/score")
    assert main(elsewhere) == 0
    assert "already searched" in said(capsys)
    without = arguments(steps_models, questions, tmp_path / "run")
    assert main(without) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_what_a_stopped_search_has_done_is_not_asked_again(scripted, steps_models, questions, tmp_path, monkeypatch):
    assert main(arguments(steps_models, questions, tmp_path / "undisturbed")) == 0
    given = arguments(steps_models, questions, tmp_path / "run")
    goes_on = stop_after(monkeypatch, 9)
    assert main(given) == 130
    goes_on()
    assert main(given) == 0
    whole, first, second = ({(text, sampling) for text, sampling in model.asked} for model in scripted)
    assert first < whole
    assert second < whole
    assert len(scripted[1].asked) + len(scripted[2].asked) < len(scripted[0].asked) + 40
    undisturbed, resumed = (lasting_files_of(tmp_path / name) for name in ("undisturbed", "run"))
    assert resumed["trees.jsonl"] == undisturbed["trees.jsonl"]
    assert resumed["summary.json"] == undisturbed["summary.json"]


@pytest.mark.usefixtures("scripted")
def test_a_stopped_search_goes_on_only_as_it_began(steps_models, questions, tmp_path, monkeypatch, capsys):
    behaviours = tmp_path / "behaviours.yaml"
    record = RFTT.as_record()
    behaviours.write_text(yaml.safe_dump(record), encoding="utf-8")
    given = arguments(steps_models, questions, tmp_path / "run", "--behaviours", behaviours)
    goes_on = stop_after(monkeypatch, 3)
    assert main(given) == 130
    goes_on()
    capsys.readouterr()
    record["first"] = ["next_step"]
    behaviours.write_text(yaml.safe_dump(record), encoding="utf-8")
    others = {
        "other behaviours": given,
        "the built-in ones, which the file held": arguments(steps_models, questions, tmp_path / "run"),
    }
    for name in list(others)[:1]:
        assert main(others[name]) == 2, name
        assert "run.partial: an unfinished run with other settings" in said(capsys)
    assert main([*others["the built-in ones, which the file held"], "--seed", "1"]) == 2
    assert "run.partial: an unfinished run with other settings" in said(capsys)
    # The same behaviours, wherever they stand.
    assert main(others["the built-in ones, which the file held"]) == 0


@pytest.mark.usefixtures("scripted")
def test_a_kept_tree_that_is_damaged_is_named(steps_models, questions, tmp_path, monkeypatch, capsys):
    given = arguments(steps_models, questions, tmp_path / "run")
    goes_on = stop_after(monkeypatch, 5)
    assert main(given) == 130
    goes_on()
    kept = tmp_path / "run.partial" / "work" / "trees" / "000000.json"
    kept.write_text(kept.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    capsys.readouterr()
    assert main(given) == 2
    line = said(capsys)
    assert "000000.json" in line
    assert "remove it to search this question again" in line
    kept.unlink()
    assert main(given) == 0


def test_an_output_that_holds_something_else_is_left_alone(steps_models, questions, tmp_path, capsys):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "diary.txt").write_text("dear diary", encoding="utf-8")
    assert main(arguments(steps_models, questions, output)) == 2
    assert "mine: already exists; choose another output or remove it" in said(capsys)
    assert [path.name for path in output.iterdir()] == ["diary.txt"]
    assert not (tmp_path / "mine.partial").exists()


def test_what_cannot_be_searched_is_one_line(steps_models, questions, tmp_path, capsys):
    turns = [{"role": role, "content": "Hm."} for role in ("user", "assistant") * 2]
    written = {
        "empty.jsonl": "",
        "twice.jsonl": '{"id": 1, "question": "a?"}\n{"id": 1, "question": "b?"}\n',
        "deep.jsonl": '{"question": "a?"}\n' + "[" * 100_000 + "\n",
        "broken.jsonl": '{"question": "a?"}\n{"question": \n',
        "chat.jsonl": json.dumps({"messages": turns}),
        "behaviours.yaml": "first: [think]\nbehaviours:\n- {name: think, description: think it over}\n",
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    cases = {
        ("--data", tmp_path / "empty.jsonl"): "empty.jsonl",
        ("--data", tmp_path / "nothing.jsonl"): "nothing.jsonl",
        ("--data", tmp_path / "twice.jsonl"): "2 questions have the id '1'; give each a unique id",
        ("--data", tmp_path / "deep.jsonl"): "deep.jsonl:2: not a line of JSON",
        ("--data", tmp_path / "broken.jsonl"): "broken.jsonl:2: not a line of JSON",
        ("--data", tmp_path / "chat.jsonl"): "a conversation of several turns",
        ("--model", steps_models / "no_template"): "chat template",
        ("--model", tmp_path / "no_model"): "no_model",
        ("--policy", "tokens"): "has no functional token <clarify>",
        ("--policy", "luck"): "policy 'luck' is not known; choose one of auto, prompts, tokens",
        ("--value", "luck"): "value 'luck' is not known; choose from math",
        ("--early-stop", "soon"): "--early-stop 'soon' is not known",
        (
            "--behaviours",
            tmp_path / "behaviours.yaml",
        ): "(think) has a prompt",
        ("--behaviours", tmp_path / "none.yaml"): "cannot read the behaviours",
        ("--rollouts", 0): "rollouts is 0; it must be at least 1",
        ("--top-p", 0): "top_p is 0.0",
        ("--limit", 0): "limit is 0; it must be at least 1",
        ("--wrong-with-answer", 2): "wrong_with_answer is 2.0",
        ("--process-reward-format", "qwen"): "give that too, or leave the format out",
        ("--process-reward-key", "JUDGE_KEY"): "process_reward_key needs a server; give its URL",
        (
            *("--process-reward", "http://127.0.0.1:1/score"),
            *("--process-reward-key", "JUDGE_KEY"),
        ): "process_reward_key names the environment variable JUDGE_KEY, which is not set",
        ("--value", "mine", "--process-reward", "judge"): "is a function that uses no process_reward",
        ("--served-model", "m"): "served_model needs server",
        ("--server", "http://127.0.0.1:1/v1"): "can't be reached",
        ("--plugin", tmp_path / "none.py"): "none.py",
    }
    for more, message in cases.items():
        assert main(arguments(steps_models, questions, tmp_path / "run", *more)) == 2, more
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rolewise search: ")]
        assert len(lines) == 1, more
        assert message in lines[0]
        assert not list(tmp_path.glob("run*")), more


def test_the_seed_decides_and_questions_do_not_share_it(scripted, steps_models, questions, tmp_path):
    for name, more in {"a": (), "b": ("--seed", 1), "c": ("--limit", 1)}.items():
        assert main(arguments(steps_models, questions, tmp_path / name, *more)) == 0
    a, b, c = (list(read_trees(tmp_path / name / "trees.jsonl")) for name in "abc")
    assert a[0] == c[0]
    assert a[0] != b[0]
    assert replace(a[0], question=a[3].question) != a[3]
