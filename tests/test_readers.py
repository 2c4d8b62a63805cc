"""Readers: what they accept, what they refuse in one line, and that written conversations come back."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.readers import FORMATS, read_conversations, write_conversations

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


def read_one(tmp_path: Path, record: object, **options: str) -> Conversation:
    result = read_conversations(write(tmp_path / "data.jsonl", record), **options)
    assert len(result.conversations) == 1
    return result.conversations[0]


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_conversations(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_messages_as_lines_and_as_a_list(tmp_path: Path) -> None:
    lines = read_conversations(write(tmp_path / "data.jsonl", CHAT, CHAT))
    listed = read_conversations(write(tmp_path / "data.json", [CHAT, CHAT]))
    assert lines.format == listed.format == "messages"
    assert (
        [c.messages for c in lines.conversations]
        == [c.messages for c in listed.conversations]
        == [CHAT["messages"]] * 2
    )
    assert [c.source for c in lines.conversations] == [f"{tmp_path}/data.jsonl:1", f"{tmp_path}/data.jsonl:2"]
    assert listed.conversations[1].source == f"{tmp_path}/data.json: record 2"


def test_bom_crlf_blank_lines_and_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    record = {"messages": [{"role": "user", "content": "a\u2028b\u0085c\x00d"}, CHAT["messages"][1]]}
    body = "\ufeff\r\n\r\n" + json.dumps(record, ensure_ascii=False) + "\r\n  \r\n" + json.dumps(CHAT) + "\r\n"
    path.write_bytes(body.encode())
    result = read_conversations(path)
    assert [c.source.rpartition(":")[2] for c in result.conversations] == ["3", "5"]
    assert result.conversations[0].messages[0]["content"] == "a\u2028b\u0085c\x00d"


def test_openai_calls_are_brought_into_one_shape(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": "é \\ud83d"}'}}
    record = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Eva"},
            {"role": "assistant", "content": None, "tool_calls": [call, {"name": "g", "arguments": "null"}]},
            {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "f", "tool_calls": None},
        ],
        "tools": json.dumps([{"type": "function", "function": {"name": "f"}}]),
    }
    conversation = read_one(tmp_path, record)
    assert conversation.messages == [
        {"role": "user", "content": "ab", "name": "Eva"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": "é \ufffd"}}},
                {"type": "function", "function": {"name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c1"},
    ]
    assert conversation.tools == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        # Plain Alpaca: the task and its data are the user's.
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, [("user", "Add.\n\n1 2"), ("assistant", "3")]),
        ({"instruction": "Add 1 and 2.", "input": "", "output": "3"}, [("user", "Add 1 and 2."), ("assistant", "3")]),
        ({"instruction": "Add 1 and 2.", "output": "3"}, [("user", "Add 1 and 2."), ("assistant", "3")]),
        # rlla: the instruction is a system prompt.
        (
            {"instruction": "You are an assistant.\n\nTools: f", "input": "Hi", "output": "f()"},
            [("system", "You are an assistant.\n\nTools: f"), ("user", "Hi"), ("assistant", "f()")],
        ),
        # Without an input it is all that the user says; of one line it is a task; `system` decides where it is given.
        (
            {"instruction": "You are an assistant.\n\nHelp.", "input": None, "output": "Yes"},
            [("user", "You are an assistant.\n\nHelp."), ("assistant", "Yes")],
        ),
        (
            {"instruction": "You are given a word. Spell it.", "input": "cat", "output": "c a t"},
            [("user", "You are given a word. Spell it.\n\ncat"), ("assistant", "c a t")],
        ),
        (
            {"instruction": "You are a teacher: mark this essay.", "input": "My cat", "output": "C"},
            [("user", "You are a teacher: mark this essay.\n\nMy cat"), ("assistant", "C")],
        ),
        (
            {"system": "Be brief.", "instruction": "You are the host.\nGreet.", "input": "Eva", "output": "Hi"},
            [("system", "Be brief."), ("user", "You are the host.\nGreet.\n\nEva"), ("assistant", "Hi")],
        ),
    ],
)
def test_alpaca(tmp_path: Path, record: dict[str, str], expected: list[tuple[str, str]]) -> None:
    conversation = read_one(tmp_path, record)
    assert [(m["role"], m["content"]) for m in conversation.messages] == expected


def test_lone_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"instruction": "a\\ud800b\\ud83d\\ude42", "output": "\\udfffc"}')
    [conversation] = read_conversations(path).conversations
    assert [m["content"] for m in conversation.messages] == ["a\ufffdb🙂", "\ufffdc"]
    raw = Conversation([{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "x\udc00"}])
    write_conversations([raw], path)
    assert [m["content"] for m in read_conversations(path).conversations[0].messages] == ["\ufffd", "x\ufffd"]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", ["empty"]),
        (b"\n  \n", ["empty"]),
        (b"[]", ["empty"]),
        (b"\xff\xfe{", [":1", "UTF-8"]),
        (b'\n{"messages": [}', [":2", "broken JSON", "column 15"]),
        (b'[{"messages": 1},\n {]', [":2, column 3", "broken JSON"]),
        (b"[" * 100_000, ["can't be read"]),
        (b"3", [":1", "expected a JSON object", "int"]),
        (b"[[]]", ["record 1", "expected a JSON object", "list"]),
        (
            b'{"text": "a", "label": 1}',
            ["unknown format", "label, text", "alpaca (instruction, output or", "messages"],
        ),
        (b'{"messages": "hi"}', [":1", "list of objects"]),
        (b'{"messages": []}', [":1", "no messages"]),
        (b'{"messages": [{"role": "user", "content": "x"}]}', [":1", "no assistant turn"]),
        (b'{"messages": [{"role": "bot", "content": "x"}]}', [":1: message 1", "bot"]),
        (b'{"messages": [{"content": "x"}]}', [":1: message 1", "None"]),
        (b'{"messages": [{"role": "assistant", "content": 3}]}', [":1: message 1", "no text"]),
        (b'{"messages": [{"role": "assistant", "content": [{"type": "image"}]}]}', ["message 1", "'image'"]),
        (
            b'{"messages": [{"role": "assistant", "function_call": {"name": "f"}, "tool_calls": [{"name": "f"}]}]}',
            ["both `tool_calls` and `function_call`"],
        ),
        (b'{"messages": [{"role": "assistant", "content": "x", "reasoning": ["y"]}]}', ["`reasoning` must be text"]),
        (b'{"messages": [{"role": "user", "content": "x", "thinking": "y"}]}', ["only an assistant reasons"]),
        (b'{"messages": [{"role": "user", "content": "", "tool_calls": [{"name": "f"}]}]}', ["only an assistant"]),
        (b'{"messages": [{"role": "assistant", "tool_calls": [{"name": ""}]}]}', ["no function name"]),
        (b'{"messages": [{"role": "assistant", "tool_calls": [3]}]}', ["list of objects"]),
        (
            b'{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]}',
            ["'f'", "broken JSON"],
        ),
        (b'{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}]}', ["an object"]),
        (b'{"messages": [{"role": "assistant", "content": "x"}], "tools": "[{"}', [":1: `tools`", "broken JSON"]),
        (b'{"messages": [{"role": "assistant", "content": "x"}], "tools": {"a": 1}}', [":1: `tools`", "list"]),
        (b'{"instruction": "a", "output": ["b"]}', [":1", "`output` must be text"]),
        (b'{"instruction": "", "output": "b"}', [":1", "the output has no question"]),
        (b'{"instruction": "a", "output": ""}', [":1: message 2", "empty assistant turn"]),
        (
            b'{"messages": [{"role": "assistant", "content": "x"}]}\n{"output": 1}',
            [":2", "output", "expected messages"],
        ),
    ],
)
def test_refusals_name_the_place(tmp_path: Path, body: bytes, parts: list[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(body)
    message = refusal(path)
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


def test_missing_file_folder_and_unknown_format(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "none.jsonl")
    assert "neither a data set nor files" in refusal(tmp_path)
    message = refusal(write(tmp_path / "data.jsonl", CHAT), format="share-gpt")
    assert "'share-gpt'" in message
    assert all(name in message for name in FORMATS)


def test_format_overrides_what_the_keys_say(tmp_path: Path) -> None:
    both = {**CHAT, "instruction": "Add.", "output": "3"}
    assert read_one(tmp_path, both).messages == CHAT["messages"]
    assert read_one(tmp_path, both, format="alpaca").messages[0]["content"] == "Add."


def test_skip_invalid_collects_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(["nonsense", "[1]", json.dumps({"text": 1}), json.dumps(CHAT), '{"messages": []}']))
    assert f"{path}:1" in refusal(path)
    result = read_conversations(path, skip_invalid=True)
    assert [c.source for c in result.conversations] == [f"{path}:4"]
    assert [r.source for r in result.rejected] == [f"{path}:{n}" for n in (1, 2, 3, 5)]
    assert not any(r.reason.startswith(str(path)) for r in result.rejected)
    assert "broken JSON" in result.rejected[0].reason
    write(path, {"messages": []}, {"messages": []})
    assert "no record can be used" in refusal(path, skip_invalid=True)


@pytest.mark.parametrize(
    "spans",
    [
        [[0, 3, "thinking"]],
        [[0, 3]],
        [[2, 2, "reasoning"]],
        [[0, 99, "reasoning"]],
        [[-1, 2, "reasoning"]],
        [[0, 3, "reasoning"], [2, 4, "format"]],
        [["0", 3, "reasoning"]],
        "reasoning",
    ],
)
def test_bad_role_spans_are_refused(tmp_path: Path, spans: object) -> None:
    record = {"messages": [{"role": "assistant", "content": "Hello.", "role_spans": spans}]}
    assert "data.jsonl:1: message 1" in refusal(write(tmp_path / "data.jsonl", record))


texts = st.text(min_size=1, max_size=30).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        calls = [{"type": "function", "function": {"name": "f", "arguments": {"x": draw(texts)}}}]
        messages += [
            {"role": "user", "content": draw(texts)},
            {"role": "assistant", "content": draw(st.none() | texts), "tool_calls": calls},
            {"role": "tool", "content": draw(st.text(max_size=9)), "name": "f"},
            {"role": "assistant", "content": draw(texts)},
        ]
    spans = None
    if draw(st.booleans()):
        spans = []
        for message in messages:
            cuts = sorted(draw(st.sets(st.integers(0, len(message["content"] or "")), max_size=4)))
            spans.append([RoleSpan(a, b, draw(st.sampled_from(Role))) for a, b in itertools.pairwise(cuts)])
    return Conversation(messages, draw(st.none() | st.just([{"name": "f", "ü": None}])), "", spans)


@given(st.lists(conversations(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_comes_back(tmp_path: Path, written: list[Conversation]) -> None:
    path = tmp_path / "out.jsonl"
    write_conversations(written, path)
    read = read_conversations(path).conversations
    assert [(c.messages, c.tools, c.role_spans) for c in read] == [(c.messages, c.tools, c.role_spans) for c in written]
    assert [c.source for c in read] == [f"{path}:{n}" for n in range(1, len(written) + 1)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", CHAT)
    before = path.read_bytes()
    bad = Conversation([{"role": "user", "content": object()}])
    with pytest.raises(TypeError):
        write_conversations([bad], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_real_files(data_dir: Path) -> None:
    rlla = read_conversations(data_dir / "toolrl_rlla/rlla_sft.jsonl")
    assert rlla.format == "alpaca"
    assert {tuple(m["role"] for m in c.messages) for c in rlla.conversations} == {("system", "user", "assistant")}
    chat = read_conversations(data_dir / "general_llms_from_scratch/instruction_1100.jsonl")
    assert {tuple(m["role"] for m in c.messages) for c in chat.conversations} == {("user", "assistant")}
    fireact = read_conversations(data_dir / "fireact/gpt_format__multitask_multimethod.jsonl")
    assert (len(rlla.conversations), len(chat.conversations), len(fireact.conversations)) == (320, 1100, 2063)


@pytest.mark.parametrize(
    ("number", "reason"), [("1e999", "too large"), ("NaN", "NaN is not a JSON number"), ("-Infinity", "a JSON number")]
)
def test_numbers_that_json_does_not_have_are_refused(number, reason, tmp_path):
    path = tmp_path / "data.jsonl"
    call = f'{{"function": {{"name": "f", "arguments": {{"a": {number}}}}}}}'
    turns = '{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": ['
    path.write_text('{"messages": [' + turns + call + "]}]}\n")
    with pytest.raises(InputError, match=rf"data.jsonl:1: .*{reason}"):
        read_conversations(path)


@pytest.mark.parametrize("depth", [150, 400, 700, 900, 5000])
@pytest.mark.parametrize("as_text", [False, True])
def test_deep_nesting_is_read_or_refused(depth, as_text, tmp_path):
    nested = "[" * depth + '"\\u00e9"' + "]" * depth
    arguments = json.dumps('{"a": ' + nested + "}") if as_text else '{"a": ' + nested + "}"
    path = tmp_path / "data.jsonl"
    messages = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"function": '
    path.write_text('{"messages": ' + messages + '{"name": "f", "arguments": ' + arguments + "}}]}]}\n")
    if depth < 190:
        assert len(read_conversations(path).conversations) == 1
    else:
        with pytest.raises(InputError, match="nested more than 200 deep"):
            read_conversations(path)
