"""Questions out of files of questions and of conversations."""

import json
from pathlib import Path

import pytest

from rolewise.core.errors import InputError
from rolewise.jobs.questions import read_questions, reference_in
from rolewise.search.tree import Question


def lines(folder: Path, *records: object) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_questions_with_and_without_answers(tmp_path: Path) -> None:
    data = lines(
        tmp_path,
        {"id": "a", "question": "What is 3 + 4?", "answer": "3 + 4 = 7\n#### 7"},
        {"problem": "What is 1/2?", "solution": "It is $\\boxed{\\frac{1}{2}}$."},
        {"question": "Which?"},
        {"prompt": "How many?", "reference": 12.0},
        {"question": "Bare?", "answer": "$x + 1$"},
    )
    read = read_questions(data)
    assert read.questions == [
        Question("a", "What is 3 + 4?", "7"),
        Question("data.jsonl:2", "What is 1/2?", r"\frac{1}{2}"),
        Question("data.jsonl:3", "Which?", None),
        Question("data.jsonl:4", "How many?", "12"),
        Question("data.jsonl:5", "Bare?", "x + 1"),
    ]
    assert read.unanswered == 1
    assert len(read_questions(data, limit=2).questions) == 2


def test_conversations_are_questions_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "The answer is 4."}]
    [question] = read_questions(lines(tmp_path, {"messages": turns})).questions
    assert (question.text, question.reference) == ("What is 2 + 2?", "4")


def test_ids_do_not_say_where_files_lie(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    turns = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "The answer is 4."}]
    for record in ({"question": "What is 2 + 2?"}, {"messages": turns}):
        data = [lines(tmp_path / name, record) for name in ("one", "other")]
        assert [question.id for question in read_questions(data[1]).questions] == ["data.jsonl:1"]
        both = [question.id for question in read_questions(",".join(data)).questions]
        assert both == ["1/data.jsonl:1", "2/data.jsonl:1"]


def test_half_a_character_and_a_number_that_is_none_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "What \\ud800?", "answer": NaN}\n', encoding="utf-8")
    [question] = read_questions(str(tmp_path / "data.jsonl")).questions
    assert (question.text, question.reference) == ("What \ufffd?", None)


def test_an_explanation_without_a_marked_answer_is_no_reference() -> None:
    assert reference_in("first this\nthen that") is None
    assert reference_in("word " * 40) is None
    assert reference_in("  42 ") == "42"


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"question": "a", "id": 1}, {"question": "b", "id": 1}], "2 questions have the id '1'"),
        ([{"question": "a"}, {"text": "b"}], "data.jsonl:2: no question"),
        ([{"question": "a"}, ["b"]], "data.jsonl:2: no question"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, records: list, said: str) -> None:
    data = lines(tmp_path, *records)
    with pytest.raises(InputError, match=said) as error:
        read_questions(data)
    assert "\n" not in str(error.value)


def test_records_that_cannot_be_used_are_skipped_when_asked(tmp_path: Path) -> None:
    data = lines(tmp_path, {"question": "a"}, {"text": "b"}, {"question": "c"})
    read = read_questions(data, skip_invalid=True)
    assert [question.text for question in read.questions] == ["a", "c"]
    assert [entry.source for entry in read.rejected] == ["data.jsonl:2"]


def test_an_empty_file_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(InputError) as error:
            read_questions(str(tmp_path / name))
        assert "\n" not in str(error.value)
        assert name in str(error.value)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    data = lines(tmp_path, {"question": "a"})
    with Path(data).open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    with pytest.raises(InputError, match=r"data\.jsonl:2: not a line of JSON"):
        read_questions(data)
