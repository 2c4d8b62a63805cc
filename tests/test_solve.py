"""`rolewise solve`: the search never sees a reference; votes and the curve are those of the trees that were found."""

import json
from collections import Counter
from pathlib import Path

import pytest
from scripted_search import ScriptedModel, luck

from rolewise.cli.main import main
from rolewise.core.statistics import wilson
from rolewise.jobs import answering_run
from rolewise.jobs import solve as job
from rolewise.search.tree import Tree, read_trees

STEPS = (
    "Add 2 and 3.",
    r"So it is \boxed{7}.",
    r"So it is \boxed{7.0}, of course.",
    r"No, it is \boxed{8}.",
    r"That makes \boxed{9}.",
)
RECORDS = [
    {"id": name, "question": f"What is question {name}?", **({} if answer is None else {"answer": answer})}
    for name, answer in [("a", "7"), ("b", "8"), ("c", None), ("d", "9"), ("e", "7")]
]
TELLTALE = """
from rolewise import register_value

def telltale(question, steps):
    assert question.reference is None, "the search has seen a reference"
    return len(steps) / 10, steps[-1].text[-3:-2]

register_value("telltale", telltale)
"""


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
        models.append(ScriptedModel(tokenizer, STEPS))
        return models[-1]

    monkeypatch.setattr(answering_run, "open_engine", open_engine)
    return models


def arguments(steps_models: Path, questions: Path, output: Path, *more: object) -> list[str]:
    given = ["solve", "--model", steps_models / "plain", "--data", questions, "--output", output]
    return [str(argument) for argument in [*given, "--rollouts", 9, "--max-depth", 4, "--step-tokens", 6, *more]]


def answers_of(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def reference_vote(tree: Tree, by: str, count: int) -> tuple[str | None, int]:
    """The elected answer and its votes, by counting."""
    leaves = [tree.nodes[number] for number in tree.rollouts[:count] if tree.nodes[number].answer is not None]
    votes = Counter(leaf.answer for leaf in leaves)
    if not votes:
        return None, 0
    weight: dict[str | None, float] = {}
    for leaf in leaves:
        if by == "majority":
            weight[leaf.answer] = votes[leaf.answer]
        elif by == "value":
            weight[leaf.answer] = weight.get(leaf.answer, 0.0) + leaf.outcome
        else:
            weight[leaf.answer] = max(weight.get(leaf.answer, 0.0), leaf.outcome)
    top = max(weight.values())
    elected = next(leaf.answer for leaf in leaves if weight[leaf.answer] == pytest.approx(top))
    return elected, votes[elected]


def is_right(answer: str | None, reference: str | None) -> bool | None:
    return None if reference is None else answer == reference


@pytest.mark.usefixtures("scripted")
def test_votes_and_the_curve_are_those_of_the_trees(steps_models, questions, tmp_path, capsys):
    output = tmp_path / "solved"
    assert main(arguments(steps_models, questions, output, "--trees")) == 0
    shown = capsys.readouterr()
    assert "no reference answer" not in shown.err
    trees, answers = list(read_trees(output / "trees.jsonl")), answers_of(output)
    assert [(answer["id"], answer["reference"]) for answer in answers] == [
        (record["id"], record.get("answer")) for record in RECORDS
    ]
    for tree, answer in zip(trees, answers, strict=True):
        elected, votes = reference_vote(tree, "majority", 9)
        assert (answer["answer"], answer["votes"], answer["rollouts"]) == (elected, votes, len(tree.rollouts))
        assert answer["share"] == pytest.approx(votes / len(tree.rollouts), abs=1e-4)
        assert answer["right"] is is_right(elected, answer["reference"])
        assert elected in answer["solution"][-1]["text"]
        assert {node.outcome for node in tree.nodes} <= {None, 0.0}  # nothing told the search what is right
        for leaf in tree.leaves():
            assert leaf.right is is_right(leaf.answer, answer["reference"])
    assert len({answer["answer"] for answer in answers}) > 1
    known = [tree for tree in trees if tree.question.reference is not None]
    curve = json.loads((output / "curve.json").read_text(encoding="utf-8"))
    assert [point["rollouts"] for point in curve] == list(range(1, 10))
    for point in curve:
        count = point["rollouts"]
        right = sum(reference_vote(tree, "majority", count)[0] == tree.question.reference for tree in known)
        found = sum(
            any(tree.nodes[number].answer == tree.question.reference for number in tree.rollouts[:count])
            for tree in known
        )
        expected = {"accuracy": {"majority": wilson(right, 4)}, "found": wilson(found, 4)}
        for name, interval in {"majority": point["accuracy"]["majority"], "found": point["found"]}.items():
            wanted = expected["found"] if name == "found" else expected["accuracy"][name]
            assert interval == {"estimate": wanted.estimate, "low": wanted.low, "high": wanted.high}
        assert list(point["accuracy"]) == ["majority"]  # values know nothing here
    rows = [line.split("│")[1].strip() for line in shown.out.splitlines() if "[" in line and "│" in line]
    assert [row for row in rows if row.isdigit()] == ["1", "2", "4", "8", "9"]
    svg = (output / "accuracy.svg").read_text(encoding="utf-8")
    assert "on any path" in svg
    assert main(arguments(steps_models, questions, output, "--trees")) == 0
    assert "already solved" in said(capsys)
    result = job.read_solved(output)
    assert (result.answers, len(result.curve), result.was_finished) == (answers, 9, True)
    assert result.curve[-1].found == wilson(sum(any(n.right for n in tree.nodes) for tree in known), 4)


def test_neither_the_search_nor_a_value_sees_a_reference(scripted, steps_models, questions, tmp_path, registries):
    plugin = tmp_path / "telltale.py"
    plugin.write_text(TELLTALE, encoding="utf-8")
    blind = tmp_path / "blind.jsonl"
    blind.write_text(
        "".join(json.dumps({"id": record["id"], "question": record["question"]}) + "\n" for record in RECORDS)
    )
    own = ("--plugin", plugin, "--value", "telltale", "--vote", "value", "--trees")
    assert main(arguments(steps_models, questions, tmp_path / "with", *own)) == 0
    assert main(arguments(steps_models, blind, tmp_path / "without", *own)) == 0
    assert scripted[0].asked == scripted[1].asked
    assert not any("####" in text for text, _ in scripted[0].asked)
    with_them, without = (list(read_trees(tmp_path / name / "trees.jsonl")) for name in ("with", "without"))
    for tree, other in zip(with_them, without, strict=True):
        assert tree.rollouts == other.rollouts
        for node, same in zip(tree.nodes, other.nodes, strict=True):
            assert (node.answer, node.outcome, node.visits, node.value) == (
                same.answer,
                same.outcome,
                same.visits,
                same.value,
            )
            if node.outcome is not None:
                assert node.right is is_right(node.answer, tree.question.reference)
    for name in ("with", "without"):
        for answer in answers_of(tmp_path / name):
            tree = next(tree for tree in with_them if tree.question.id == answer["id"])
            assert answer["answer"] == reference_vote(tree, "value", 9)[0]
            assert answer["right"] is (is_right(answer["answer"], answer["reference"]) if name == "with" else None)
    curve = json.loads((tmp_path / "with" / "curve.json").read_text(encoding="utf-8"))
    assert list(curve[-1]["accuracy"]) == ["majority", "value", "best"]
    for by in ("majority", "value", "best"):
        right = sum(reference_vote(tree, by, 9)[0] == tree.question.reference for tree in with_them)
        assert curve[-1]["accuracy"][by]["estimate"] == pytest.approx(right / 4)
    assert not (tmp_path / "without" / "curve.json").exists()
    assert not (tmp_path / "without" / "accuracy.svg").exists()


def test_a_single_question(scripted, steps_models, tmp_path, capsys):
    given = ["solve", "--model", str(steps_models / "plain"), "--output", str(tmp_path / "one"), "--rollouts", "5"]
    assert main([*given, "--question", " What is [bold]3 plus 4[/bold]? "]) == 0
    [answer] = answers_of(tmp_path / "one")
    shown = " ".join(capsys.readouterr().out.split())
    assert answer["question"] == "What is [bold]3 plus 4[/bold]?"
    assert answer["answer"] is not None
    assert f"answer: {answer['answer']} ({answer['share']:.0%} of the votes)" in shown
    assert (answer["reference"], answer["right"]) == (None, None)
    assert not (tmp_path / "one" / "trees.jsonl").exists()
    assert not (tmp_path / "one" / "curve.json").exists()
    assert "[bold]3 plus 4" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert all("What is [bold]3 plus 4[/bold]?" in text for text, _ in scripted[0].asked)


def test_no_answer_at_all_is_said(monkeypatch, steps_models, tmp_path, capsys):
    monkeypatch.setattr(answering_run, "open_engine", lambda options, tokenizer: ScriptedModel(tokenizer, ["Hm."]))
    given = ["solve", "--model", str(steps_models / "plain"), "--output", str(tmp_path / "one"), "--rollouts", "2"]
    assert main([*given, "--question", "Why?", "--max-depth", "2"]) == 0
    assert "answer: no answer" in " ".join(capsys.readouterr().out.split())
    [answer] = answers_of(tmp_path / "one")
    assert (answer["answer"], answer["votes"], answer["solution"]) == (None, 0, [])


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0c"])
def test_a_question_may_contain_any_line_separator(steps_models, tmp_path, capsys, sign):
    given = ["solve", "--model", str(steps_models / "plain"), "--output", str(tmp_path / "one"), "--rollouts", "2"]
    for _ in range(2):  # made, and read again
        assert main([*given, "--question", f"What is{sign}3 plus 4?"]) == 0
    assert "already solved" in capsys.readouterr().err


@pytest.mark.usefixtures("scripted")
def test_a_decided_vote_ends_the_search(steps_models, questions, tmp_path, capsys):
    more = ("--trees", "--rollouts", 24)
    assert main(arguments(steps_models, questions, tmp_path / "all", *more)) == 0
    assert main(arguments(steps_models, questions, tmp_path / "decided", *more, "--early-stop", "decided")) == 0
    progress = said(capsys)
    assert "5 of 5 questions" in progress
    assert "right answer" not in progress  # nothing is compared before the search is over
    whole, decided = (list(read_trees(tmp_path / name / "trees.jsonl")) for name in ("all", "decided"))
    ended = Counter(tree.ended for tree in decided)
    assert ended["decided"] > 0
    for tree, longer in zip(decided, whole, strict=True):
        assert tree.rollouts == longer.rollouts[: len(tree.rollouts)]
        assert reference_vote(tree, "majority", 24)[0] == reference_vote(longer, "majority", 24)[0]
        counts = [count for _, count in Counter(tree.nodes[n].answer for n in tree.rollouts).most_common()]
        assert (tree.ended == "rollouts") == (len(tree.rollouts) == 24)
        if tree.ended == "decided":
            assert counts[0] > 24 - len(tree.rollouts)
    summary = json.loads((tmp_path / "decided" / "summary.json").read_text(encoding="utf-8"))
    assert summary["ended"] == dict(ended)
    assert summary["rollouts"] < 24 * 5


@pytest.mark.usefixtures("scripted")
def test_killed_before_the_answers_are_written_it_goes_on(steps_models, questions, tmp_path, monkeypatch, capsys):
    given = arguments(steps_models, questions, tmp_path / "run", "--trees")
    original = job.write_trees
    monkeypatch.setattr(job, "write_trees", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(given) == 130
    (tmp_path / "run.partial" / "work" / "notes.json").unlink(missing_ok=True)  # as if killed before them
    monkeypatch.setattr(job, "write_trees", original)
    assert main([*given, "--vote", "best", "--value", "math"]) == 2
    assert "vote best needs values that do not depend on the reference" in said(capsys)
    assert main(given) == 0
    assert "no functional tokens" in said(capsys)
    assert main(arguments(steps_models, questions, tmp_path / "undisturbed", "--trees")) == 0
    for name in ("answers.jsonl", "trees.jsonl", "summary.json", "curve.json", "accuracy.svg"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_what_cannot_be_solved_is_one_line(steps_models, questions, tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    cases = {
        ("--question", "What is 3 plus 4?"): "give the questions as data, or a single one as question",
        ("--early-stop", "decided", "--vote", "value", "--process-reward", "judge"): "early_stop decided counts votes",
        ("--early-stop", "right"): "early_stop right reads the reference, which solving must not",
        ("--vote", "value"): "vote value needs values that do not depend on the reference; give a process_reward",
        ("--vote", "median"): "vote 'median' is not known; choose one of majority, value, best",
        ("--data", tmp_path / "empty.jsonl"): "empty.jsonl",
        ("--policy", "tokens"): "has no functional token <clarify>",
    }
    for more, message in cases.items():
        assert main(arguments(steps_models, questions, tmp_path / "run", *more)) == 2, more
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rolewise solve: ")]
        assert len(lines) == 1, more
        assert message in lines[0]
    for nothing in ([], ["--question", "  "]):
        assert main(["solve", "--model", str(steps_models / "plain"), "--output", str(tmp_path / "run"), *nothing]) == 2
        assert "question" in capsys.readouterr().err
    assert not list(tmp_path.glob("run*"))


def test_the_reference_vote_is_a_reference() -> None:
    """It tells the three ways apart on trees of random leaves."""
    chance = luck("votes")
    differ = 0
    for _ in range(50):
        tree = Tree(None, "prompts")  # type: ignore[arg-type]  # votes here do not ask
        for _ in range(6):
            leaf = tree.add(tree.root, "output", leaf=True, answer=chance.choice("789"), outcome=chance.random())
            tree.rollouts.append(leaf.number)
        differ += len({reference_vote(tree, by, 6)[0] for by in ("majority", "value", "best")}) > 1
    assert differ > 10
