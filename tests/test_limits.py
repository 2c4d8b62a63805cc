"""What comes in is bounded (lines, nesting, YAML, prompts of known sets), and Arrow keeps a JSON file's nulls."""

import gzip
import json
import os
import time

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rolewise.core import limits
from rolewise.core.errors import InputError
from rolewise.core.files import open_to_umask
from rolewise.data.chat_template import template_text
from rolewise.data.conversation import Conversation
from rolewise.data.readers import as_record, containers, read_conversations
from rolewise.data.tools_in_prompts import with_tools_apart
from rolewise.evaluation.sources import read_records
from rolewise.evaluation.suites.t_eval import files as t_eval_files
from rolewise.jobs.engines import adapter_base

ARGUMENTS = {"row": [None, 2, None], "title": None, "size": 3}
PARAMETERS = {
    "type": "object",
    "properties": {"row": {"enum": ["a", None]}, "title": {"default": None}, "size": {"type": "integer"}},
}


def call(name, arguments, parameters):
    asked = [{"role": "user", "content": "Go."}]
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}]
    tools = [{"type": "function", "function": {"name": name, "parameters": parameters}}]
    return {"messages": [*asked, {"role": "assistant", "content": "", "tool_calls": calls}], "tools": tools}


ROWS = [
    call("fill", ARGUMENTS, PARAMETERS),
    call("look", {"place": "Oslo"}, {"type": "object", "properties": {"place": {"type": "string"}}}),
]


def read(path):
    return [as_record(conversation) for conversation in read_conversations(str(path)).conversations]


@pytest.mark.parametrize("kind", ["parquet of structs", "directory of structs", "directory of Json()", "pyarrow"])
def test_arrow_gives_what_json_lines_give(tmp_path, kind):
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    path = tmp_path / ("rows.parquet" if "directory" not in kind else "rows")
    if kind == "pyarrow":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "directory of Json()":
        features = datasets.Features({key: datasets.List(datasets.Json()) for key in ROWS[0]})
        datasets.Dataset.from_list(ROWS, features=features).save_to_disk(path)
    elif kind == "directory of structs":
        datasets.Dataset.from_list(ROWS).save_to_disk(path)
    else:
        datasets.Dataset.from_list(ROWS).to_parquet(path)
    assert read(path) == read(lines)


def test_bytes_are_text_or_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [b"caf\xc3\xa9"], "completion": [b"yes"]}), path)
    assert [message["content"] for message in read(path)[0]["messages"]] == ["caf\u00e9", "yes"]
    pq.write_table(pa.table({"prompt": [b"\xff\xfe"], "completion": [b"yes"]}), path)
    with pytest.raises(InputError, match="`prompt` must be text"):
        read(path)


def test_a_line_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(containers, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 100_000))
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz:1: the line has more than"):
        read(path)
    path.write_bytes(gzip.compress(json.dumps(ROWS[1]).encode() + b"\n" + b"x" * 100_000 + b"\n"))
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz:2: the line has more than"):
        read(path)


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 5000 + "]" * 5000, "when: 2024-13-45"])
def test_yaml_that_can_not_be_read_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"^[^\n]*config\.yaml[^\n]*not valid YAML[^\n]*$"):
        limits.read_yaml(path)


def test_aliases_of_aliases_are_refused(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    (tmp_path / "config.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match="holds more than"):
        limits.read_yaml(tmp_path / "config.yaml")


def test_deep_json_is_a_value_error():
    with pytest.raises(ValueError, match="nested more than"):
        limits.parse_json("[" * 200_000 + "]" * 200_000)


LISTS = "[" * 200_000 + "]" * 200_000
OBJECTS = '{"a": ' * 200_000 + "1" + "}" * 200_000
ASKED = '{"role": "user", "content": "q"}'
DEEP_LINES = {
    "the whole": LISTS,
    "messages": f'{{"messages": {LISTS}}}',
    "content": f'{{"messages": [{ASKED}, {{"role": "assistant", "content": {LISTS}}}]}}',
    "arguments": f'{{"messages": [{ASKED}, {{"role": "assistant", "content": "", "tool_calls": '
    f'[{{"type": "function", "function": {{"name": "f", "arguments": {json.dumps(OBJECTS)}}}}}]}}]}}',
    "tools": f'{{"messages": [{ASKED}, {{"role": "assistant", "content": "a"}}], "tools": {json.dumps(LISTS)}}}',
}


@pytest.mark.parametrize("where", DEEP_LINES)
def test_a_deep_value_in_a_line_is_that_lines_fault(tmp_path, where):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(ROWS[1]), DEEP_LINES[where], json.dumps(ROWS[1])]), encoding="utf-8")
    with pytest.raises(InputError, match=r"^[^\n]*rows\.jsonl:2: [^\n]*nested more than 200 deep[^\n]*$") as error:
        read(path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("column", ["messages", "tools", "completion"])
def test_a_deep_value_in_a_column_of_text_is_that_rows_fault(tmp_path, column):
    row = {"messages": [{"role": "user", "content": "q"}]} if column == "messages" else {"prompt": "q"}
    row = {key: json.dumps(value) for key, value in row.items()} | {"completion": "a", "tools": "[]", column: LISTS}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    if column == "completion":  # text, as any other
        assert read(path)[0]["messages"][-1]["content"] == LISTS
        return
    with pytest.raises(InputError, match=rf"^[^\n]*rows\.parquet: record 1: `{column}` [^\n]*$") as error:
        read(path)
    assert len(str(error.value)) < 300


def test_files_that_are_read_whole_have_a_size_that_they_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SETTINGS_BYTES", 1000)
    monkeypatch.setattr(t_eval_files, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr("rolewise.evaluation.sources.MAX_FILE_BYTES", 1000)
    (tmp_path / "adapter_config.json").write_text('{"x": "' + "x" * 2000 + '"}', encoding="utf-8")
    path = tmp_path / "adapter_config.json"
    for read_file in (
        lambda: template_text(None, str(path)),
        lambda: template_text(None, "/dev/zero"),
        lambda: t_eval_files.read_examples("plan", path),
        lambda: read_records(path),
        lambda: adapter_base(tmp_path),
        lambda: limits.read_yaml(path),
    ):
        with pytest.raises(
            InputError, match=r"^[^\n]*has more than 1000 bytes; check that this is the [a-z ]+ you mean$"
        ):
            read_file()


def test_foreign_text_steers_no_terminal():
    assert limits.one_line("red \x1b[31m\x9b text\n\u202ereversed") == "red \ufffd[31m\ufffd text \ufffdreversed"


@pytest.mark.parametrize(
    "text",
    [
        "\napi_list = [" + ']\ntask_instruction = "' * 5000,
        "\nQuestion: " + "\nFunction to be used: a\nDescription: " * 3000,
        "\nHere is a list of functions in JSON format that you can invoke:" * 1600,
    ],
)
@pytest.mark.parametrize("role", ["user", "system"])
def test_prompts_of_known_sets_are_parted_in_linear_time(text, role):
    start = time.process_time()
    with_tools_apart(Conversation([{"role": role, "content": text}]), "hermes")
    assert time.process_time() - start < 1.0


def test_private_files_of_libraries_are_opened_to_the_umask(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "model.safetensors").chmod(0o600)
    before = os.umask(0o022)
    try:
        open_to_umask(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
