"""Arrow's structs give every call the keys of all others; what each call had comes back from its own tool's schema."""

import bz2
import gzip
import json
import lzma

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rolewise.core.errors import InputError
from rolewise.data.readers import as_record, read_conversations


def tool(name, properties, required=()):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def turns(name, arguments):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    asked, answered = {"role": "user", "content": "Go."}, {"role": "assistant", "content": "", "tool_calls": [call]}
    return [asked, answered]


FILL = tool("fill", {"cells": {"type": "array"}, "note": {"default": None}})
LOOK = tool("look", {"place": {"type": "string"}})
CALLS = [(turns("fill", {"cells": [1, None], "note": None}), FILL), (turns("look", {"place": "Oslo"}), LOOK)]


def old_turns(messages):
    [asked, answered] = messages
    return [asked, {"role": "assistant", "content": "", "function_call": answered["tool_calls"][0]["function"]}]


def xlam(messages, tool):
    arguments = messages[1]["tool_calls"][0]["function"]["arguments"]
    name, schema = tool["function"]["name"], tool["function"]["parameters"]["properties"]
    answers, tools = [{"name": name, "arguments": arguments}], [{"name": name, "parameters": schema}]
    return {"query": "Go.", "answers": answers, "tools": tools}


def nullable(kind):
    return {"type": [kind, "null"]}


STRICT = tool(
    "save",
    {
        "note": nullable("string"),
        "mode": {"enum": ["fast", None]},
        "at": {
            "type": "object",
            "properties": {"row": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "old": {"type": "integer"}},
            "required": ["row"],
        },
    },
    ["note", "mode", "at"],
)
ROWS = {
    "messages": [{"messages": messages, "tools": [tool]} for messages, tool in CALLS],
    "tools as text": [{"messages": messages, "tools": json.dumps([tool])} for messages, tool in CALLS],
    "prompt and completion": [{"prompt": m[:1], "completion": m[1:], "tools": [tool]} for m, tool in CALLS],
    "trajectory": [{"traj": messages, "tools": [tool]} for messages, tool in CALLS],
    "functions": [{"messages": old_turns(messages), "functions": [tool["function"]]} for messages, tool in CALLS],
    "xlam": [xlam(messages, tool) for messages, tool in CALLS],
    "required nulls": [
        {"messages": turns("save", {"note": None, "mode": None, "at": {"row": None, "old": 1}}), "tools": [STRICT]},
        {"messages": turns("save", {"note": "n", "mode": "fast", "at": {"row": 3, "old": 1}}), "tools": [STRICT]},
        {"messages": turns("save", {"note": "n", "mode": "fast", "at": {"row": 3}}), "tools": [STRICT]},
    ],
    "nothing but nulls": [
        {"messages": turns("set", {"to": value}), "tools": [tool("set", {"to": nullable("string")}, ["to"])]}
        for value in (None, "x")
    ],
}


def read(path):
    return [as_record(conversation) for conversation in read_conversations(path).conversations]


@pytest.fixture
def lines(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("container", ["parquet", "directory"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_every_format_gives_what_its_json_lines_give(tmp_path, lines, rows, container):
    path = tmp_path / "rows"
    if container == "directory":
        datasets.Dataset.from_list(rows).save_to_disk(path)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    # PyArrow 21 infers structs with their keys in alphabetical order.
    assert json.dumps(read(path), sort_keys=True) == json.dumps(read(lines(rows)), sort_keys=True)


def test_a_required_key_that_may_not_be_null_was_missing(tmp_path, lines):
    schema = tool("set", {"to": {"type": "string"}, "by": {"type": "string"}}, ["to", "by"])
    rows = [{"messages": turns("set", given), "tools": [schema]} for given in ({"to": "a"}, {"to": "a", "by": "b"})]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert read(path) == read(lines(rows))


def test_what_was_read_is_plain_dictionaries(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS["messages"]), path)
    first = read_conversations(path).conversations[0]
    call = first.messages[1]["tool_calls"][0]["function"]
    parameters = first.tools[0]["function"]["parameters"]
    assert {type(value) for value in (call["arguments"], first.tools[0], parameters)} == {dict}


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_are_read_by_name_and_within_a_folder(tmp_path, lines, suffix):
    plain = lines(ROWS["messages"])
    folder = tmp_path / "shards"
    folder.mkdir()
    parts = plain.read_bytes().splitlines(keepends=True)
    for number, part in enumerate(parts):
        (folder / f"{number}.jsonl.{suffix}").write_bytes(PACK[suffix](part))
    packed = tmp_path / f"all.jsonl.{suffix}"
    packed.write_bytes(b"".join(map(PACK[suffix], parts)))  # as `cat` joins them
    assert read(packed) == read(folder) == read(plain)
    listed = tmp_path / f"list.json.{suffix}"
    listed.write_bytes(PACK[suffix](b"[\n" + b",\n".join(parts) + b"]"))
    assert read(listed) == read(plain)


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_file_that_is_cut_is_refused_in_one_line(tmp_path, lines, suffix):
    path = tmp_path / f"rows.jsonl.{suffix}"
    path.write_bytes(PACK[suffix](lines(ROWS["messages"]).read_bytes())[:-20])
    with pytest.raises(InputError, match=rf"^[^\n]*rows\.jsonl\.{suffix}: cannot read: [^\n]+$"):
        read(path)
