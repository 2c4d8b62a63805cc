"""Behaviours: RFTT's own, sets of one's own, and descriptions that can't be used."""

import pytest
import yaml

from rolewise.core.behaviour import RFTT, Behaviour, BehaviourSet, behaviours_from, read_behaviours
from rolewise.core.errors import InputError


def test_the_published_transitions():
    """As in the published code for reinforcement (arXiv 2502.13389)."""
    assert {behaviour.name: " ".join(behaviour.follows) for behaviour in RFTT} == {
        "clarify": "analysis subquestion next_step direct_answer",
        "analysis": "subquestion next_step direct_answer",
        "subquestion": "next_step direct_answer",
        "next_step": "next_step direct_answer subquestion verify output",
        "direct_answer": "output verify",
        "verify": "next_step refine direct_answer subquestion verify output",
        "refine": "next_step direct_answer output subquestion verify",
        "output": "",
    }
    assert RFTT.after(None) == ("clarify", "subquestion", "analysis", "next_step")
    assert [behaviour.name for behaviour in RFTT if behaviour.ends] == ["output"]
    assert {b.name: b.children for b in RFTT if b.prompt} == {
        "clarify": 2,
        "analysis": 2,
        "subquestion": 2,
        "next_step": 2,
        "direct_answer": 1,
    }


def test_tokens_come_in_pairs():
    assert RFTT.tokens[:4] == ["<clarify>", "</clarify>", "<analysis>", "</analysis>"]
    assert len(set(RFTT.tokens)) == 16
    assert ("verify" in RFTT, "think" in RFTT, len(RFTT)) == (True, False, 8)


def test_a_set_comes_back_from_its_file(tmp_path):
    path = tmp_path / "behaviours.yaml"
    path.write_text(yaml.safe_dump(RFTT.as_record(), allow_unicode=True), encoding="utf-8")
    again = read_behaviours(path)
    assert list(again) == list(RFTT)
    assert again.first == RFTT.first


def test_what_is_left_out_has_its_default():
    (plan, end) = behaviours_from(
        {
            "first": ["plan"],
            "behaviours": [
                {"name": "plan", "description": "make a plan", "follows": ["end"]},
                {"name": "end", "description": "end"},
            ],
        }
    )
    assert plan == Behaviour("plan", "make a plan", ("end",), None, 2, False)
    assert end.ends


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first: [a", "not valid YAML"),
        ("- 1", "expected a mapping with the keys first and behaviours"),
        ("{first: [a], behaviours: {a: 1}}", "expected a mapping with the keys first and behaviours"),
        ("{first: [a], behaviours: [a]}", r"behaviours\[0\] is 'a'; expected name"),
        ("{first: [a], behaviours: [{name: a}]}", r"behaviours\[0\]\.description is missing"),
        ("{first: [a], behaviours: [{name: a, description: d, colour: red}]}", r"behaviours\[0\]\.colour is not known"),
        ("{first: [a], behaviours: [{name: a, description: d, children: two}]}", r"\.children is 'two', which has the"),
        ("{first: [a], behaviours: [{name: a, description: d, children: 0}]}", "children is 0; it must be at least 1"),
        ("{first: [a], behaviours: [{name: a, description: d, follows: a}]}", r"\.follows is 'a', which has the"),
        ("{first: [a], behaviours: [{name: A b, description: d}]}", "a name consists of lower-case letters"),
        ("{first: a, behaviours: [{name: a, description: d}]}", "first is 'a'; expected a list of names"),
        ("{first: [], behaviours: [{name: a, description: d}]}", "first is empty"),
        ("{first: [a, a], behaviours: [{name: a, description: d}]}", "first names the same follower twice"),
        ("{first: [b], behaviours: [{name: a, description: d}]}", "first is followed by 'b', which is not among them"),
        (
            "{first: [a], behaviours: [{name: a, description: d}, {name: a, description: e}]}",
            "two have the same name",
        ),
        ("{first: [a], behaviours: [{name: a, description: d, follows: [a]}]}", "no path from the question ends"),
        (
            "{first: [a], behaviours: [{name: a, description: d, follows: [a]}, {name: b, description: d}]}",
            "no path from the question ends",
        ),
    ],
)
def test_descriptions_that_can_not_be_used_are_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "behaviours.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"^[^\n]*behaviours\.yaml(:\d+)?: [^\n]*{message}[^\n]*$"):
        read_behaviours(path)


def test_a_set_needs_names_that_exist():
    with pytest.raises(InputError, match="b is followed by 'c', which is not among them"):
        BehaviourSet([Behaviour("b", "d", ("c",))], first=("b",))


def test_a_missing_file_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot read the behaviours \(No such file or directory\)$"):
        read_behaviours(tmp_path / "none.yaml")
