"""Containers, several sources and plugins: the same conversations whatever they lie in."""

import gzip
import itertools
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from rolewise.core.errors import InputError
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.role import Role
from rolewise.data.prepare import prepare
from rolewise.data.readers import FORMATS, Rejected, count_rejects, iter_conversations, read_conversations
from rolewise.data.render import Renderer
from rolewise.data.sources import Source, SourceMix, parse_sources
from rolewise.jobs.label import label
from rolewise.options.labelling import LabelOptions


def chat(word: str, **more: object) -> dict:
    return {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": f"{word}!"}], **more}


RECORDS = [chat(word) for word in ("heron", "newt", "stoat")]


def lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def words(source: object) -> list[str]:
    return [c.messages[0]["content"] for c in read_conversations(str(source)).conversations]


def refusal(source: object) -> str:
    with pytest.raises(InputError) as caught:
        read_conversations(str(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_container_gives_the_same(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", *RECORDS)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write((tmp_path / "a.jsonl").read_text())
    (tmp_path / "c.json").write_text(json.dumps(RECORDS, indent=2))
    (tmp_path / "d.json").write_text(json.dumps({"version": 1, "data": RECORDS}, indent=2))
    (tmp_path / "e.json").write_text(json.dumps({"version": 1, "data": RECORDS}))
    pa.parquet.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "f.parquet")
    datasets.Dataset.from_list(RECORDS).save_to_disk(tmp_path / "g")
    names = ["a.jsonl", "b.jsonl.gz", "c.json", "d.json", "e.json", "f.parquet", "g"]
    assert [words(tmp_path / name) for name in names] == [["heron", "newt", "stoat"]] * len(names)
    (tmp_path / "one.json").write_text(json.dumps(RECORDS[0], indent=2))
    assert words(tmp_path / "one.json") == ["heron"]


def test_arrows_filled_in_keys_are_left_out(tmp_path: Path) -> None:
    tools = [{"name": "f", "parameters": {"x": {"type": "a"}}}, {"name": "g", "parameters": {"y": {"type": "b"}}}]
    pa.parquet.write_table(pa.Table.from_pylist([chat("heron", tools=tools)]), tmp_path / "a.parquet")
    [conversation] = read_conversations(tmp_path / "a.parquet").conversations
    assert conversation.tools == tools


def test_folders_and_globs_file_by_file(tmp_path: Path) -> None:
    lines(tmp_path / "in/b.jsonl", RECORDS[1])
    lines(tmp_path / "in/a.jsonl", {"instruction": "heron", "output": "x"})
    (tmp_path / "in/notes.txt").write_text("not data")
    assert words(tmp_path / "in") == words(tmp_path / "in/*.jsonl") == ["heron", "newt"]
    assert read_conversations(tmp_path / "in").format == "alpaca, messages"
    for source, names in (("in", ["in/a.jsonl:1", "in/b.jsonl:1"]), ("in/*.jsonl", ["a.jsonl:1", "b.jsonl:1"])):
        stream = iter_conversations(tmp_path / source)
        assert [stream.lasting_source(conversation) for conversation in stream] == names
    assert "no file matches" in refusal(tmp_path / "in/*.parquet")


def test_splits_of_a_data_set_and_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = datasets.DatasetDict({n: datasets.Dataset.from_list([r]) for n, r in zip("ab", RECORDS, strict=False)})
    both.save_to_disk(tmp_path / "both")
    asked = []

    def load_dataset(*names: str, streaming: bool) -> datasets.DatasetDict:
        asked.append((*names, streaming))
        return both

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for place in (tmp_path / "both", "owner/chats", "owner/chats/small"):
        assert words(f"{place}:b") == ["newt"]
        assert "has the splits a, b; choose one" in refusal(place)
        assert "has no split 'c'" in refusal(f"{place}:c")
    assert asked == [("owner/chats", True)] * 3 + [("owner/chats", "small", True)] * 3

    def fail(*names: str, streaming: bool) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert refusal("owner/chats").endswith("read from the hub: no network")
    assert "cannot read" in refusal("owner/chats.jsonl")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"messages": []}' * 99, mtime=0)[:40]),
        ("a.jsonl.gz", b"\x1f\x8bnonsense"),
        ("a.parquet", b"PAR1nonsense"),
        ("a.json", b'{\n"data": [}'),
        ("a.json", b'{"a": [{"x": 1}], "b": [{"x": 1}]}'),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    assert refusal(tmp_path / name).startswith(str(tmp_path / name))


def test_reading_does_not_run_ahead(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *[chat(str(n)) for n in range(50)], "bad")
    first = list(itertools.islice(iter_conversations(path), 50))  # the bad one is not reached
    assert len(first) == 50
    assert len(read_conversations(path, limit=50).conversations) == 50
    assert "a.jsonl:51" in refusal(path)


def test_options_that_name_several_things() -> None:
    assert split_list("a.jsonl, b.jsonl") == split_list('["a.jsonl", "b.jsonl"]') == ["a.jsonl", "b.jsonl"]
    assert split_list('["a,b.jsonl"]') == ["a,b.jsonl"]
    assert parse_sources("a=0.7,b=.3") == [Source("a", 0.7), Source("b", 0.3)]
    assert parse_sources("x=y.jsonl") == [Source("x=y.jsonl", None)]
    assert parse_sources(",".join(["a" * 100] * 9)) == [Source("a" * 100, None)] * 9
    for bad in ("a=0.5,b", "a=0", " , "):
        with pytest.raises(InputError):
            parse_sources(bad)


def test_shares_hold_from_the_start_and_end_with_the_first_source(tmp_path: Path) -> None:
    a = lines(tmp_path / "a/x.jsonl", *[chat(f"a{n}") for n in range(30)])
    b = lines(tmp_path / "b/x.jsonl", *[chat(f"b{n}") for n in range(4)])
    mix = SourceMix(parse_sources(f"{a}=3,{b}=1"))
    found = [(conversation.messages[0]["content"], mix.lasting_source(conversation)) for conversation in mix]
    kinds = [word[0] for word, _ in found]
    for size in range(1, len(kinds) + 1):
        assert abs(kinds[:size].count("a") - 0.75 * size) < 1
    assert kinds.count("b") == 4
    assert mix.ended_with == str(b)
    assert {source.split(":")[0] for _, source in found} == {"1/x.jsonl", "2/x.jsonl"}  # alike in name, told apart
    chained = SourceMix(parse_sources(f"{a},{b}"), limit=32)
    assert [c.messages[0]["content"] for c in chained][-3:] == ["a29", "b0", "b1"]


def test_general_chat_is_counted_by_its_share_and_the_hash_sees_it(tmp_path: Path, chatml_tokenizer) -> None:
    data = lines(tmp_path / "data.jsonl", *[chat(f"a{n}") for n in range(6)], {"messages": []}, {"messages": [1]})
    general = lines(tmp_path / "chat.jsonl", *[chat(f"b{n}") for n in range(5)])
    renderer = Renderer(chatml_tokenizer)

    def run(**options: object):
        return prepare(str(data), renderer, skip_invalid=True, general=str(general), **options)

    quarter, every = run(general_share=0.25), run()
    assert (len(quarter.samples), len(quarter.general), len(every.general)) == (6, 2, 5)
    assert len({quarter.sha256, every.sha256, prepare(str(data), renderer, skip_invalid=True).sha256}) == 3
    assert any("only 5 conversations, not the 6" in note for note in run(general_share=0.5).notes)
    assert [r.first.source.rpartition(":")[2] for r in count_rejects(quarter.rejected)] == ["7", "8"]
    moved = lines(tmp_path / "elsewhere/data.jsonl", *map(json.loads, data.read_text().splitlines()))
    assert prepare(str(moved), renderer, skip_invalid=True, general=str(general)).sha256 == every.sha256


def test_rejects_are_counted_by_reason() -> None:
    rejected = [
        Rejected("a:1", "message 1 has role 'x'"),
        Rejected("a:2", "empty"),
        Rejected("a:3", "message 9 has role 'y'"),
    ]
    assert count_rejects(rejected) == [(2, rejected[0]), (1, rejected[1])]


PLUGIN = """
from rolewise.data import Conversation, Format, register_format

def convert(record, source):
    turns = [{"role": "user", "content": record["ask"]}, {"role": "assistant", "content": record["say"]}]
    return Conversation(turns, source=source)

register_format(Format("ask-say", [("ask", "say")], convert))
"""


def test_label_with_a_plugin_general_chat_and_rejects(tmp_path: Path, bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "my_format.py"
    plugin.write_text(PLUGIN)
    data = lines(tmp_path / "data.jsonl", *[{"ask": f"{n}?", "say": '{"n": 1} <think>'} for n in range(3)], {"ask": 1})
    general = lines(tmp_path / "chat.jsonl", chat("heron"))
    options = LabelOptions(
        model=str(bench.model),
        data=str(data),
        general=str(general),
        plugin=str(plugin),
        skip_invalid=True,
        method="regex",
        chat_template="chatml",
        output=str(tmp_path / "out"),
    )
    try:
        result = label(options)
    finally:
        FORMATS.pop("ask-say", None)
    rows = datasets.load_from_disk(str(result.path))
    assert rows["source"][:] == ["data.jsonl:1", "data.jsonl:2", "data.jsonl:3", "chat.jsonl:1"]
    roles = [set(row) - {Role.CONTEXT} for row in rows["token_roles"]]
    assert roles[3] == {Role.PLAIN}
    assert all(Role.PLAIN not in row and Role.FORMAT in row for row in roles[:3])
    [rejected] = (result.path / "rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["source"] == f"{data}:4"


def test_plugins_that_fail_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(InputError, match=r"bad\.py can't be imported: ZeroDivisionError"):
        load_plugins([tmp_path / "bad.py"])
    with pytest.raises(InputError, match="no such Python file"):
        load_plugins([tmp_path / "none.py"])


def test_real_sources_are_read_or_refused(data_dir: Path) -> None:
    counts = {
        "toolace_100/toolace_sharegpt_100.jsonl": 97,
        "llamafactory_demos/glaive_toolcall_en_demo.jsonl": 300,
        "llamafactory_demos/reason_tool_use_demo_50.jsonl": 50,
        "seal_tools/dev_finetune_format.jsonl": 700,
        "taubench/gpt-4o-airline_trajectories.jsonl": 200,
        "toolbench_examples/data_example_train_messages.jsonl": 52,
        "toolrl_rlla/rlla_4k_test.jsonl": 80,
    }
    found = {name: len(read_conversations(data_dir / name, skip_invalid=True).conversations) for name in counts}
    assert found == counts
    assert "without answers" in refusal(data_dir / "eval_bfcl/BFCL_v4_simple_python.jsonl")


def test_a_folder_whose_name_looks_like_a_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("year=2024").mkdir()
    assert parse_sources("year=2024") == [Source("year=2024", None)]
    Path("a,b").mkdir()
    assert parse_sources("a,b") == [Source("a,b", None)]
    assert parse_sources("a,c") == [Source("a", None), Source("c", None)]
    assert parse_sources("year=0.5,b=0.5") == [Source("year", 0.5), Source("b", 0.5)]


@pytest.mark.parametrize("opening", ['{"data": [', '{ "name": "mine", "records": [', "{"])
def test_a_json_object_may_begin_its_list_on_the_first_line(opening, tmp_path):
    record = json.dumps({"instruction": "Which day is it?", "output": "Monday."})
    opening = opening if opening != "{" else '{\n"data": ['
    path = tmp_path / "data.json"
    path.write_text(f"{opening}\n{record},\n{record}\n]}}\n")
    assert len(read_conversations(path).conversations) == 2
