"""Trees: how nodes hang together, and records that come back whole or are refused in one line."""

import json
import math

import pytest

from rolewise.core.errors import InputError
from rolewise.search.tree import Question, Step, Tree, read_trees, tree_from, write_trees


@pytest.fixture
def tree():
    tree = Tree(Question("q", "How many? 東京", "5"), "tokens", prompt_ids=[7, 8])
    step = tree.add(tree.root, "next_step", text="2 + 3", ids=[1, 2, 3], logprobs=[-0.5, -1.0, -2.25], prior=-0.1)
    tree.add(tree.root, "clarify", text="", ids=[9], closed=False)
    leaf = tree.add(step, "output", text="5", ids=[4, 5], leaf=True, answer="5", right=True, outcome=1.0)
    tree.root.visits = step.visits = leaf.visits = 2
    tree.root.value = step.value = leaf.value = 1.5
    tree.root.next_logprobs = [-1.0, -2.0]
    tree.rollouts = [3, 3]
    return tree


def test_paths_steps_and_ids(tree):
    leaf = tree.nodes[3]
    assert [node.number for node in tree.path(leaf)] == [1, 3]
    assert (tree.path(tree.root), tree.depth(tree.root), tree.depth(leaf)) == ([], 0, 2)
    assert tree.steps(leaf) == [Step("next_step", "2 + 3"), Step("output", "5")]
    assert tree.path_ids(leaf) == [7, 8, 1, 2, 3, 4, 5]
    assert [child.behaviour for child in tree.children(tree.root)] == ["next_step", "clarify"]
    assert tree.leaves() == [leaf]
    assert (leaf.mean, tree.nodes[2].mean) == (0.75, 0.0)


def test_a_leaf_that_was_not_judged_is_none_of_the_leaves(tree):
    tree.nodes[2].leaf = True
    assert tree.leaves() == [tree.nodes[3]]


def test_trees_come_back_from_their_file(tree, tmp_path):
    write_trees(tmp_path / "trees.jsonl", [tree, Tree(Question("r", "Why?"), "prompts")])
    text = (tmp_path / "trees.jsonl").read_text(encoding="utf-8")
    assert "東京" in text
    (tmp_path / "trees.jsonl").write_text(text.replace("\n", "\n\n"), encoding="utf-8")
    assert list(read_trees(tmp_path / "trees.jsonl")) == [tree, Tree(Question("r", "Why?"), "prompts")]


def test_what_a_later_version_adds_is_passed_over(tree):
    record = tree.as_record()
    record["later"] = record["nodes"][0]["later"] = record["question"]["later"] = 1
    assert tree_from(record) == tree


def changed(record, place, value):
    *way, last = place
    inner = record
    for key in way:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return record


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["schema"], KeyError, r"not a tree \(no field 'schema'\)"),
        (["schema"], 2, r"a tree of schema 2; this version reads schema 1"),
        (["nodes"], KeyError, r"a damaged tree \(no nodes\)"),
        (["nodes"], [], r"a damaged tree \(no nodes\)"),
        (["nodes"], {"0": 1}, r"a damaged tree \(no nodes\)"),
        (["nodes", 1], None, r"a damaged tree \(node 1 is None, not an object\)"),
        (["nodes", 1, "parent"], KeyError, r"a damaged tree \(node 1 has no 'parent'\)"),
        (["nodes", 1, "parent"], 3, r"a damaged tree \(node 1 is not below the parent that it names\)"),
        (["nodes", 1, "parent"], -1, r"a damaged tree \(node 1 is not below the parent that it names\)"),
        (["nodes", 1, "parent"], None, r"a damaged tree \(node 1 is not below the parent that it names\)"),
        (["nodes", 0, "parent"], 0, r"a damaged tree \(node 0 is not below the parent that it names\)"),
        (["nodes", 2, "number"], 1, r"a damaged tree \(node 2 is not below the parent that it names\)"),
        (["nodes", 2, "behaviour"], None, r"a damaged tree \(node 2 is not below the parent that it names\)"),
        (["nodes", 3, "parent"], 2, r"a damaged tree \(node 1 has children other than those that name it\)"),
        (["nodes", 0, "children"], [1, 2, 3], r"a damaged tree \(node 0 has children other than those that name it\)"),
        (["nodes", 0, "children"], [1, 1], r"a damaged tree \(node 0 has children other than those that name it\)"),
        (["nodes", 0, "children"], 1, r"a damaged tree \(node 0 has 'children' 1\)"),
        (["nodes", 3, "visits"], "2", r"a damaged tree \(node 3 has 'visits' '2'\)"),
        (["nodes", 3, "visits"], True, r"a damaged tree \(node 3 has 'visits' True\)"),
        (["nodes", 3, "value"], math.nan, r"a damaged tree \(node 3 has 'value' nan\)"),
        (["nodes", 3, "right"], "yes", r"a damaged tree \(node 3 has 'right' 'yes'\)"),
        (["nodes", 1, "ids"], [1, 2.5, 3], r"a damaged tree \(node 1 has 'ids' \[1, 2.5, 3\]\)"),
        (["nodes", 1, "logprobs"], [-1.0], r"a damaged tree \(node 1 has 3 ids, 1 logprobs\)"),
        (["question"], "How many?", r"a damaged tree \(its question is 'How many\?', not an object\)"),
        (["question", "id"], KeyError, r"a damaged tree \(its question has no 'id'\)"),
        (["policy"], "dice", r"a damaged tree \(it has 'policy' 'dice'\)"),
        (["rollouts"], [3, 4], r"a damaged tree \(a rollout ends at a missing node\)"),
        (["rollouts"], [-1], r"a damaged tree \(a rollout ends at a missing node\)"),
    ],
)
def test_damaged_records_are_refused_in_one_line(tree, tmp_path, place, value, message):
    record = changed(tree.as_record(), place, value)
    (tmp_path / "trees.jsonl").write_text("\n" + json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"^[^\n]*trees\.jsonl:2: {message}$"):
        list(read_trees(tmp_path / "trees.jsonl"))


@pytest.mark.parametrize("line", [b'{"schema": 1, ', b"[" * 100_000, b'"\xff"', b"[]"])
def test_lines_that_are_no_trees_are_refused_in_one_line(tmp_path, line):
    (tmp_path / "trees.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"^[^\n]*trees\.jsonl:1: not a [^\n]*$"):
        list(read_trees(tmp_path / "trees.jsonl"))


def test_a_missing_file_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot read the trees \(No such file or directory\)$"):
        list(read_trees(tmp_path / "none.jsonl"))
