"""Every record format: what its records become, what of them is refused, and that nothing else can happen."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.message_fields import REASONING_NOTE
from rolewise.data.readers import FORMATS, Format, read_conversations, register_format
from rolewise.data.readers.record_formats import why_unknown
from rolewise.data.readers.sharegpt import CALL_AS_TEXT

LOOKUP = {"name": "lookup", "description": "Find a word.", "parameters": {"type": "object", "properties": {"word": {}}}}
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
WRAPPED = [{"type": "function", "function": LOOKUP}]


def convert(record: dict, name: str) -> Conversation:
    assert FORMATS[name].recognises(record)
    return FORMATS[name].convert(record, "here:1").check()


def call(name: str, **arguments: object) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def turns(conversation: Conversation) -> list[tuple]:
    """Role, content and (name, arguments) of the calls."""
    return [
        (
            m["role"],
            m["content"],
            *((c["function"]["name"], c["function"]["arguments"]) for c in m.get("tool_calls", [])),
        )
        for m in conversation.messages
    ]


def test_sharegpt() -> None:
    record = {
        "system": "Be kind.",
        "tools": json.dumps([LOOKUP]),
        "conversations": [
            {"from": "human", "value": "What is a heron?"},
            {"from": "function_call", "value": '{"name": "lookup", "arguments": {"word": "heron"}}'},
            {"from": "observation", "value": "a bird"},
            {"from": "gpt", "value": "A bird."},
            {"from": "user", "value": "And a newt and a stoat?"},
            {"from": "function_call", "value": '[{"name": "lookup", "arguments": {"word": "newt"}}, {"name": "stop"}]'},
            {"from": "tool", "value": "{}"},
            {"from": "function_call", "value": "lookup(word='stoat')"},
            {"from": "function_response", "value": "a mammal"},
        ],
    }
    conversation = convert(record, "sharegpt")
    assert turns(conversation) == [
        ("system", "Be kind."),
        ("user", "What is a heron?"),
        ("assistant", None, ("lookup", {"word": "heron"})),
        ("tool", "a bird"),
        ("assistant", "A bird."),
        ("user", "And a newt and a stoat?"),
        ("assistant", None, ("lookup", {"word": "newt"}), ("stop", {})),
        ("tool", "{}"),
        ("assistant", "lookup(word='stoat')"),
        ("tool", "a mammal"),
    ]
    assert conversation.tools == WRAPPED
    assert conversation.notes == (CALL_AS_TEXT,)
    assert turns(convert({"conversations": CHAT}, "sharegpt")) == [("user", "Hi"), ("assistant", "Ho")]


def test_toolbench_writes_functions_and_function_call() -> None:
    record = {
        "functions": [LOOKUP],
        "messages": [
            {"role": "user", "content": "heron?", "valid": True},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "lookup", "arguments": '{"word": "heron"}'},
            },
            {"role": "function", "name": "lookup", "content": "a bird"},
            {"role": "assistant", "content": "Thought: done\nAction: Finish\nAction Input: {}"},
        ],
    }
    conversation = convert(record, "messages")
    assert [turn[0] for turn in turns(conversation)] == ["user", "assistant", "tool", "assistant"]
    assert turns(conversation)[1] == ("assistant", None, ("lookup", {"word": "heron"}))
    assert conversation.tools == WRAPPED


@pytest.mark.parametrize("query", ["heron?", [{"role": "user", "content": "heron?"}]])
@pytest.mark.parametrize("as_text", [False, True])
def test_xlam_and_hammer(query: object, as_text: bool) -> None:
    tools = [{"name": "lookup", "description": "", "parameters": {"word": {"type": "str"}}}]
    answers = [{"name": "lookup", "arguments": {"word": "heron"}}]
    texts = [json.dumps(value) if as_text else value for value in (tools, answers)]
    conversation = convert({"query": query, "tools": texts[0], "answers": texts[1]}, "xlam")
    assert turns(conversation) == [("user", "heron?"), ("assistant", None, ("lookup", {"word": "heron"}))]
    assert conversation.tools is not None
    assert conversation.tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"word": {"type": "str"}},
    }


def test_glaive() -> None:
    system = f"SYSTEM: Help with these functions. Use them if required -\n{json.dumps(LOOKUP, indent=4)}\n"
    chat = (
        "USER: What's a heron?\n\n\nASSISTANT: Wait. <functioncall> "
        '{"name": "lookup", "arguments": \'{"word": "heron\\\'s"}\'} <|endoftext|>\n\n\n'
        "FUNCTION RESPONSE: a bird\n\n\nASSISTANT: A bird.\nUSER is you. <|endoftext|>\n\n\n"
        'USER: Again\n\n\nASSISTANT: <functioncall> {"name": "lookup", "arguments": {}} <|endoftext|>'
    )
    conversation = convert({"system": system, "chat": chat}, "glaive")
    assert turns(conversation) == [
        ("system", "Help with these functions. Use them if required -"),
        ("user", "What's a heron?"),
        ("assistant", "Wait.", ("lookup", {"word": "heron's"})),
        ("tool", "a bird"),
        ("assistant", "A bird.\nUSER is you."),
        ("user", "Again"),
        ("assistant", None, ("lookup", {})),
    ]
    assert conversation.tools == WRAPPED


def test_prompt_and_completion_as_text_and_as_messages() -> None:
    as_text = {"prompt": "Hi", "completion": "Ho"}
    as_messages = {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Ho", "tool_calls": [call("f", x=1)]}],
        "tools": WRAPPED,
    }
    assert turns(convert(as_text, "prompt-completion")) == [("user", "Hi"), ("assistant", "Ho")]
    conversation = convert(as_messages, "prompt-completion")
    assert turns(conversation) == [("system", "S"), ("user", "Hi"), ("assistant", "Ho", ("f", {"x": 1}))]
    assert conversation.tools == WRAPPED


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("alpaca", {"instruction": "Add.", "input": "1 2", "response": "3"}, ("Add.\n\n1 2", "3")),
        ("alpaca", {"instruction": "Who?", "context": "Eva.", "response": "Eva"}, ("Who?\n\nEva.", "Eva")),
        (
            "self-instruct",
            {"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}]},
            ("Add.\n\n1 2", "3"),
        ),
        ("question-answer", {"question": "1+2?", "answer": "3"}, ("1+2?", "3")),
        ("question-answer", {"question": "q", "problem": "1+2?", "solution": "so 3", "answer": 3}, ("1+2?", "so 3")),
        ("question-answer", {"question": "1+2?", "solution": "so 3", "answer": 3}, ("1+2?", "so 3")),
        ("question-answer", {"question": "1+2?", "problem": "p", "answer": "3"}, ("1+2?", "3")),
        (
            "trajectory",
            {"traj": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
            ("Hi", "Ho"),
        ),
    ],
)
def test_one_question_one_answer(name: str, record: dict, expected: tuple[str, str]) -> None:
    assert turns(convert(record, name)) == [("user", expected[0]), ("assistant", expected[1])]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "3", "reasoning_content": "1+2"},
        {"content": "3", "reasoning": "1+2", "reasoning_content": "1+2"},
        {"content": [{"type": "thinking", "thinking": "1+2"}, {"type": "text", "text": "3"}]},
        {"content": [{"type": "reasoning", "value": "1+2"}, {"type": "text", "value": "3"}]},
    ],
)
def test_separate_reasoning_goes_before_the_content(message: dict) -> None:
    conversation = convert({"messages": [{"role": "assistant", **message}]}, "messages")
    assert conversation.messages == [{"role": "assistant", "content": "<think>\n1+2\n</think>\n\n3"}]
    assert conversation.notes == (REASONING_NOTE,)


def test_calls_in_content_parts() -> None:
    parts = [
        {"type": "reasoning", "value": "hm"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
    ]
    conversation = convert({"messages": [{"role": "assistant", "content": parts}]}, "messages")
    assert turns(conversation) == [("assistant", "<think>\nhm\n</think>\n\n", ("f", {"x": 1}))]
    only_call = convert({"messages": [{"role": "assistant", "content": parts[1:]}]}, "messages")
    assert turns(only_call) == [("assistant", None, ("f", {"x": 1}))]


CALL_TURN = {"from": "function_call"}


@pytest.mark.parametrize(
    ("name", "record", "part"),
    [
        ("sharegpt", {"conversations": "x"}, "`conversations` must be a list of objects"),
        ("sharegpt", {"conversations": [{"from": "bard", "value": "x"}]}, "message 1 is from 'bard'"),
        ("sharegpt", {"conversations": [{"from": ["gpt"], "value": "x"}]}, "message 1 is from ['gpt']"),
        ("sharegpt", {"conversations": [{"from": "gpt", "value": {"a": 1}}]}, "message 1 (gpt) has no text"),
        ("sharegpt", {"conversations": [{**CALL_TURN, "value": '{"name": '}]}, "(function_call) is broken JSON"),
        ("sharegpt", {"conversations": [{**CALL_TURN, "value": "[]"}]}, "(function_call) is an empty list"),
        ("sharegpt", {"conversations": [{**CALL_TURN, "value": "3"}]}, "calls must be a list of objects"),
        ("sharegpt", {"conversations": [], "system": 3}, "`system` must be text, found int"),
        ("sharegpt", {"conversations": [{"from": "tool", "value": "x"}]}, "no earlier assistant turn makes a call"),
        ("xlam", {"query": "x", "tools": "[]", "answers": "[]"}, "`answers` is empty"),
        ("xlam", {"query": 3, "tools": "[]", "answers": "[]"}, "`query` must be text or a list"),
        ("xlam", {"query": "x", "tools": "[", "answers": []}, "`answers` is empty"),
        ("xlam", {"query": "x", "tools": "[", "answers": [{"name": "f"}]}, "`tools` is broken JSON"),
        ("glaive", {"system": "", "chat": "Hello"}, "`chat` doesn't start with USER:"),
        ("glaive", {"system": "", "chat": 3}, "`chat` must be text"),
        ("glaive", {"system": "SYSTEM: {x", "chat": "USER: a"}, "a function in `system` is broken JSON"),
        ("glaive", {"system": "", "chat": "USER: a\nASSISTANT: <functioncall> f(1)"}, "message 2: the call after"),
        ("prompt-completion", {"prompt": None, "completion": "x"}, "`prompt` must be text or a list"),
        ("prompt-completion", {"prompt": "x", "completion": ["y"]}, "must be a list of objects"),
        ("self-instruct", {"instruction": "x", "instances": [{}, {}]}, "`instances` has 2 entries"),
        ("self-instruct", {"instruction": "x", "instances": "y"}, "`instances` must be a list"),
        ("question-answer", {"question": "x", "answer": 3}, "`answer` must be text, found int"),
        ("question-answer", {"question": " ", "answer": "3"}, "`question` is empty"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "'image_url'",
        ),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]}, "'image'"),
    ],
)
def test_refusals(name: str, record: dict, part: str) -> None:
    with pytest.raises(InputError) as caught:
        convert(record, name)
    assert str(caught.value).startswith("here:1: ")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ({"prompt": [], "id": 7}, "prompts without completions"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference pairs"),
        ({"id": 1, "question": [], "function": []}, "without answers"),
        ({"id": 1, "ground_truth": []}, "without their questions"),
        ({"input_ids": [1]}, "token ids"),
    ],
)
def test_what_holds_no_conversations_is_said(record: dict, part: str) -> None:
    assert not any(entry.recognises(record) for entry in FORMATS.values())
    assert part in why_unknown([record, record])
    assert "unknown format" in why_unknown([record, {"other": 1}])


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
words = st.sampled_from(
    [
        *["role", "content", "from", "value", "type", "text", "tool_calls", "function_call", "function", "name"],
        *["arguments", "reasoning", "thinking", "tools", "functions", "system", "role_spans", "input", "output"],
    ]
)
values = st.sampled_from(
    [
        "user",
        "assistant",
        "tool",
        "gpt",
        "function_call",
        "observation",
        "text",
        "tool_call",
        "{",
        "[]",
        '[{"name": "f"}]',
    ]
)
json_values = st.recursive(
    scalars | values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_json_gives_a_conversation_or_an_input_error(name: str, data: st.DataObject) -> None:
    keys = data.draw(st.sampled_from([tuple(keys) for keys in FORMATS[name].keys]))
    record = {**data.draw(st.dictionaries(words, json_values, max_size=3)), **{k: data.draw(json_values) for k in keys}}
    try:
        conversation, refusal = convert(record, name), ""
    except InputError as error:
        conversation, refusal = None, str(error)
    if conversation is None:
        assert refusal.startswith("here:1: ")
        return
    assert all(isinstance(m["content"], str | None) for m in conversation.messages)
    assert any(m["role"] == "assistant" for m in conversation.messages)


def test_a_format_of_the_users_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rolewise.data.readers.record_formats.FORMATS", formats := dict(FORMATS))
    monkeypatch.setattr("rolewise.data.readers.stream.FORMATS", formats)

    def ask_say(record: dict, source: str) -> Conversation:
        pair = [{"role": "user", "content": record["ask"]}, {"role": "assistant", "content": record["say"]}]
        return Conversation(pair, source=source)

    register_format(Format("ask-say", [("ask", "say")], ask_say))
    path = tmp_path / "data.jsonl"
    path.write_text('{"ask": "Hi", "say": "Ho", "messages": []}')
    result = read_conversations(path)
    assert result.format == "ask-say"
    assert turns(result.conversations[0]) == [("user", "Hi"), ("assistant", "Ho")]
    assert "ask-say" not in FORMATS
