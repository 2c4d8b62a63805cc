"""Steps of conversations as prompts with reference calls."""

import json
from pathlib import Path

import pytest

from rolewise.core.errors import InputError
from rolewise.data.conversation import Conversation
from rolewise.data.readers import read_conversations, write_conversations
from rolewise.data.tool_calls import CALL_FORMATS
from rolewise.data.tool_prompts import read_tool_prompts, single_turn_steps, with_instructions
from rolewise.generator import generate, reference_calls
from rolewise.rewards.reference_calls import read_reference

TOOLS = [{"type": "function", "function": {"name": "f", "description": "A tool.", "parameters": {}}}]


def call(name="f", **arguments):
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def two_calls_and_an_answer() -> Conversation:
    messages = [
        {"role": "user", "content": "first?"},
        call(x=1),
        {"role": "tool", "content": "one"},
        call(x=2, y=[True, None]),
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "done"},
    ]
    return Conversation(messages, TOOLS, "a.jsonl:1")


@pytest.mark.parametrize("thought", ["", "<think>hm</think>\n"])
@pytest.mark.parametrize("answers", [False, True])
def test_calls_as_python_prints_them_are_refused(thought, answers, tmp_path):
    """They were taken for an answer in words: left out without a word, or rewarded for their format alone."""
    turns = [
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        f"{thought}[{{'name': 'f', 'arguments': {{}}}}]",
    ]
    records = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": turn}]} for turn in turns
    ]
    path = tmp_path / "printed.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    with pytest.raises(InputError, match=r"printed.jsonl:2: message 2: .* as Python prints them"):
        read_tool_prompts(str(path), answers=answers)
    assert len(read_tool_prompts(str(path), answers=answers, skip_invalid=True).prompts) == 1


def test_each_turn_is_a_step_whose_prompt_is_all_before_it() -> None:
    conversation = two_calls_and_an_answer()
    steps = list(single_turn_steps(conversation, answers=True))
    assert [step.messages for step in steps] == [conversation.messages[:n] for n in (1, 3, 5)]
    assert [step.calls for step in steps] == [
        [{"name": "f", "arguments": {"x": 1}}],
        [{"name": "f", "arguments": {"x": 2, "y": [True, None]}}],
        [],
    ]
    assert all(step.tools == TOOLS for step in steps)
    assert len(list(single_turn_steps(conversation))) == 2


@pytest.mark.parametrize("format", ["rlla", "hermes", "react"])
def test_the_generators_references_come_back(format: str, tmp_path: Path) -> None:
    conversations = generate(20, seed=3, formats=(format,))
    write_conversations(conversations, tmp_path / "data.jsonl")
    prompts = read_tool_prompts(str(tmp_path / "data.jsonl"), call_format=format).prompts
    expected = [calls for c in conversations for calls in reference_calls(c) if calls]
    assert [prompt.calls for prompt in prompts] == expected
    for prompt in prompts:
        found = [call._asdict() for call in read_reference(prompt.reference).calls]
        assert found == prompt.calls


def test_a_reference_asks_for_an_answer_where_the_turn_gives_one() -> None:
    both = '<think> a </think>\n<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>\n<response> b </response>'
    for content, parts in ((both, ("think", "call", "answer")), ("[f(x=1)]", ("think", "call"))):
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}]
        (step,) = single_turn_steps(Conversation(messages, TOOLS, "a:1"))
        assert read_reference(step.reference).parts == parts


@pytest.mark.parametrize("call_format", CALL_FORMATS)
def test_a_reference_can_be_read_in_the_format_of_the_responses(call_format: str) -> None:
    both = (
        '<think> a </think>\n<tool_call>\n{"name": "f", "parameters": {"x": 1}}\n</tool_call>\n<response> b </response>'
    )
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": both}]
    (step,) = single_turn_steps(Conversation(messages, TOOLS, "a:1"), call_format=call_format)
    reference = read_reference(step.reference, call_format)
    assert [call._asdict() for call in reference.calls] == step.calls == [{"name": "f", "arguments": {"x": 1}}]
    assert reference.parts == (("think", "call", "answer") if call_format == "rlla" else ("think", "call"))


def test_arguments_without_names_are_for_react(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Action: search[Paris]"}]}
    (tmp_path / "data.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    (prompt,) = read_tool_prompts(str(tmp_path / "data.jsonl"), call_format="fireact").prompts
    assert read_reference(prompt.reference, "fireact").calls[0].arguments == {"0": "Paris"}
    with pytest.raises(InputError, match="without names"):
        read_tool_prompts(str(tmp_path / "data.jsonl"), call_format="hermes")


def test_references_to_tools_that_are_not_on_offer_are_counted(tmp_path: Path) -> None:
    records = [{"messages": [{"role": "user", "content": "?"}, call(name)], "tools": TOOLS} for name in ("f", "F", "g")]
    records.append({"messages": [{"role": "user", "content": "?"}, call("any")]})
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    read = read_tool_prompts(str(path))
    assert len(read.prompts) == 4
    (note,) = read.notes
    assert "2 of 4 references call a tool that is not offered (first 'F', data.jsonl:2)" in note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"x": }}\n</tool_call>', "can't be read: broken JSON"),
        ("<think> a </think>\n<tool_call>\n</tool_call>", "can't be read: no JSON object"),
        ("so <tool_call></tool_call>", "no call after it"),
        ("Action: search[Paris]", "arguments without names"),
    ],
)
def test_a_reference_without_a_call_that_can_be_read_is_named(content: str, message: str, tmp_path: Path) -> None:
    bad = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}]}
    good = {"messages": [{"role": "user", "content": "?"}, call(x=1)]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_tool_prompts(str(path))
    assert str(caught.value).startswith(f"{path}:2: message 2: ")
    assert "\n" not in str(caught.value)
    read = read_tool_prompts(str(path), skip_invalid=True)
    assert (len(read.prompts), len(read.rejected)) == (1, 1)


def test_data_without_tool_calls_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maths.jsonl"
    path.write_text(json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n", encoding="utf-8")
    for answers in (False, True):
        with pytest.raises(InputError, match="no assistant turn calls a tool"):
            read_tool_prompts(str(path), answers=answers)


def test_prompts_that_do_not_speak_of_thoughts_are_told() -> None:
    plain = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "?"}]
    told = with_instructions(plain, "rlla")
    assert told[0]["content"].startswith("Be kind.\n\n")
    assert "<think>" in told[0]["content"]
    assert "<response>" in told[0]["content"]
    assert with_instructions(told, "rlla") == told
    assert with_instructions(plain[1:], "hermes")[0]["role"] == "system"
    assert with_instructions(plain, "react") == plain
    assert plain[0]["content"] == "Be kind."
    thought = [*plain, {"role": "assistant", "content": "<think>a</think> b"}]
    assert with_instructions(thought, "rlla")[0] == told[0]


def test_seal_tools_and_openfunctions_give_query_and_tools_apart(tmp_path: Path) -> None:
    seal = (
        "Choose apis.\n\nInput:\napi_list = [{'api_name': 'getAge', 'api_description': 'An age', 'parameters': "
        "{'who': {'type': 'str', 'description': 'Whose'}}, 'required': ['who']}]\n"
        'task_instruction = "How old is "Ada"?"\nOutput:\n'
    )
    seal_record = {
        "conversations": [
            {"from": "human", "value": seal},
            {"from": "gpt", "value": "[{'api': 'getAge', 'parameters': {'who': 'Ada'}, 'responses': ['API_call_0']}]"},
        ]
    }
    functions = (
        "\nConstruct a call.\n\nQuestion: Make one.\n\nFunction to be used: lib.make\nDescription: Makes.\nParameters:"
        "\n"
        "1. unit - The unit\n2. size - Its size\nRequired: [unit]\n\nFormat your response as a single string."
    )
    functions_record = {"instruction": functions, "output": "lib.make(unit='s')"}
    for name, record in (("seal", seal_record), ("functions", functions_record)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    (first,) = read_tool_prompts(str(tmp_path / "seal.jsonl")).prompts
    assert first.messages[-1] == {"role": "user", "content": 'How old is "Ada"?'}
    assert first.tools is not None
    assert first.tools[0]["function"]["parameters"]["required"] == ["who"]
    assert first.calls == [{"name": "getAge", "arguments": {"who": "Ada"}}]
    (second,) = read_tool_prompts(str(tmp_path / "functions.jsonl")).prompts
    assert second.messages[-1] == {"role": "user", "content": "Make one."}
    assert second.tools is not None
    assert list(second.tools[0]["function"]["parameters"]["properties"]) == ["unit", "size"]
    assert second.tools[0]["function"]["parameters"]["required"] == ["unit"]
    assert second.calls == [{"name": "lib.make", "arguments": {"unit": "s"}}]


def toolace(tools: str, *turns: dict) -> Conversation:
    system = (
        "You are an expert.\nPoint out what lacks. You should only return the function call in tools call sections.\n"
        f"Here is a list of functions in JSON format that you can invoke:\n{tools}. \nShould you decide to return the "
        "function call(s). \nPut it in the format of [func1(params_name=params_value...), func2(params)]\n\nNO other "
        "text MUST be included."
    )
    return Conversation([{"role": "system", "content": system}, {"role": "user", "content": "?"}, *turns], None, "a:1")


def test_toolaces_prompts_do_not_ask_for_another_notation_than_the_responses() -> None:
    tools = (
        '[{"name": "Get It", "parameters": {"type": "dict", "properties": {"a": {}}, "required": ["a"]}, "x": null}]'
    )
    turns = [
        {"role": "assistant", "content": "[Get It(a='[1]')]"},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "[one] is it"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "[Get It(a=2)]"},
    ]
    first, last = single_turn_steps(toolace(tools, *turns))
    assert first.messages[0]["content"] == "You are an expert.\nPoint out what lacks."
    assert first.tools is not None
    assert first.tools[0]["function"]["name"] == "Get It"
    assert first.tools[0]["function"]["parameters"] == {"type": "object", "properties": {"a": {}}, "required": ["a"]}
    assert last.messages[2]["tool_calls"][0]["function"] == {"name": "Get It", "arguments": {"a": "[1]"}}
    assert last.messages[4]["content"] == "[one] is it"
    assert last.calls == [{"name": "Get It", "arguments": {"a": 2}}]
    (_, as_asked) = single_turn_steps(toolace(tools, *turns), call_format="python")
    assert as_asked.messages == toolace(tools, *turns).messages[:6]
    assert as_asked.tools is None
    for broken in ("[{]", '[{"description": "no name"}]', "[1]"):
        with pytest.raises(InputError, match="a:1: message 1: the list of functions can't be read"):
            list(single_turn_steps(toolace(broken, *turns)))


def test_verls_records_are_read(tmp_path: Path) -> None:
    record = {"prompt": [{"role": "user", "content": "?"}], "reward_model": {"ground_truth": "[f(x=1)]"}}
    path = tmp_path / "verl.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    read = read_conversations(path)
    assert read.format == "verl"
    assert read.conversations[0].messages[-1] == {"role": "assistant", "content": "[f(x=1)]"}
    path.write_text(json.dumps({**record, "reward_model": {"style": "rule"}}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="ground_truth"):
        read_conversations(path)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("toolrl_rlla/rlla_sft.jsonl", 274),
        ("toolrl_rlla/rlla_4k_test.jsonl", 71),
        ("seal_tools/dev_finetune_format.jsonl", 700),
        ("toolace_100/toolace_sharegpt_100.jsonl", 170),
        ("sdft_repo_subsets/openfunctions_train_2211.jsonl", 2100),
    ],
)
def test_the_real_sets_give_prompts_with_calls(name: str, least: int, data_dir: Path) -> None:
    read = read_tool_prompts(str(data_dir / name), skip_invalid=True)
    assert len(read.prompts) >= least
    assert all(read_reference(prompt.reference).calls for prompt in read.prompts)
