"""The format read from a file, as `rolewise label` reads it, and refused with the record's place."""

import json
from collections.abc import Mapping
from pathlib import Path

import my_format  # noqa: F401  # registers the format
import pytest

from rolewise import InputError, read_conversations


def write(path: Path, *records: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_file_of_solutions_is_recognised_and_read(tmp_path: Path) -> None:
    record = {"question": "2 + 3 · 4?", "steps": ["3 · 4 = 12", "2 + 12 = 14"], "answer": 14}
    result = read_conversations(write(tmp_path / "solutions.jsonl", record))
    assert [conversation.messages for conversation in result.conversations] == [
        [
            {"role": "user", "content": "2 + 3 · 4?"},
            {"role": "assistant", "content": "3 · 4 = 12\n2 + 12 = 14\nAnswer: 14"},
        ]
    ]


@pytest.mark.parametrize(
    ("change", "reason"), [({"question": " "}, "question"), ({"steps": "3"}, "steps"), ({"answer": None}, "answer")]
)
def test_a_bad_record_is_named(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    good = {"question": "1 + 1?", "steps": [], "answer": "2"}
    path = write(tmp_path / "solutions.jsonl", good, good | change)
    with pytest.raises(InputError, match=rf"solutions\.jsonl:2: `{reason}` must be"):
        read_conversations(path)
