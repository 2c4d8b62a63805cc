"""Tool calls: each format read with places and written; what is broken keeps what can be told."""

import json
import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.data.tool_calls import (
    CALL_FORMATS,
    ParsedCall,
    calls_from_openai,
    calls_to_openai,
    parse_response,
    parse_with_tokenizer,
    recognise_format,
    write_calls,
)

DATA = Path(os.environ.get("ROLEWISE_DATA") or Path(__file__).parents[2] / "shared" / "data")

# A response per format, made up, as its models write them; then what it holds: [(kind, text), …] without tags.
RESPONSES = {
    "hermes": (
        '<think>Weather first.</think>\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n'
        "</tool_call><|im_end|>",
        [
            ("thought", "Weather first."),
            ("name", "weather"),
            ("argument_name", "city"),
            ("argument_value", "Oslo"),
            ("argument_name", "days"),
            ("argument_value", "3"),
        ],
    ),
    "rlla": (
        '<think> I use the <tool_call> tags. </think>\n<tool_call>\n{"name": "Find It", "parameters": {"q": [1, {}]}}\n'
        '{"name": "b", "parameters": {}}\n</tool_call>\n<response> Wait. </response>',
        [
            ("thought", " I use the <tool_call> tags. "),
            ("name", "Find It"),
            ("argument_name", "q"),
            ("argument_value", "[1, {}]"),
            ("name", "b"),
            ("text", " Wait. "),
        ],
    ),
    "llama3": (
        '<|python_tag|>{"type": "function", "name": "a", "parameters": {"x": null}}; {"name": "b", "parameters": {}}',
        [
            ("text", "function"),
            ("name", "a"),
            ("argument_name", "x"),
            ("argument_value", "null"),
            ("name", "b"),
        ],
    ),
    "mistral": (
        '[THINK]hm[/THINK]Sure.[TOOL_CALLS] [{"name": "a", "arguments": {"x": "ü"}, "id": "q1"}]</s>',
        [
            ("thought", "hm"),
            ("text", "Sure."),
            ("name", "a"),
            ("argument_name", "x"),
            ("argument_value", "ü"),
            ("text", "q1"),
        ],
    ),
    "mistral-args": (
        '[TOOL_CALLS]a[ARGS]{"x": true}[TOOL_CALLS]b[CALL_ID]9[ARGS]{}',
        [("name", "a"), ("argument_name", "x"), ("argument_value", "true"), ("name", "b"), ("text", "9")],
    ),
    "react": (
        'Thought: look it up\nAction: find\nAction Input: {"q": "a]"}\nThought: done\nFinal Answer: 42',
        [
            ("thought", "look it up\n"),
            ("name", "find"),
            ("argument_name", "q"),
            ("argument_value", "a]"),
            ("thought", "done\n"),
            ("text", "42"),
        ],
    ),
    "fireact": (
        "Thought 1: who?\nAction 1: search[Who [else] is it?]",
        [("thought", "who?\n"), ("name", "search"), ("argument_value", "Who [else] is it?")],
    ),
    "python": (
        "[api.f(a='x, y)', b=[1, -2.5]), g(\"é\")]",
        [
            ("name", "api.f"),
            ("argument_name", "a"),
            ("argument_value", "x, y)"),
            ("argument_name", "b"),
            ("argument_value", "[1, -2.5]"),
            ("name", "g"),
            ("argument_value", "é"),
        ],
    ),
    "seal-tools": (
        "[{'api': 'f', 'parameters': {'a': \"it's\"}, 'responses': ['API_call_0']}]",
        [
            ("name", "f"),
            ("argument_name", "a"),
            ("argument_value", "it's"),
            ("text", "['API_call_0']"),
        ],
    ),
}


def check_cover(text, response):
    """The segments cover the text exactly, none empty; every span of a call lies inside it."""
    position = 0
    for segment in response.segments:
        assert segment.start == position < segment.end, (segment, text)
        position = segment.end
    assert position == len(text)
    for call in response.calls:
        assert call.valid == (call.arguments is not None) == (call.error is None)
        assert call.name or not call.valid
        start, end = call.span
        assert 0 <= start <= end <= len(text)
        inner = [call.name_span, call.arguments_span]
        inner += [span for argument in call.argument_spans for span in (argument.name_span, argument.value_span)]
        for span in filter(None, inner):
            assert start <= span[0] <= span[1] <= end, (span, call)


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_taken_apart(name):
    text, expected = RESPONSES[name]
    response = parse_response(text)
    assert response.format == name
    check_cover(text, response)
    assert [(s.kind, text[s.start : s.end]) for s in response.segments if s.kind != "tag"] == expected
    assert all(call.valid for call in response.calls)
    names = [text[slice(*call.name_span)] for call in response.calls]
    assert names == [call.name for call in response.calls] == [part for kind, part in expected if kind == "name"]
    assert parse_response(text, name) == response


def test_every_format_has_an_example():
    assert RESPONSES.keys() == CALL_FORMATS.keys()


@pytest.mark.parametrize("name", RESPONSES)
def test_cut_short_anywhere_a_response_keeps_its_beginning(name):
    text, _ = RESPONSES[name]
    whole = parse_response(text, name)
    for end in range(len(text)):
        cut = parse_response(text[:end], name)
        check_cover(text[:end], cut)
        for call, full in zip(cut.calls, whole.calls, strict=False):
            if call.valid and call.span == full.span:
                assert call.arguments == full.arguments
            if full.name_span and end > full.name_span[1] + 1 and name != "fireact":
                assert call.name == full.name


def test_a_call_cut_short_keeps_its_name_and_the_arguments_seen():
    text = '<tool_call>\n{"name": "pay", "arguments": {"to": "Ann", "amount": 1'
    (call,) = parse_response(text).calls
    assert (call.name, call.arguments, call.valid) == ("pay", None, False)
    assert [(a.name, text[slice(*a.value_span)]) for a in call.argument_spans] == [("to", "Ann"), ("amount", "1")]


@pytest.mark.parametrize(
    ("text", "name", "arguments", "error"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1}}}\n</tool_call>', "f", None, "more text"),
        ('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>', "f", None, "not an object"),
        ('<tool_call>\n{"name": "f", "arguments": {"a": NaN}}\n</tool_call>', "f", None, "NaN"),
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1,}}\n</tool_call>', "f", None, "broken JSON"),
        ('<tool_call>\n{"name": "f"}\n</tool_call>', "f", None, "no arguments"),
        ('<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>', None, None, "no name"),
        ("<tool_call>\nf(1)\n</tool_call>", None, None, "no JSON object"),
        ('<tool_call>{"name": "f</tool_call>', None, None, "cut short"),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": [1]}"}</tool_call>', "f", {"a": [1]}, None),
        ('{"type": "function", "function": {"name": "f", "arguments": {"a": 2}}}', "f", {"a": 2}, None),
        ('{"type": "function", "function": "f", "parameters": {"a": 2}}', "f", {"a": 2}, None),
        ("Action: f\nAction Input: some words", "f", {"0": "some words"}, None),
        ("Action: f\nThought: hm", "f", None, "no Action Input"),
        ("Action: f[a", "f", None, "no Action Input"),
        ("[TOOL_CALLS]f{}", "f", None, "[ARGS]"),
        ("[f(a=g())]", "f", None, "not a literal"),
        ("[f(a=1, 2)]", "f", None, "without a name"),
        ("[f(a=1, a=2)]", "f", None, "twice"),
        ("[f(a=1 + 1)]", "f", None, "not a literal"),
        ("[f(*[1])]", "f", None, "not a literal"),
        ("[f(a=f'{x}')]", "f", None, "not a literal"),
        ("[f(a=b'x')]", "f", None, "not a literal"),
        ("[f(a=1e999)]", "f", None, "not a JSON number"),
        ("[f(a=__import__('os').system('true'))]", "f", None, "not a literal"),
        ("f(a=('x' 'y',), b=r'\\d', c='''a\n'b''')", "f", {"a": ["xy"], "b": "\\d", "c": "a\n'b"}, None),
        ("[Market Trends API(trend='x')]", "Market Trends API", {"trend": "x"}, None),
    ],
)
def test_odd_calls(text, name, arguments, error):
    response = parse_response(text, "react" if text.startswith("Action: f[") else None)
    check_cover(text, response)
    (call,) = response.calls
    if text.startswith("Action: f["):
        assert "not closed" in call.error
        return
    assert (call.name, call.arguments) == (name, arguments)
    assert (call.error is None) == (error is None)
    assert error is None or error in call.error


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain talk (a) about f (x).",
        "Use the <tool_call> tag for calls.",
        '{"name": "Ann", "age": 3}',
        "[see the note (a) below], friend",
        "f(x) is the slope of it",
        "{not json}",
        "[1, 2]",
    ],
)
def test_what_is_no_call_is_text(text):
    response = parse_response(text)
    check_cover(text, response)
    assert response.calls == []
    assert {segment.kind for segment in response.segments} <= {"text"}


def test_a_thought_that_the_prompt_began_and_one_that_does_not_end():
    text = 'so\n</think><tool_call>{"name": "f", "arguments": {}}</tool_call>'
    response = parse_response(text)
    assert response.segments[0] == ("thought", 0, 3)
    assert response.calls[0].valid
    assert parse_response('<think>\n<tool_call>{"name": "f"').calls == []


def test_a_broken_line_of_a_block_does_not_spoil_the_next():
    text = '<tool_call>\n{"name": "a", "parameters": {"x": "}}\n{"name": "b", "parameters": {}}\n</tool_call>'
    response = parse_response(text, "rlla")
    check_cover(text, response)
    assert [(call.name, call.valid) for call in response.calls] == [("a", False), ("b", True)]


@pytest.mark.parametrize("format", CALL_FORMATS)
def test_what_a_format_cannot_express_is_refused(format):
    with pytest.raises(InputError, match="expressed in the format"):
        write_calls([ParsedCall("f", {"0": {1}})], format)
    with pytest.raises(InputError, match="drop it or fix it"):
        write_calls([ParsedCall("f", None, error="cut short")], format)
    assert write_calls([], format) == ""


def test_fireact_takes_one_unnamed_string():
    assert write_calls([ParsedCall("search", {"0": "a [b]"})], "fireact") == "Action: search[a [b]]"
    with pytest.raises(InputError, match="fireact"):
        write_calls([ParsedCall("search", {"q": "a"})], "fireact")


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="'xml'; choose one of hermes"):
        parse_response("", "xml")
    with pytest.raises(InputError, match="choose one of"):
        write_calls([], "xml")


def test_openai_objects():
    calls = [ParsedCall("f", {"a": 'x"é'}), ParsedCall("g", {})]
    for as_text in (False, True):
        written = calls_to_openai(calls, arguments_as_text=as_text)
        assert isinstance(written[0]["function"]["arguments"], str) == as_text
        assert calls_from_openai(written) == calls
    broken = [{"function": {"name": "f", "arguments": "{"}}, 3, {"name": ""}, {"name": "f", "arguments": "[1]"}]
    assert [(c.name, c.valid) for c in calls_from_openai(broken)] == [(n, False) for n in ("f", None, None, "f")]
    with pytest.raises(InputError, match="call 1"):
        calls_to_openai(calls_from_openai(broken))


def test_a_tokenizers_own_parser(wordlevel_tokenizer):
    with pytest.raises(InputError, match="no response_template"):
        parse_with_tokenizer(wordlevel_tokenizer, "x")
    wordlevel_tokenizer.response_template = {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|assistant|>",
        "fields": {
            "tool_calls": {
                "open": "<call>",
                "close": "</call>",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close": "<|end|>", "content": "text"},
        },
    }
    text = '<call>{"name": "f", "arguments": {"a": 1}}</call><|end|>'
    assert parse_with_tokenizer(wordlevel_tokenizer, text) == [ParsedCall("f", {"a": 1})]
    (call,) = parse_with_tokenizer(wordlevel_tokenizer, "<call>{</call>")
    assert "rejected" in call.error


@pytest.fixture
def wordlevel_tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"x": 0}, unk_token="x")))


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is absent; set ROLEWISE_DATA to the data folder")
def test_real_responses():
    def texts(path, read):
        return [text for line in (DATA / path).open(encoding="utf-8") for text in read(json.loads(line))]

    rlla = texts("toolrl_rlla/rlla_sft.jsonl", lambda row: [row["output"]])
    fireact = texts(
        "fireact/gpt_format__multitask_multimethod.jsonl",
        lambda row: [m["content"] for m in row["messages"] if m["role"] == "assistant"],
    )
    for format, responses, share in (("rlla", rlla, 0.99), ("fireact", fireact, 0.99)):
        parsed = [parse_response(text) for text in responses]
        for text, response in zip(responses, parsed, strict=True):
            check_cover(text, response)
        calls = [call for response in parsed for call in response.calls]
        assert len(calls) >= len(responses) / 2
        assert sum(call.valid for call in calls) >= share * len(calls)
        assert sum(recognise_format(text) == format for text in responses) >= 0.95 * len(responses)
