"""The generator: its truth is complete, consistent with the rules it states, and the same everywhere."""

import dataclasses
import hashlib
import json
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation
from rolewise.generator import generate, reference_calls
from rolewise.generator.apis import APIS
from rolewise.generator.arguments import POOLS
from rolewise.generator.phrases_eval import BANKS

PINNED_SHA256 = "c0a801a75a2e69c45d9495acc60162d730b336914d27adfddfe10845abdde667"
NUMBERS = dict(one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, eleven=11, twelve=12)  # noqa: C408
LAYOUT = re.compile(
    r"</?(?:think|tool_call|response)>|Thought:|Final Answer:|Action Input:|Action:"
    r"|(?<=\")(?:name|arguments|parameters)(?=\")"
)
SPLITS = ("train", "eval")


@pytest.fixture(scope="module", params=SPLITS)
def sample(request):
    return generate(300, seed=7, split=request.param)


def format_of(conversation):
    """The output format, told from the system prompt alone."""
    system = conversation.messages[0]["content"]
    return "react" if "Action Input" in system else "rlla" if "<response>" in system else "hermes"


def assistant_turns(conversation):
    """(content, spans) of each assistant turn."""
    pairs = zip(conversation.messages, conversation.role_spans, strict=True)
    return [(message["content"], spans) for message, spans in pairs if message["role"] == "assistant"]


def parse_calls(content, output_format):
    """A slow, separate reader of the three formats; the whole turn must match."""
    if output_format == "react":
        match = re.fullmatch(
            r"Thought: \S[^\n]*\n(?:Action: (\S+)\nAction Input: (\{.*\})|Final Answer: \S[^\n]*)", content
        )
        assert match, content
        return [{"name": match[1], "arguments": json.loads(match[2])}] if match[1] else []
    if output_format == "rlla":
        match = re.fullmatch(
            r"<think> \S[^\n]* </think>\n(?:<tool_call>\n(.*)\n</tool_call>|<response> \S[^\n]* </response>)",
            content,
            re.S,
        )
        assert match, content
        records = [json.loads(line) for line in (match[1] or "").splitlines()]
        assert all(list(record) == ["name", "parameters"] for record in records)
        return [{"name": record["name"], "arguments": record["parameters"]} for record in records]
    match = re.fullmatch(r"<think>\n\S[^\n]*\n</think>\n((?:<tool_call>\n[^\n]*\n</tool_call>\n?)+|[^\n<]+)", content)
    assert match, content
    return [json.loads(body) for body in re.findall(r"<tool_call>\n(.*)\n</tool_call>", match[1])]


def derive(value):
    """Work an argument out from the query's words alone, by other means than the generator's."""
    numbers = [
        NUMBERS[word] if word in NUMBERS else int(word)
        for word in " ".join(value.given).split()
        if word in NUMBERS or word.isdigit()
    ]
    if value.rule == "copy":
        return value.given[0] if isinstance(value.value, str) else int(value.given[0])
    if value.rule == "word":
        return numbers[0]
    if value.rule == "dozen":
        return sum([12] * numbers[0])
    if value.rule == "product":
        return numbers[0] * numbers[1]
    if value.rule == "quotient":
        return numbers[0] / numbers[1]
    if value.rule == "sum":
        return numbers[0] + numbers[1]
    if value.rule == "minutes":
        return numbers[0] * 60 + (30 if "half" in value.given[0] else 0)
    if value.rule == "clock":
        minute = {"half": "30", "quarter": "15"}.get(value.given[0].split()[0], "00")
        hour = int(re.search(r"\d+", value.given[0])[0]) + (12 if "evening" in value.given[0] else 0)
        return f"{hour:02d}:{minute}"
    raise AssertionError(value.rule)


def said_before(text, earlier):
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", earlier) is not None


def test_spans_are_contiguous_and_cover_every_character_of_assistant_messages(sample):
    for conversation in sample:
        assert len(conversation.role_spans) == len(conversation.messages)
        for message, spans in zip(conversation.messages, conversation.role_spans, strict=True):
            if message["role"] != "assistant":
                assert spans == []
                continue
            assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
            assert spans[-1].end == len(message["content"])
            assert all(span.start < span.end for span in spans)
            assert {span.role for span in spans} <= {Role.FORMAT, Role.TEMPLATE, Role.REASONING}


def test_a_space_belongs_to_what_follows(sample):
    for conversation in sample:
        for content, spans in assistant_turns(conversation):
            for text, role in ((content[span.start : span.end], span.role) for span in spans):
                # JSON's own spaces are layout.
                assert not text.endswith(" ") or (role == Role.FORMAT and text.endswith('": '))


def test_calls_in_the_text_equal_the_reference_calls(sample):
    for conversation in sample:
        turns = [parse_calls(content, format_of(conversation)) for content, _ in assistant_turns(conversation)]
        assert turns == reference_calls(conversation)
        for call in (call for turn in turns for call in turn):
            assert json.dumps(call["arguments"]) in "".join(content for content, _ in assistant_turns(conversation))


def test_called_tools_are_offered_with_exactly_these_arguments(sample):
    for conversation in sample:
        offers = re.findall(r"^- ([\w.-]+)\((.*)\): ", conversation.messages[0]["content"], re.M)
        assert 2 <= len(offers) <= 4
        keys = {name: [p.split(":")[0] for p in parameters.split(", ")] for name, parameters in offers}
        for call in (call for turn in reference_calls(conversation) for call in turn):
            assert list(call["arguments"]) == keys[call["name"]]


def test_every_argument_can_be_worked_out_from_the_query(sample):
    rules = set()
    for conversation in sample:
        query = conversation.messages[1]["content"]
        arguments = [a for turn in reference_calls(conversation) for call in turn for a in call["arguments"].items()]
        assert arguments == [(value.key, value.value) for value in conversation.derivations]
        for value in conversation.derivations:
            rules.add(value.rule)
            assert all(words in query for words in value.given), (value, query)
            if value.rule == "option":
                system = conversation.messages[0]["content"]
                choices = re.search(rf"\b{value.key}: (?:[a-z ]+ )?([\w|]+)[,)]", system)[1]
                assert value.text in choices.replace("bool", "true|false").split("|")
            else:
                assert value.value == derive(value)
                assert type(value.value) is not bool
            if value.working:
                left, right = " ".join(value.working).replace("x", "*").split("=")
                assert eval(left) == int(right) == value.value
    assert {"copy", "product", "dozen", "sum", "clock", "minutes", "option"} <= rules


def test_no_argument_can_pass_for_a_copy_of_another(sample):
    for conversation in sample:
        pairs = {(value.key, value.text) for value in conversation.derivations}
        for key, text in pairs:
            assert not any(said_before(text, other) for other_key, other in pairs if other_key != key), pairs


def test_an_option_has_one_wording_per_value():
    """Otherwise the query could not tell which value is meant."""
    slots = [slot for split in SPLITS for api in APIS[split] for slot in api.slots.values()]
    rng, checked = Random(0), 0
    for slot in slots:
        draws = [slot.draw(rng, POOLS["train"]) for _ in range(60)]
        if draws[0].values[0].rule == "option":
            pairs = {(drawn.said, drawn.values[0].value) for drawn in draws}
            assert len({said for said, _ in pairs}) == len({value for _, value in pairs}) == len(pairs) > 1
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize("api", [api for split in SPLITS for api in APIS[split]], ids=lambda api: api.stem)
def test_every_request_uses_every_slot_and_the_first_is_a_copy(api):
    for request in api.requests:
        assert sorted(re.findall(r"\{(\w+)\}", request)) == sorted(api.slots)
    assert next(iter(api.slots.values())).draw(Random(0), POOLS["eval"]).values[0].rule == "copy"


def test_a_copy_of_earlier_output_is_never_reasoning(sample):
    checked = 0
    for conversation in sample:
        earlier = ""
        for content, spans in assistant_turns(conversation):
            for span in spans:
                text = content[span.start : span.end].strip()
                # Operators are reasoning every time; "x" is the one that looks like a word.
                if span.role == Role.REASONING and re.match(r"[\w ]", text) and text != "x":
                    assert not said_before(text, earlier + content[: span.start]), (text, content)
                    checked += 1
            earlier += content + "\n"
    assert checked > 500


def test_names_keys_and_values_of_calls_are_reasoning_exactly_when_new(sample):
    """Reads the roles back at the places where a call's parts stand, for formats in JSON."""
    new = copied = 0
    for conversation in sample:
        earlier = ""
        for (content, spans), calls in zip(assistant_turns(conversation), reference_calls(conversation), strict=True):
            position = content.find("<tool_call>" if format_of(conversation) != "react" else "\nAction:")
            for call in calls:
                parts = [call["name"]]
                for key, value in call["arguments"].items():
                    parts += [key, value if isinstance(value, str) else json.dumps(value)]
                for part in parts:
                    position = re.compile(rf"(?<!\w){re.escape(part)}(?!\w)").search(content, position).start()
                    role = next(s.role for s in spans if s.start <= position and position + len(part) <= s.end)
                    is_copy = said_before(part, earlier + content[:position])
                    assert role == (Role.TEMPLATE if is_copy else Role.REASONING), (part, content)
                    new, copied = new + (not is_copy), copied + is_copy
                    position += len(part)
            earlier += content + "\n"
    assert min(new, copied) > 200


def test_format_is_punctuation_tags_and_labels_only(sample):
    for conversation in sample:
        for content, spans in assistant_turns(conversation):
            for span in spans:
                if span.role == Role.FORMAT:
                    left = LAYOUT.sub("", content[span.start : span.end])
                    assert set(left) <= set('{}":, \n'), left


def test_reasoning_words_come_from_the_prompt_or_are_derived(sample):
    """Nothing marked reasoning is an invention of the thought."""
    for conversation in sample:
        context = "\n".join(m["content"] for m in conversation.messages if m["role"] != "assistant")
        derived = {word for value in conversation.derivations for word in (value.text, *value.working)}
        for content, spans in assistant_turns(conversation):
            for text in (content[s.start : s.end].strip() for s in spans if s.role == Role.REASONING):
                is_sum = re.fullmatch(r"[\d +x/=]+", text)
                assert text in context or text in derived or is_sum, text


def test_the_kinds_of_conversation_have_their_shares():
    conversations = generate(600, seed=1)
    direct = sum(not any(reference_calls(c)) for c in conversations)
    two_calls = sum(sum(map(len, reference_calls(c))) == 2 for c in conversations)
    multi_turn = sum(len(reference_calls(c)) == 2 and reference_calls(c)[1] == [] for c in conversations)
    assert 35 < direct < 90
    assert 85 < two_calls < 160
    assert 25 < multi_turn < 75
    assert all(len(turn) < 2 for c in conversations if format_of(c) == "react" for turn in reference_calls(c))


def strings_of(conversations):
    values = [
        v for c in conversations for turn in reference_calls(c) for call in turn for v in call["arguments"].values()
    ]
    return {value for value in values if isinstance(value, str) and not re.fullmatch(r"\d\d:\d\d", value)}


def test_the_splits_share_no_api_key_phrase_or_value():
    train, evaluation = (APIS[split] for split in SPLITS)
    assert not {api.stem for api in train} & {api.stem for api in evaluation}
    assert not {api.description for api in train} & {api.description for api in evaluation}
    keys = [
        {key for api in apis for slot in api.slots.values() for key, _ in slot.parameters}
        for apis in (train, evaluation)
    ]
    assert not keys[0] & keys[1]
    requests = [{request for api in apis for request in api.requests} for apis in (train, evaluation)]
    assert not requests[0] & requests[1]
    phrases = [{p for bank in dataclasses.astuple(BANKS[split]) for p in bank} for split in SPLITS]
    assert not phrases[0] & phrases[1]
    train_values, eval_values = (strings_of(generate(500, seed=0, split=split)) for split in SPLITS)
    assert len(train_values) > 300
    assert not train_values & eval_values
    tools = [
        {call["name"] for c in generate(300, seed=0, split=s) for t in reference_calls(c) for call in t} for s in SPLITS
    ]
    assert not tools[0] & tools[1]


@pytest.mark.parametrize("split", SPLITS)
def test_phrases_and_requests_hold_no_digit_and_no_argument_key(split):
    keys = {key for api in APIS[split] for slot in api.slots.values() for key, _ in slot.parameters}
    requests = [request for api in APIS[split] for request in api.requests]
    said = [
        p
        for name, bank in dataclasses.asdict(BANKS[split]).items()
        if name not in ("intros", "sums", "recalls")
        for p in bank
    ]
    for phrase in requests + said:
        words = set(re.findall(r"\w+", re.sub(r"\{\w+\}", "", phrase)))
        assert not words & keys, phrase
        assert not re.search(r"\d", phrase)
    for bank in dataclasses.astuple(BANKS[split]):
        assert len(set(bank)) == len(bank)


def test_output_is_pinned():
    """The same text and truth on every machine and Python version. A wanted change of the data changes the pin."""
    record = [[c.source, c.messages, c.role_spans, reference_calls(c)] for c in generate(50, seed=0)]
    assert hashlib.sha256(json.dumps(record).encode()).hexdigest() == PINNED_SHA256


def test_a_larger_count_continues_a_smaller_one():
    assert generate(40, seed=3, split="eval")[:15] == generate(15, seed=3, split="eval")


@pytest.mark.parametrize("split", SPLITS)
def test_no_query_comes_twice(split):
    queries = [conversation.messages[1]["content"] for conversation in generate(2000, seed=0, split=split)]
    assert len(set(queries)) == 2000


def test_formats_are_taken_in_turn():
    assert [format_of(c) for c in generate(4, seed=0, formats=("react", "rlla"))] == ["react", "rlla", "react", "rlla"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(-(2**40), 2**40), split=st.sampled_from(SPLITS))
def test_any_seed_gives_sound_conversations(seed, split):
    conversations = generate(6, seed=seed, split=split)
    assert conversations[0].source == f"generator:{split}:seed{seed}:0"
    for conversation in conversations:
        assert conversation.check() is conversation
        turns = assistant_turns(conversation)
        assert [parse_calls(content, format_of(conversation)) for content, _ in turns] == reference_calls(conversation)
        for content, spans in turns:
            assert "".join(content[span.start : span.end] for span in spans) == content
            assert not re.search(r"\{\w+\}", content), "a phrase was not filled in"


def test_seeds_differ():
    assert generate(5, seed=0)[0].messages != generate(5, seed=1)[0].messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"count": 1, "split": "test"}, "unknown split 'test'"),
        ({"count": 1, "formats": ("rlla", "xml")}, "expected one or more of rlla, hermes, react"),
        ({"count": 1, "formats": ()}, "expected one or more of"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        generate(**{"seed": 0, **arguments})


def test_only_generated_conversations_have_reference_calls():
    plain = Conversation([{"role": "assistant", "content": "Hello"}], source="chat.jsonl:3")
    with pytest.raises(InputError, match=r"chat\.jsonl:3"):
        reference_calls(plain)
