"""The generator: its truth is complete, consistent with the rules it states, and the same everywhere."""

import dataclasses
import hashlib
import itertools
import json
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation
from rolewise.generator import FORMATS, MADE_UP_FORMATS, generate, reference_calls
from rolewise.generator.splits import SPLITS as DATA

PINNED_SHA256 = "c0a801a75a2e69c45d9495acc60162d730b336914d27adfddfe10845abdde667"
PINNED_BY_SPLIT = {
    "train": "bb400bd523a70af26df75a10151d4e0ddf29a30962c50f326a89c257ed5d136b",
    "eval": "4078be82ecba06b0640ad1bbcc3668a2e33ad635e19624d98df69050e680dfcd",
    "hard": "dc13fbb2160adf8515aba879e76ac9d88393567f127d7f86311c103f8f190dd5",
}
NUMBERS = dict(one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, eleven=11, twelve=12)  # noqa: C408
LAYOUT = re.compile(
    r"</?(?:think|tool_call|response)>|Thought:|Final Answer:|Action Input:|Action:"
    r"|(?<=\")(?:name|arguments|parameters)(?=\")"
    r"|^[~@!]|(?<=\n)[@!]|\(\((?:mind:|use|say:)|\)\)|(?<= )=$|;"
)
SPLITS = ("train", "eval", "hard")


@pytest.fixture(scope="module", params=SPLITS)
def sample(request):
    return generate(300, seed=7, split=request.param)


def format_of(conversation):
    """The output format, told from the system prompt alone."""
    system = conversation.messages[0]["content"]
    made_up = re.search("^Format: (minutes|cards):", system, re.M)
    if made_up:
        return made_up[1]
    return "react" if "Action Input" in system else "rlla" if "<response>" in system else "hermes"


def assistant_turns(conversation):
    """(content, spans) of each assistant turn."""
    pairs = zip(conversation.messages, conversation.role_spans, strict=True)
    return [(message["content"], spans) for message, spans in pairs if message["role"] == "assistant"]


def read_pairs(pairs):
    """The arguments of lines such as `slot = 3`."""
    arguments = dict(pair.split(" = ") for pair in pairs)
    return {key: json.loads(v) if re.fullmatch(r"\d+|true|false", v) else v for key, v in arguments.items()}


def parse_calls(content, output_format):
    """A slow, separate reader of the formats; the whole turn must match."""
    if output_format == "minutes":
        match = re.fullmatch(r"~ \S[^\n]*((?:\n@ \S+(?:\n\S+ = [^\n]+)+)+|\n! \S[^\n]*)", content)
        assert match, content
        calls = [call.splitlines() for call in match[1].split("\n@ ")[1:]]
        return [{"name": name, "arguments": read_pairs(pairs)} for name, *pairs in calls]
    if output_format == "cards":
        match = re.fullmatch(r"\(\(mind: [^()\n]+\)\)((?:\n\(\(use [^()\n]+\)\))+|\n\(\(say: [^()\n]+\)\))", content)
        assert match, content
        calls = [call.split("; ") for call in re.findall(r"\(\(use (.*)\)\)", match[1])]
        return [{"name": name, "arguments": read_pairs(pairs)} for name, *pairs in calls]
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
            written = "".join(content for content, _ in assistant_turns(conversation))
            assert json.dumps(call["arguments"]) in written or format_of(conversation) in MADE_UP_FORMATS


def test_called_tools_are_offered_with_exactly_these_arguments(sample):
    for conversation in sample:
        offers = re.findall(r"^- ([\w.-]+)\((.*)\): ", conversation.messages[0]["content"], re.M)
        assert 2 <= len(offers) <= 4
        keys = {name: [p.split(":")[0] for p in parameters.split(", ")] for name, parameters in offers}
        for call in (call for turn in reference_calls(conversation) for call in turn):
            assert list(call["arguments"]) == keys[call["name"]]


def test_every_argument_can_be_worked_out_from_the_query(sample):
    rules = set()
    is_hard = sample[0].source.startswith("generator:hard:")
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
    expected = {"word"} if is_hard else {"product", "dozen", "clock", "minutes"}
    assert {"copy", "sum", "option"} | expected <= rules


def test_no_argument_can_pass_for_a_copy_of_another(sample):
    for conversation in sample:
        pairs = {(value.key, value.text) for value in conversation.derivations}
        for key, text in pairs:
            assert not any(said_before(text, other) for other_key, other in pairs if other_key != key), pairs


def test_an_option_has_one_wording_per_value():
    """Otherwise the query could not tell which value is meant."""
    slots = [(slot, data.pools) for data in DATA.values() for api in data.apis for slot in api.slots.values()]
    rng, checked = Random(0), 0
    for slot, pools in slots:
        draws = [slot.draw(rng, pools) for _ in range(60)]
        if draws[0].values[0].rule == "option":
            pairs = {(drawn.said, drawn.values[0].value) for drawn in draws}
            assert len({said for said, _ in pairs}) == len({value for _, value in pairs}) == len(pairs) > 1
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize(
    ("api", "pools"), [pytest.param(api, data.pools, id=api.stem) for data in DATA.values() for api in data.apis]
)
def test_every_request_uses_every_slot_and_the_first_is_a_copy(api, pools):
    for request in api.requests:
        assert sorted(re.findall(r"\{(\w+)\}", request)) == sorted(api.slots)
    assert next(iter(api.slots.values())).draw(Random(0), pools).values[0].rule == "copy"


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
    """Reads the roles back at the places where a call's parts stand."""
    openers = {"react": "\nAction:", "minutes": "\n@", "cards": "\n((use"}
    new = copied = 0
    for conversation in sample:
        earlier = ""
        for (content, spans), calls in zip(assistant_turns(conversation), reference_calls(conversation), strict=True):
            position = content.find(openers.get(format_of(conversation), "<tool_call>"))
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


def keys_of(split):
    return {key for api in DATA[split].apis for slot in api.slots.values() for key, _ in slot.parameters}


def phrases_of(split):
    return {phrase for bank in dataclasses.astuple(DATA[split].bank) for phrase in bank}


def tools_of(split):
    conversations = generate(300, seed=0, split=split)
    return {call["name"] for c in conversations for turn in reference_calls(c) for call in turn}


@pytest.mark.parametrize(("one", "other"), itertools.combinations(SPLITS, 2))
def test_the_splits_share_no_api_key_phrase_or_value(one, other):
    apis, other_apis = DATA[one].apis, DATA[other].apis
    assert not {api.stem for api in apis} & {api.stem for api in other_apis}
    assert not {api.description for api in apis} & {api.description for api in other_apis}
    assert not {request for api in apis for request in api.requests} & {r for api in other_apis for r in api.requests}
    assert not keys_of(one) & keys_of(other)
    assert not phrases_of(one) & phrases_of(other)
    values, other_values = (strings_of(generate(500, seed=0, split=split)) for split in (one, other))
    assert len(values) > 300 or one != "train"
    assert not values & other_values
    assert not tools_of(one) & tools_of(other)


@pytest.mark.parametrize("split", SPLITS)
def test_phrases_and_requests_hold_no_digit_and_no_argument_key(split):
    data, keys = DATA[split], keys_of(split)
    requests = [request for api in data.apis for request in api.requests]
    said = [
        phrase
        for name, bank in dataclasses.asdict(data.bank).items()
        if name not in ("intros", "sums", "recalls")
        for phrase in bank
    ]
    for phrase in requests + said + [entry for entries in data.lexicon.values() for entry in entries]:
        words = set(re.findall(r"\w+", re.sub(r"\{\w+\}|<\^?\w+>", "", phrase)))
        assert not words & keys, phrase
        assert not re.search(r"\d", phrase)
    for bank in dataclasses.astuple(data.bank):
        assert len(set(bank)) == len(bank)


def test_output_is_pinned():
    """The same text and truth on every machine and Python version. A wanted change of the data changes the pin."""
    record = [[c.source, c.messages, c.role_spans, reference_calls(c)] for c in generate(50, seed=0)]
    assert hashlib.sha256(json.dumps(record).encode()).hexdigest() == PINNED_SHA256


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_is_pinned(split):
    """`train` and `eval` are what they were before `hard` stood beside them."""
    conversations = [c for seed in range(6) for c in generate(40, seed=seed, split=split)]
    record = [[c.source, c.messages, c.role_spans, reference_calls(c)] for c in conversations]
    assert hashlib.sha256(json.dumps(record).encode()).hexdigest() == PINNED_BY_SPLIT[split]


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("name", MADE_UP_FORMATS)
def test_made_up_formats_hold_the_values_of_every_split(split, name):
    for conversation in generate(60, seed=2, split=split, formats=(name,)):
        turns = [parse_calls(content, name) for content, _ in assistant_turns(conversation)]
        assert turns == reference_calls(conversation)


@pytest.mark.parametrize("name", FORMATS)
def test_the_hard_split_comes_in_known_formats_too(name):
    for conversation in generate(40, seed=2, split="hard", formats=(name,)):
        turns = [parse_calls(content, name) for content, _ in assistant_turns(conversation)]
        assert turns == reference_calls(conversation)


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
            assert not re.search(r"\{\w+\}|<\^|<(?!/?(?:think|tool_call|response)>)", content), "a gap was left"


def test_seeds_differ():
    assert generate(5, seed=0)[0].messages != generate(5, seed=1)[0].messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"count": 1, "split": "test"}, "unknown split 'test'"),
        ({"count": 1, "formats": ("rlla", "xml")}, "expected one or more of rlla, hermes, react, minutes, cards"),
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
