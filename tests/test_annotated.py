"""Hand annotations of real answers: units, checks of replies, κ, final letters, roles of tokens; the committed file."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotate import SOURCES, agreement_lines, confusions, draw, merge
from annotated import (
    ANNOTATIONS,
    UNIT,
    Answer,
    annotated_conversations,
    annotated_roles,
    conversations_of,
    read_annotations,
    role_spans,
    sha256,
    units,
    write_annotations,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.readers import read_conversations
from rolewise.data.render import Renderer
from rolewise.evaluation.kappa import cohen_kappa

ROOT = Path(__file__).parents[1]
TEXT = "Sure, Oslo is dry.\nBye now."  # units: Sure , Oslo is dry . Bye now .


def words(text: str) -> list[str]:
    return [text[unit.start : unit.end] for unit in units(text)]


def an_answer(letters: dict[str, str], adjudicated: str = "", name: str = "a01", text: str = TEXT) -> Answer:
    return Answer(name, "set/chats.jsonl", 1, 1, sha256(text), 0, len(units(text)), letters, adjudicated)


def reply(folder: Path, text: str) -> Path:
    path = folder / "reply.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of data sets with two chats; the second ends in a call."""
    call = {"type": "function", "function": {"name": "find", "arguments": {"city": "Oslo"}}}
    chats = [
        [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": TEXT}],
        [
            {"role": "user", "content": "Find Oslo"},
            {"role": "assistant", "content": "Now?"},
            {"role": "user", "content": "Yes"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
    ]
    path = tmp_path / "data" / "set" / "chats.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<think> Use get_weather, don't wait... </think>",
            ["<think>", "Use", "get_weather", ",", "don't", "wait", "...", "</think>"],
        ),
        (
            '{"city":"New-York","n": 3.5}}',
            [*'{"', "city", '"', ":", '"', "New-York", '"', ",", '"', "n", '"', ":", "3.5", "}}"],
        ),
        ("$2,000 (50%) at 10:30, a:b", ["$", "2,000", "(", "50", "%", ")", "at", "10:30", ",", "a", ":", "b"]),
        ("See https://a.io/x?y=1. Me@b.org!", ["See", "https://a.io/x?y=1", ".", "Me@b.org", "!"]),
        ("1. **Füße** 2024-05-01", ["1", ".", "**", "Füße", "**", "2024-05-01"]),
        ("", []),
    ],
)
def test_units_are_words_tags_and_marks(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.sampled_from("ab1_ é<>/\"'{}:,.- \n\thttps")))
def test_every_visible_character_is_in_exactly_one_unit(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


def test_the_rules_state_the_pattern_in_use() -> None:
    rules = (ROOT / "annotations" / "RULES.md").read_text(encoding="utf-8")
    assert f"\n    {UNIT.pattern}\n" in rules


def test_a_complete_reply_is_stored(tmp_path: Path) -> None:
    path = reply(tmp_path, "# mine\na01: 4-9T 1T, 2T\n\na01: 3R\n")
    [merged] = merge([an_answer({"A": "TTRTRTTTT"})], "B", [path])
    assert merged.letters == {"A": "TTRTRTTTT", "B": "TTRTTTTTT"}
    write_annotations(tmp_path / "stored.json", 5, [merged])
    assert read_annotations(tmp_path / "stored.json") == [merged]
    assert json.loads((tmp_path / "stored.json").read_text(encoding="utf-8"))["seed"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a01: 1-8T", r"^a01: 1 units have no letter, the first is 9"),
        ("# nothing", r"^a01: 9 units have no letter, the first is 1"),
        ("a01: 1-9T\na01: 3R", r"reply\.txt:2: a01: unit 3 has a letter already"),
        ("a01: 1-10T", r"reply\.txt:1: a01: 10 is not one of its 9 units"),
        ("a01: 0-9T", r"reply\.txt:1: a01: 0 is not one of its 9 units"),
        ("a01: 1-9X", r"reply\.txt:1: '1-9X' is not unit numbers and a letter of RCFT"),
        ("a01: 1-9 T", r"reply\.txt:1: '1-9' is not unit numbers"),
        ("a01: 9-1T", r"reply\.txt:1: '9-1T' is no range of units"),
        ("a01: 1-999999999T", r"reply\.txt:1: '1-999999999T' is no range of units"),
        ("a02: 1-9T", r"reply\.txt:1: expected a line such as `a01: 1-3F 4R`"),
        ("a01 1-9T", r"reply\.txt:1: expected a line such as"),
    ],
)
def test_a_reply_with_an_error_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        merge([an_answer({})], "A", [reply(tmp_path, text)])
    assert "\n" not in str(raised.value)


def test_a_part_can_be_checked_alone(tmp_path: Path) -> None:
    both = [an_answer({}), an_answer({}, name="a02")]
    path = reply(tmp_path, "a02: 1-9T")
    assert [answer.letters for answer in merge(both, "A", [path], partial=True)] == [{}, {"A": "T" * 9}]
    with pytest.raises(InputError, match=r"^a01: 9 units have no letter"):
        merge(both, "A", [path])
    with pytest.raises(InputError, match=r"^a02: 1 units have no letter"):
        merge(both, "A", [reply(tmp_path, "a02: 1-8T")], partial=True)


def test_an_absent_reply_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot read"):
        merge([an_answer({})], "A", [tmp_path / "none.txt"])


def test_agreement_by_hand() -> None:
    # By hand, R against the rest over 18 units: both R 2, A alone 2, B alone 1, neither 13. p_o = 15/18,
    # p_e = (4 · 3 + 14 · 15) / 18² = 222/324, κ = (270 − 222) / (324 − 222) = 48/102.
    answers = [
        an_answer({"A": "TTRTRTTTT", "B": "TTRTCTTTF"}),
        an_answer({"A": "RRTTTTTTT", "B": "RTRTTTTTT"}, name="a02"),
    ]
    matrices = confusions(answers, ("R", "CFT"))
    assert matrices.sum(axis=0).tolist() == [[2, 2], [1, 13]]
    assert cohen_kappa(matrices.sum(axis=0)) == pytest.approx(48 / 102)
    lines = agreement_lines(answers)
    assert lines[0] == "18 units in 2 answers"
    assert lines[1].startswith("R against the rest: agreement 83.3% [")
    assert "κ 0.47 [" in lines[1]
    # Four classes: T and F differ once more. p_o = 14/18; of A R 4, T 14; of B R 3, C 1, F 1, T 13;
    # p_e = (12 + 182) / 324, κ = (252 − 194) / (324 − 194) = 58/130.
    assert lines[2].startswith("four classes: agreement 77.8% [")
    assert "κ 0.45 [" in lines[2]
    assert "share of R, A: 22.2%" in lines
    assert "share of R, B: 16.7%" in lines
    assert lines[-2:] == [
        "share of R, final: 13.3% of 15 units decided",
        "in dispute: 3 units, of which 0 are adjudicated",
    ]


def test_only_units_in_dispute_are_adjudicated(tmp_path: Path) -> None:
    answer = an_answer({"A": "TTRTRTTTT", "B": "TTRTCTTTF"})
    assert answer.disputed() == [4]
    assert answer.final() == "TTRT.TTTB"
    [decided] = merge([answer], "adjudicated", [reply(tmp_path, "a01: 5R")])
    assert (decided.adjudicated, decided.final()) == ("....R....", "TTRTRTTTB")
    with pytest.raises(InputError, match="a01: 3 is no unit in dispute"):
        merge([answer], "adjudicated", [reply(tmp_path, "a01: 3R 5R")])
    with pytest.raises(InputError, match="a01: 1 units have no letter, the first is 5"):
        merge([answer], "adjudicated", [reply(tmp_path, "# none")])
    [again] = merge([decided], "B", [reply(tmp_path, "a01: 1-2R 3-9T")])
    assert again.adjudicated == "", "other letters, other disputes"


def test_one_annotation_is_not_enough() -> None:
    with pytest.raises(InputError, match="a01: 1 annotations; merge those of two annotators first"):
        agreement_lines([an_answer({"A": "T" * 9})])


def test_spans_give_a_space_to_the_word_after_it_and_line_breaks_to_the_layout() -> None:
    answer = an_answer({"A": "TTRTRTTTT", "B": "TTRTCTTTF"})
    expected = [
        ("Sure,", Role.TEMPLATE),
        (" Oslo", Role.REASONING),
        (" is", Role.TEMPLATE),  # " dry" is in dispute
        (".", Role.TEMPLATE),
        ("\n", Role.FORMAT),
        ("Bye now", Role.TEMPLATE),
        (".", Role.BOILERPLATE),
    ]
    assert [(TEXT[start:end], role) for start, end, role in role_spans(answer, TEXT)] == expected
    stretch = replace(answer, first=2, end=4, letters={"A": "RT", "B": "RT"})
    assert role_spans(stretch, TEXT) == [RoleSpan(5, 10, Role.REASONING), RoleSpan(10, 13, Role.TEMPLATE)]


def test_tokens_take_the_role_of_the_unit_that_holds_them(data: Path, chatml_tokenizer) -> None:
    answer = an_answer({"A": "TTRTRTTTT", "B": "TTRTCTTTF"})
    [conversation] = annotated_conversations(data, [answer])
    renderer = Renderer(chatml_tokenizer)
    [sample] = renderer.render(conversation)
    truth_T = sample.true_roles
    assert truth_T is not None
    begin = sample.text.index(TEXT)
    role_of = {TEXT[s:e]: role for s, e, role in role_spans(answer, TEXT)}
    checked = 0
    for token in np.flatnonzero(sample.loss_mask):
        start, end = int(sample.char_start[token]) - begin, int(sample.char_end[token]) - begin
        inside = [role for s, e, role in role_spans(answer, TEXT) if s <= start and end <= e]
        expected = inside[0] if inside else Role.FORMAT if start >= len(TEXT) else Role.PLAIN
        assert truth_T[token] == expected, TEXT[start:end]
        checked += bool(inside)
    assert checked >= len(role_of)
    assert Role.PLAIN in truth_T[sample.loss_mask], "the unit in dispute"
    # The same roles for the conversation as the data set has it.
    [plain] = renderer.render(read_conversations(data / "set" / "chats.jsonl").conversations[0])
    assert plain.true_roles is None
    found_T = annotated_roles(plain, [answer])
    assert found_T is not None
    assert np.array_equal(found_T, truth_T)
    assert annotated_roles(plain, [replace(answer, sha256="0")]) is None


def test_calls_are_annotated_as_text(data: Path, chatml_tokenizer) -> None:
    conversation = read_conversations(data / "set" / "chats.jsonl").conversations[1]
    text = written(conversation).messages[-1]["content"]
    letters = "".join({"find": "R", "city": "R", "Oslo": "R"}.get(word, "F") for word in words(text))
    answer = replace(an_answer({"A": letters, "B": letters}, text=text), row=2, message=3)
    [with_roles] = annotated_conversations(data, [answer])
    renderer = Renderer(chatml_tokenizer)
    [sample], [native] = renderer.render(with_roles), renderer.render(conversation)
    truth_T = sample.true_roles
    assert truth_T is not None
    # " Now?", the earlier turn, is not annotated.
    assert set(truth_T[sample.turns[0].start : sample.turns[0].end].tolist()) == {Role.PLAIN, Role.FORMAT}
    shown = [sample.text[s:e] for s, e in zip(sample.char_start, sample.char_end, strict=True)]
    assert "".join(np.array(shown)[truth_T == Role.REASONING]) == "findcityOslo"
    found_T = annotated_roles(native, [answer])
    assert found_T is not None
    last = native.turns[-1]
    assert np.array_equal(found_T[last.start : last.end], truth_T[sample.turns[-1].start : sample.turns[-1].end])


def test_another_version_of_the_data_is_refused(data: Path) -> None:
    answer = an_answer({"A": "T" * 9, "B": "T" * 9})
    for wrong in (replace(answer, sha256="0"), replace(answer, row=9), replace(answer, message=0)):
        with pytest.raises(InputError, match=r"chats\.jsonl:\d: not the text that was annotated; use that version"):
            annotated_conversations(data, [wrong])


def test_a_broken_file_of_annotations_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stored.json"
    write_annotations(path, 0, [an_answer({"A": "TT"})])
    with pytest.raises(InputError, match=r"stored\.json: cannot read the annotations: a01 needs 9 letters of RCFT"):
        read_annotations(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"stored\.json: cannot read the annotations"):
        read_annotations(path)
    with pytest.raises(InputError, match=r"none\.json: cannot read the annotations"):
        read_annotations(tmp_path / "none.json")


def test_a_draw_takes_stretches_of_fitting_answers_and_repeats_itself(tmp_path: Path) -> None:
    long = " ".join(f"w{number}" for number in range(250))
    contents = ["first " * 30, *["farewell " * 30] * 2, "too short", long, "fits " * 20, "fits also " * 10]
    chats = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": each}] for each in contents]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")
    drawn = draw(tmp_path, 3, [("set.jsonl", 3, 1)])
    assert drawn == draw(tmp_path, 3, [("set.jsonl", 3, 1)])
    assert [answer.name for answer in drawn] == ["a01", "a02", "a03"]
    by_row = {answer.row: (answer.first, answer.end) for answer in drawn}
    assert by_row.keys() == {5, 6, 7}
    assert by_row[5] in {(0, 83), (83, 166), (166, 250)}
    assert by_row[6] == by_row[7] == (0, 20)
    with pytest.raises(InputError, match=r"set\.jsonl: 3 answers fit; 4 are needed"):
        draw(tmp_path, 3, [("set.jsonl", 4, 1)])


def test_the_commands_from_working_files_to_conversations(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "stored.json"
    write_annotations(stored, 0, [an_answer({})])
    run = command(monkeypatch, stored)
    run("write", "--data", data, "--output", tmp_path / "A")
    shown = (tmp_path / "A" / "1.md").read_text(encoding="utf-8")
    assert (
        f"=== user\nOslo?\n=== THE ANSWER\n⟦{TEXT}⟧\n=== UNITS\n1·Sure  2·,  3·Oslo  4·is  5·dry  6·.\n7·Bye" in shown
    )
    assert "1-3F 4R" in (tmp_path / "A" / "INSTRUCTIONS.md").read_text(encoding="utf-8")
    run("merge", "--check", "--annotator", "A", reply(tmp_path, "a01: 1-2T 3R 4T 5R 6-9T"))
    assert read_annotations(stored) == [an_answer({})]
    run("merge", "--annotator", "A", tmp_path / "reply.txt")
    run("merge", "--annotator", "B", reply(tmp_path, "a01: 1-2T 3R 4-9T"))
    capsys.readouterr()
    run("agree", "--data", data, "--disputes", tmp_path / "D")
    assert "in dispute: 1 units, of which 0 are adjudicated" in capsys.readouterr().out
    assert "=== IN DISPUTE\n5·dry   A R, B T\n" in (tmp_path / "D" / "disputes.md").read_text(encoding="utf-8")
    run("merge", "--annotator", "adjudicated", reply(tmp_path, "a01: 5R"))
    run("export", "--data", data, "--output", tmp_path / "out.jsonl")
    [conversation] = read_conversations(tmp_path / "out.jsonl").conversations
    assert conversation.role_spans is not None
    spans = conversation.role_spans[-1]
    assert [TEXT[s:e] for s, e, role in spans if role is Role.REASONING] == [" Oslo", " dry"]


def command(monkeypatch: pytest.MonkeyPatch, stored: Path) -> Callable[..., None]:
    """Runs the script on this file of annotations."""

    def run(*parts: object) -> None:
        monkeypatch.setattr(sys, "argv", ["annotate.py", "--annotations", str(stored), *map(str, parts)])
        runpy.run_path(str(ROOT / "experiments" / "annotate.py"), run_name="__main__")

    return run


def test_the_committed_annotations_hold_no_text() -> None:
    answers = read_annotations()
    assert [answer.name for answer in answers] == [f"a{number:02}" for number in range(1, 41)]
    stored = json.loads(ANNOTATIONS.read_text(encoding="utf-8"))
    files = {file for file, _, _ in SOURCES}
    for entry in stored["answers"]:
        assert entry["file"] in files
        assert all(set(letters) <= set("RCFT") for letters in entry["letters"].values())
        assert set(entry["adjudicated"]) <= set("RCFT.")
        texts = {key for key, value in entry.items() if isinstance(value, str)}
        assert texts == {"name", "file", "sha256", "adjudicated"}


def test_the_committed_annotations_are_the_draw_from_the_data(data_dir: Path, chatml_tokenizer) -> None:
    answers = read_annotations()
    found = conversations_of(answers, data_dir)  # checks the hashes
    seed = json.loads(ANNOTATIONS.read_text(encoding="utf-8"))["seed"]
    bare = [replace(answer, letters={}, adjudicated="") for answer in answers]
    assert draw(data_dir, seed) == bare
    renderer = Renderer(chatml_tokenizer)
    for answer, conversation in zip(answers, found.values(), strict=True):
        assert isinstance(conversation, Conversation)
        count = answer.end - answer.first
        marked = replace(answer, letters={"x": "R" * count, "y": "R" * count}, adjudicated="")
        [sample] = renderer.render(conversation)
        roles_T = annotated_roles(sample, [marked])
        assert roles_T is not None
        text = conversation.messages[-1]["content"]
        reasoning = [
            sample.text[sample.char_start[t] : sample.char_end[t]] for t in np.flatnonzero(roles_T == Role.REASONING)
        ]
        visible = "".join(text[slice(*unit)] for unit in units(text)[answer.first : answer.end])
        assert len("".join("".join(reasoning).split())) > 0.9 * len(visible)
