"""Preference pairs in each public form, and what is said of those that can't be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from rolewise.core.errors import InputError
from rolewise.data.preferences import Row, read_preferences

ASK = {"role": "user", "content": "2 + 2?"}
SYSTEM = {"role": "system", "content": "Be brief."}
GOOD, BAD = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}
MESSAGES = {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]}


def written(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def read(tmp_path: Path, *records: Any) -> list[Row]:
    return read_preferences(written(tmp_path / "pairs.jsonl", *records)).rows


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (MESSAGES, MESSAGES),
        ({"prompt": "2 + 2?", "chosen": [GOOD], "rejected": [BAD]}, MESSAGES),
        # UltraFeedback, binarized: whole conversations, and scores that nobody reads here.
        ({"prompt": "2 + 2?", "chosen": [ASK, GOOD], "rejected": [ASK, BAD], "score_chosen": 8.5}, MESSAGES),
        (
            {"prompt": "2 + 2?", "chosen": [SYSTEM, ASK, GOOD], "rejected": [SYSTEM, ASK, BAD]},
            {**MESSAGES, "prompt": [SYSTEM, ASK]},
        ),
        ({"chosen": [ASK, GOOD], "rejected": [ASK, BAD], "score_rejected": 3}, MESSAGES),
        ({"instruction": "2 + 2?", "chosen_response": "4", "rejected_response": "5"}, MESSAGES),
        # Orca DPO, and Argilla's revision of it.
        ({"system": "", "question": "2 + 2?", "chosen": "4", "rejected": "5"}, MESSAGES),
        (
            {"system": "Be brief.", "input": "2 + 2?", "chosen": "4", "rejected": "5"},
            {**MESSAGES, "prompt": [SYSTEM, ASK]},
        ),
        (
            {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},
            {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},
        ),
        ({"chosen": "2 + 2 = 4", "rejected": "2 + 2 = 5"}, {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}),
    ],
)
def test_every_form_becomes_trls(record: dict, expected: Row, tmp_path: Path) -> None:
    assert read(tmp_path, record) == [expected]


def test_sources_are_those_of_conversations(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", MESSAGES)
    Dataset.from_list([{"instruction": "q", "chosen_response": "a", "rejected_response": "b"}]).to_parquet(
        tmp_path / "b.parquet"
    )
    both = read_preferences(f"{first},{tmp_path / 'b.parquet'}")
    assert [row["prompt"][0]["content"] for row in both.rows] == ["2 + 2?", "q"]
    assert both.sha256 != read_preferences(first).sha256


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "q", "answer": "a"}, "the record has the keys prompt, answer; expected prompt, chosen, rejected"),
        (
            {"prompt": "q", "chosen": "a", "rejected": None},
            "the record has the keys prompt, chosen, rejected; expected",
        ),
        ([1], "expected a JSON object, found list"),
        ({**MESSAGES, "rejected": []}, "`rejected` has no message of its own"),
        ({**MESSAGES, "chosen": [ASK]}, "`chosen` has no message of its own"),
        ({**MESSAGES, "chosen": [GOOD, ASK]}, "`chosen` does not end with an assistant answer"),
        (
            {**MESSAGES, "chosen": [{"role": "assistant", "content": ""}]},
            "`chosen` does not end with an assistant answer",
        ),
        ({**MESSAGES, "chosen": 3}, "`chosen` must be a list of objects"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "`rejected` is empty"),
        ({"system": "", "question": 3, "chosen": "4", "rejected": "5"}, "`question` must be text, found int"),
        ({"system": "", "question": "q", "chosen": "", "rejected": "5"}, "`chosen` is empty"),
    ],
)
def test_a_bad_record_is_one_clear_line(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, MESSAGES, record)
    assert str(error.value).startswith(f"{tmp_path / 'pairs.jsonl'}:2: {message}")
    assert "\n" not in str(error.value)


def test_texts_beside_messages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs.jsonl:2: answers are texts, earlier ones messages"):
        read(tmp_path, MESSAGES, {"prompt": "q", "chosen": "a", "rejected": "b"})


def test_bad_records_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.jsonl", {"a": 1}, MESSAGES, {"prompt": "q", "chosen": "a", "rejected": "b"})
    preferences = read_preferences(path, skip_invalid=True)
    assert preferences.rows == [MESSAGES]
    assert [entry.source for entry in preferences.rejected] == [f"{path}:1", f"{path}:3"]
    with pytest.raises(InputError, match="no preference pair can be used; the record has the keys a"):
        read_preferences(written(tmp_path / "bad.jsonl", {"a": 1}), skip_invalid=True)


@pytest.mark.parametrize(
    "record",
    [
        {**MESSAGES, "rejected": [GOOD]},
        {"chosen": [ASK, GOOD], "rejected": [ASK, GOOD]},
        {"instruction": "2 + 2?", "chosen_response": "4", "rejected_response": "4"},
        {"system": "", "question": "2 + 2?", "chosen": "4", "rejected": "4"},
        {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 4"},
        {"chosen": "2 + 2 = 4", "rejected": "2 + 2 = 4"},
    ],
)
def test_pairs_of_equal_answers_are_left_out_and_counted(record: dict, tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.jsonl", record, record)
    with pytest.raises(InputError, match="no preference pair can be used; chosen and rejected are equal"):
        read_preferences(path)
    side = next(name for name in record if name.startswith("rejected"))
    good = {**record, side: [*record[side][:-1], BAD] if isinstance(record[side], list) else f"{record[side][:-1]}5"}
    preferences = read_preferences(written(tmp_path / "more.jsonl", record, good, record))
    assert len(preferences.rows) == 1
    assert [entry.source.rpartition(":")[2] for entry in preferences.rejected] == ["1", "3"]


def test_shares_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.jsonl", MESSAGES)
    with pytest.raises(InputError, match="can't be mixed by shares"):
        read_preferences(f"{path}=0.5")
    with pytest.raises(InputError, match=r"none.jsonl: cannot read|none.jsonl: no such"):
        read_preferences(str(tmp_path / "none.jsonl"))
