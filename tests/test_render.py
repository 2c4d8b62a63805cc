"""Rendering: which tokens carry loss, judged by decoding them, for templates of every kind that is out there."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.chat_template import CHATML
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.readers import read_conversations
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.data.tool_text import tool_format

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
END = "<|im_end|>"

# Markers around the content alone: the end-of-turn token is left out, as in some published templates.
MARKS_CONTENT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKS_END = MARKS_CONTENT.replace(
    "{{ m.content }}{% endgeneration %}", "{{ m.content + '<|im_end|>\n' }}{% endgeneration %}"
)
MARKS_END = MARKS_END.replace(
    "{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}", "{{ m.content + '<|im_end|>\n' }}{% endif %}"
)
# Two marked spans a turn: content, then calls and the end.
MARKS_TWICE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% generation %}{% for c in m.tool_calls or [] %}{{ '[' + c.function | tojson + ']' }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NATIVE_TOOLS = (
    "{% if tools %}{{ '<|im_start|>tools\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{% set f = c.function %}"
    "{{ '[' + f.name + ' ' + f.arguments | tojson + ']' }}{% endfor %}"
    "{{ '<|eom_id|>' if m.tool_calls else '<|im_end|>' }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPS_THINK = (
    "{% for m in messages %}{% set text = m.content %}"
    "{% if m.role == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1].lstrip() %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPS_THINK_MARKED = (
    "{% for m in messages %}{% set text = m.content %}"
    "{% if m.role == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1].lstrip() %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ text }}{% endgeneration %}"
    "{% else %}{{ text }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)
# Gemma's manners: no system, user and assistant take turns.
REFUSES_SYSTEM = (
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) or m.role not in ('user', 'assistant') %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + ('model' if m.role == 'assistant' else 'user') + '\n' + m.content | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
# No generation prompt: the header has to be found by comparison.
NO_PROMPT = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
UNMASKABLE = "{{ messages | length }}" + CHATML
NO_END = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
DROPS_CONTENT = "{% for m in messages %}{{ m.role + '<|im_end|>' }}{% endfor %}"

WHOLE = {
    "chatml": CHATML,
    "marks content": MARKS_CONTENT,
    "marks end": MARKS_END,
    "marks twice": MARKS_TWICE,
    "native tools": NATIVE_TOOLS,
    "no prompt": NO_PROMPT,
}
SPECIAL = (END, "<|im_start|>", "<|eom_id|>")


def say(*turns: str, **options: Any) -> Conversation:
    """`"u: …"`, `"a: …"`, `"s: …"`, `"t: …"` as a conversation."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "d": "developer"}
    messages = [{"role": names[turn[0]], "content": turn[3:]} for turn in turns]
    return Conversation(messages, source="data.jsonl:7", **options)


def call(**arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "get_weather", "arguments": arguments}}]


def loss_texts(tokenizer: PreTrainedTokenizerFast, sample: RenderedSample) -> list[str]:
    """Each turn's loss tokens, decoded; checks on the way that turns and mask agree."""
    covered = np.zeros_like(sample.loss_mask)
    for start, end in sample.turns:
        assert start < end
        covered[start:end] = True
    np.testing.assert_array_equal(covered, sample.loss_mask)
    return [tokenizer.decode(sample.input_ids[start:end]) for start, end in sample.turns]


def check_columns(tokenizer: PreTrainedTokenizerFast, sample: RenderedSample) -> None:
    assert sample.input_ids.dtype == sample.char_start.dtype == sample.char_end.dtype == np.int32
    assert sample.loss_mask.dtype == np.bool_
    length = len(sample.input_ids)
    assert sample.loss_mask.shape == sample.char_start.shape == sample.char_end.shape == (length,)
    assert tokenizer.decode(sample.input_ids) == sample.text
    assert sample.char_end[-1] == len(sample.text)


words = st.text(min_size=1, max_size=25).filter(lambda text: text.strip() == text)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = [f"s: {draw(words)}"] if draw(st.booleans()) else []
    turns.append(f"u: {draw(words)}")
    for _ in range(draw(st.integers(1, 4))):
        turns.append(f"{draw(st.sampled_from('aau'))}: {draw(words)}")
    turns.append(f"a: {draw(words)}")
    if draw(st.booleans()):
        turns.append(f"u: {draw(words)}")
    return say(*turns)


@pytest.mark.parametrize("name", WHOLE)
def test_the_loss_is_on_the_assistants_words_and_their_end(make_tokenizer: MakeTokenizer, name: str) -> None:
    tokenizer = make_tokenizer(WHOLE[name], SPECIAL)
    renderer = Renderer(tokenizer)

    @given(conversations())
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def check(conversation: Conversation) -> None:
        [sample] = renderer.render(conversation)
        check_columns(tokenizer, sample)
        expected = [m["content"] + END for m in conversation.messages if m["role"] == "assistant"]
        # MARKS_END's markers take in the line feed after the end; it must not carry loss.
        assert loss_texts(tokenizer, sample) == expected

    check()


def test_a_token_that_began_in_the_header_carries_no_loss(make_tokenizer: MakeTokenizer) -> None:
    backend = make_tokenizer(CHATML).backend_tokenizer
    model = json.loads(backend.to_str())
    vocabulary = model["model"]["vocab"]
    vocabulary["ĊĊ"] = len(vocabulary) + 10  # "\n\n" as one token
    model["model"]["merges"].append(["Ċ", "Ċ"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(model)), eos_token=END, chat_template=CHATML
    )
    [sample] = Renderer(tokenizer).render(say("u: Hi", "a: \n\nHello"))
    assert "assistant\n\n\nHello" in sample.text
    assert loss_texts(tokenizer, sample) == ["\nHello" + END]


def test_sentencepiece_style_tokenizer_and_template() -> None:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["[INST] Which city? [/INST] Paris is a city."] * 3, trainer)
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )
    renderer = Renderer(tokenizer)
    [sample] = renderer.render(say("u: Which?", "a: Paris is a city.", "u: Is it?", "a: city"))
    starts = [sample.text[sample.char_start[a] : sample.char_end[b - 1]] for a, b in sample.turns]
    assert starts == [" Paris is a city. </s>", " city </s>"]
    assert sample.loss_mask.sum() == sum(b - a for a, b in sample.turns)
    assert not any("generation prompt" in note for note in renderer.notes)


def test_an_end_token_that_swallows_white_space_is_still_in_the_loss(make_tokenizer: MakeTokenizer) -> None:
    greedy = AddedToken(END, rstrip=True, special=True, normalized=False)
    for template in (CHATML, MARKS_CONTENT):
        tokenizer = make_tokenizer(template, (greedy, "<|im_start|>"))
        [sample] = Renderer(tokenizer).render(say("u: Hi", "a: Hello", "u: Bye"))
        assert loss_texts(tokenizer, sample) == ["Hello" + END]


@pytest.mark.parametrize("template", [CHATML, MARKS_CONTENT, MARKS_END])
def test_an_end_token_within_the_content_does_not_end_the_turn(make_tokenizer: MakeTokenizer, template: str) -> None:
    tokenizer = make_tokenizer(template)
    [sample] = Renderer(tokenizer).render(say(f"u: {END}", f"a: The {END} ends", "u: Why?", f"a: {END}{END} so"))
    assert loss_texts(tokenizer, sample) == [f"The {END} ends{END}", f"{END}{END} so{END}"]


def test_a_conversation_may_open_with_the_assistant(make_tokenizer: MakeTokenizer) -> None:
    default_system = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
    for template in (CHATML, MARKS_CONTENT, default_system, NO_PROMPT):
        tokenizer = make_tokenizer(template)
        for opening in ([], ["s: Go."]):
            [sample] = Renderer(tokenizer).render(say(*opening, "a: One", "a: Two", "u: Hi", "a: Three"))
            assert loss_texts(tokenizer, sample) == ["One" + END, "Two" + END, "Three" + END]


@pytest.mark.parametrize("template", [STRIPS_THINK, STRIPS_THINK_MARKED])
def test_templates_that_strip_thinking_are_rendered_turn_by_turn(make_tokenizer: MakeTokenizer, template: str) -> None:
    tokenizer = make_tokenizer(template)
    conversation = say(
        "u: 1", "a: <think>x</think>One", "u: 2", "a: <think>y</think>Two", "u: 3", "a: <think>z</think>Three"
    )
    samples = Renderer(tokenizer).render(conversation)
    assert [loss_texts(tokenizer, sample) for sample in samples] == [
        ["<think>x</think>One" + END],
        ["<think>y</think>Two" + END],
        ["<think>z</think>Three" + END],
    ]
    assert "<think>x" not in samples[1].text
    assert "Two" not in samples[1].text.partition("Two")[2]
    for sample in samples:
        check_columns(tokenizer, sample)
    # Nothing to strip: one sample has it all.
    [whole] = Renderer(tokenizer).render(say("u: 1", "a: One", "u: 2", "a: Two"))
    assert loss_texts(tokenizer, whole) == ["One" + END, "Two" + END]


def test_calls_are_written_where_the_template_has_no_place_for_them(chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    renderer = Renderer(chatml_tokenizer)
    assert [("tools" in note, "tool_calls" in note, "hermes" in note) for note in renderer.notes] == [(True,) * 3]
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "Wetter für heute"}}]
    messages = [
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": call(city="Köln")},
        {"role": "tool", "content": "12 °C"},
        {"role": "assistant", "content": None, "tool_calls": call(city="Bonn") + call(city="Ulm")},
        {"role": "tool", "content": "13 °C"},
        {"role": "assistant", "content": "Cold."},
    ]
    [sample] = renderer.render(Conversation(messages, tools, source="x:1"))

    def written(city: str) -> str:
        return f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'

    assert loss_texts(chatml_tokenizer, sample) == [
        f"Let me look.\n{written('Köln')}{END}",
        f"{written('Bonn')}\n{written('Ulm')}{END}",
        f"Cold.{END}",
    ]
    system = sample.text.partition(END)[0]
    assert system.startswith("<|im_start|>system\n")
    assert f"<tools>\n{json.dumps(tools[0], ensure_ascii=False)}\n</tools>" in system
    assert "<|im_start|>tool\n12 °C<|im_end|>" in sample.text
    assert messages[3]["content"] is None  # the caller's data is left alone
    # An own system message keeps its words, before the tools.
    [sample] = renderer.render(Conversation([{"role": "developer", "content": "Be brief."}, *messages], tools))
    assert sample.text.startswith("<|im_start|>system\nBe brief.\n\n")


def test_templates_with_a_place_for_tools_keep_their_own_way(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(NATIVE_TOOLS, SPECIAL)
    renderer = Renderer(tokenizer)
    assert renderer.notes == []
    tools = [{"name": "get_weather"}]
    messages = [
        {"role": "user", "content": "Ulm?"},
        {"role": "assistant", "content": None, "tool_calls": call(city="Ulm")},
        {"role": "tool", "content": "12"},
        {"role": "assistant", "content": "Cold."},
    ]
    [sample] = renderer.render(Conversation(messages, tools))
    # A turn with a call ends with a token of its own.
    assert loss_texts(tokenizer, sample) == ['[get_weather {"city": "Ulm"}]<|eom_id|>', f"Cold.{END}"]
    assert sample.text.startswith('<|im_start|>tools\n[{"name": "get_weather"}]')
    forced = Renderer(tokenizer, tool_format="react")
    assert ["react" in note for note in forced.notes] == [True]
    [sample] = forced.render(Conversation(messages, tools))
    assert loss_texts(tokenizer, sample)[0] == f'Action: get_weather\nAction Input: {{"city": "Ulm"}}{END}'
    assert sample.text.startswith("<|im_start|>system\nThese tools can be used:\n1. Name: get_weather")
    twice = make_tokenizer(MARKS_TWICE, SPECIAL)
    [sample] = Renderer(twice).render(Conversation(messages))
    assert loss_texts(twice, sample)[0] == f'[{{"name": "get_weather", "arguments": {{"city": "Ulm"}}}}]{END}'


def test_templates_without_system_and_tool_roles(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(REFUSES_SYSTEM)
    renderer = Renderer(tokenizer)
    assert len(renderer.notes) == 3
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Ulm and Bonn?"},
        {"role": "assistant", "content": "", "tool_calls": call(city="Ulm") + call(city="Bonn")},
        {"role": "tool", "content": "12"},
        {"role": "tool", "content": "13"},
        {"role": "assistant", "content": "Cold."},
    ]
    [sample] = renderer.render(Conversation(messages, [{"name": "get_weather"}]))
    calls = tool_format("hermes").calls([c["function"] for c in messages[2]["tool_calls"]])
    assert loss_texts(tokenizer, sample) == [calls + END, "Cold." + END]
    assert sample.text.startswith("<|im_start|>user\nBe brief.\n\nThese functions")
    assert "\n\nUlm and Bonn?<|im_end|>" in sample.text
    results = "<tool_response>\n12\n</tool_response>\n<tool_response>\n13\n</tool_response>"
    assert f"<|im_start|>user\n{results}<|im_end|>" in sample.text
    with pytest.raises(InputError, match=r"data.jsonl:7: .*must alternate.*--chat-template"):
        renderer.render(say("u: 1", "u: 2", "a: 3"))


@pytest.mark.parametrize(
    ("name", "tools", "calls", "result"),
    [
        ("hermes", '<tools>\n{"name": "f", "description": "d", "parameters": {"p": 1}}\n</tools>',
         '<tool_call>\n{"name": "f", "arguments": {"x": "ü"}}\n</tool_call>', "<tool_response>\nr\n</tool_response>"),
        ("rlla", '1. Name: f\nDescription: d\nParameters: {"p": 1}',
         '<tool_call>\n{"name": "f", "parameters": {"x": "ü"}}\n</tool_call>', "<obs> r </obs>"),
        ("react", '1. Name: f\nDescription: d\nParameters: {"p": 1}',
         'Action: f\nAction Input: {"x": "ü"}', "Observation: r"),
    ],
)  # fmt: skip
def test_tool_formats(name: str, tools: str, calls: str, result: str) -> None:
    chosen = tool_format(name)
    schema = {"name": "f", "description": "d", "parameters": {"p": 1}}
    assert tools in chosen.tools([schema])
    if name != "hermes":
        assert chosen.tools([schema]) == chosen.tools([{"type": "function", "function": schema}])
    assert chosen.calls([{"name": "f", "arguments": {"x": "ü"}}]) == calls
    assert chosen.result("r") == result


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (UNMASKABLE, "can't be told from the rest; pass another --chat-template"),
        (NO_END, "no special end-of-turn token .* pass --chat-template"),
        (DROPS_CONTENT, "drops the assistant's content"),
        ("{% for m in messages %}", "the chat template fails"),
        ("{{ raise_exception('no chat\nhere') }}", "fails: no chat here; .*--chat-template"),
        (None, "no chat template; pass --chat-template with a file or a name: chatml"),
    ],
)
def test_templates_that_cannot_be_used(make_tokenizer: MakeTokenizer, template: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Renderer(make_tokenizer(template))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", [CHATML, MARKS_CONTENT])
def test_a_turn_without_its_end_is_refused(make_tokenizer: MakeTokenizer, template: str) -> None:
    content = "message['content']" if "message['content']" in template else "m.content"
    sometimes = template.replace("'<|im_end|>", f"('<|im_end|>' if '!' not in {content} else '') + '")
    renderer = Renderer(make_tokenizer(sometimes))
    assert len(renderer.render(say("u: Hi", "a: Hello", "u: Bye"))) == 1
    with pytest.raises(InputError, match=r"^data.jsonl:7: .*pass (another )?--chat-template"):
        renderer.render(say("u: Hi", "a: Hello!", "u: Bye"))


def test_bad_options(chatml_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jinja"):
        with pytest.raises(InputError, match="neither a readable file nor a known name"):
            Renderer(chatml_tokenizer, chat_template=str(path))
    with pytest.raises(InputError, match=r"'xml'.*hermes, rlla, react"):
        Renderer(chatml_tokenizer, tool_format="xml")
    with pytest.raises(InputError, match="max_length=0"):
        Renderer(chatml_tokenizer, max_length=0)
    with pytest.raises(InputError, match="fast tokenizer"):
        Renderer(object())


def test_a_template_from_a_file_or_by_name(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text(MARKS_CONTENT)
    tokenizer = make_tokenizer(None)
    [by_file] = Renderer(tokenizer, chat_template=str(path)).render(say("u: Hi", "a: Hello"))
    [by_name] = Renderer(tokenizer, chat_template="chatml").render(say("u: Hi", "a: Hello"))
    assert by_file.text == by_name.text
    np.testing.assert_array_equal(by_file.loss_mask, by_name.loss_mask)
    # A base model without <|im_end|> ends its turns with its own end-of-text token.
    base = make_tokenizer(None, ("<|endoftext|>",))
    [sample] = Renderer(base, chat_template="chatml").render(say("u: Hi", "a: Hello"))
    assert loss_texts(base, sample) == ["Hello<|endoftext|>"]


def test_cutting_on_the_right(chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = say("u: Hi", "a: One two", "u: More", "a: Three four", role_spans=[[], [], [], []])
    [full] = Renderer(chatml_tokenizer).render(conversation)
    first, second = full.turns
    for length in range(first.start + 1, len(full.input_ids) + 2):
        [cut] = Renderer(chatml_tokenizer, max_length=length).render(conversation)
        for column in ("input_ids", "loss_mask", "char_start", "char_end", "true_roles"):
            np.testing.assert_array_equal(getattr(cut, column), getattr(full, column)[:length])
        expected = [(t.start, min(t.end, length)) for t in (first, second) if t.start < length]
        assert [tuple(turn) for turn in cut.turns] == expected
        check_columns(chatml_tokenizer, cut)
    message = rf"^data.jsonl:7: no assistant token left after cutting to max_length={first.start}"
    with pytest.raises(InputError, match=message):
        Renderer(chatml_tokenizer, max_length=first.start).render(conversation)


def test_turns_beyond_the_cut_are_left_out_where_each_is_a_sample(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(STRIPS_THINK)
    conversation = say("u: 1", "a: <think>x</think>One", "u: " + "long " * 50, "a: <think>y</think>Two")
    [sample] = Renderer(tokenizer, max_length=60).render(conversation)
    assert loss_texts(tokenizer, sample) == ["<think>x</think>One" + END]


@pytest.mark.parametrize("template", [CHATML, STRIPS_THINK, REFUSES_SYSTEM, MARKS_CONTENT])
def test_true_roles(make_tokenizer: MakeTokenizer, template: str) -> None:
    tokenizer = make_tokenizer(template)
    renderer = Renderer(tokenizer)
    rng = np.random.default_rng(7)
    roles = [Role.REASONING, Role.FORMAT, Role.TEMPLATE, Role.BOILERPLATE]
    for _ in range(20):
        contents = [" Grüße, the city is 東京 🙂 {}\n"[int(rng.integers(3)) :] + str(rng.integers(10**6)) for _ in "ab"]
        spans = []
        for content in contents:
            cuts = np.sort(rng.choice(len(content) + 1, size=7, replace=False)).tolist()
            pairs = [(a, b) for a, b in itertools.pairwise(cuts) if rng.random() < 0.8]
            spans.append([RoleSpan(a, b, roles[rng.integers(4)]) for a, b in pairs])
        conversation = say("s: S", "u: Q", "a: " + contents[0], "u: Q", "a: " + contents[1],
                           role_spans=[[], [RoleSpan(0, 1, Role.REASONING)], spans[0], [], spans[1]])  # fmt: skip
        for sample in renderer.render(conversation):
            assert sample.true_roles is not None
            expected = slow_true_roles(sample, contents, spans)
            np.testing.assert_array_equal(sample.true_roles, expected)
            assert sample.true_roles.dtype == np.uint8
    [plain] = renderer.render(say("u: Q", "a: A"))
    assert plain.true_roles is None


def slow_true_roles(sample: RenderedSample, contents: list[str], spans: list[list[RoleSpan]]) -> list[int]:
    """Paints each character with the number of its span, then asks every token for the colour it is wholly in."""
    paint: dict[int, tuple[int, Role]] = {}
    for number, (content, content_spans) in enumerate(zip(contents, spans, strict=True)):
        place = sample.text.find(content.strip())
        if place < 0:
            continue
        place -= len(content) - len(content.lstrip())
        for k, span in enumerate(content_spans):
            for character in range(span.start, span.end):
                paint[place + character] = (100 * number + k, span.role)
    expected = []
    for t in range(len(sample.input_ids)):
        characters = range(sample.char_start[t], sample.char_end[t])
        colours = {paint.get(c) for c in characters}
        colour = colours.pop() if len(colours) == 1 else None
        if not sample.loss_mask[t]:
            expected.append(Role.CONTEXT)
        elif sample.text[characters.start : characters.stop].strip() == END:
            expected.append(Role.FORMAT)
        else:
            expected.append(Role.PLAIN if colour is None else colour[1])
    return [int(role) for role in expected]


def test_true_roles_need_the_content_as_it_was(make_tokenizer: MakeTokenizer) -> None:
    squeezed = make_tokenizer(CHATML.replace("message['content']", "message['content'] | replace('  ', ' ')"))
    conversation = say("u: Q", "a: Not  bad", role_spans=[[], [RoleSpan(0, 3, Role.FORMAT)]])
    with pytest.raises(InputError, match=r"data.jsonl:7: the chat template rewrites"):
        Renderer(squeezed).render(conversation)


@pytest.mark.parametrize("template", [CHATML, MARKS_CONTENT])
def test_templates_that_drop_words_are_refused(make_tokenizer: MakeTokenizer, template: str) -> None:
    for name in ("message['content']", "m.content"):
        template = template.replace(name, f"{name}.split('</think>')[-1]")
    renderer = Renderer(make_tokenizer(template))
    assert len(renderer.render(say("u: Q", "a: A"))) == 1
    with pytest.raises(InputError, match=r"data.jsonl:7: .*leaves out words of assistant turn 2"):
        renderer.render(say("u: Q", "a: One", "u: Q", "a: <think>x</think>Two"))


def test_a_prompt_that_opens_the_thinking(make_tokenizer: MakeTokenizer) -> None:
    """As Qwen 3.5's: the model generates from within the thinking, so the opening tag carries no loss."""
    template = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
    tokenizer = make_tokenizer(template)
    content = "<think>\nwhy\n</think>\nOne"
    spans = [RoleSpan(8, 11, Role.REASONING), RoleSpan(12, 20, Role.FORMAT)]
    [sample] = Renderer(tokenizer).render(say("u: Q", f"a: {content}", role_spans=[[], spans]))
    assert loss_texts(tokenizer, sample) == ["why\n</think>\nOne" + END]
    assert sample.true_roles is not None
    np.testing.assert_array_equal(sample.true_roles, slow_true_roles(sample, [content], [spans]))
    assert Role.REASONING in sample.true_roles
    with pytest.raises(InputError, match="can't be told from the rest"):
        Renderer(tokenizer).render(say("u: Q", "a: One"))


def test_markers_around_more_than_the_turn(make_tokenizer: MakeTokenizer) -> None:
    # The header's line feed is marked too (Qwen 2.5's), or the end of the text after the last turn (Phi 3's).
    header = MARKS_CONTENT.replace("m.role + '\n' }}", "m.role }}{{ '\n' if m.role != 'assistant' else '' }}")
    header = header.replace("{% generation %}{{ m.content", "{% generation %}{{ '\n' + m.content")
    last = MARKS_CONTENT.replace("{% endfor %}", "{% endfor %}{% generation %}{{ '<|eom_id|>' }}{% endgeneration %}", 1)
    for template in (header, last):
        tokenizer = make_tokenizer(template, SPECIAL)
        [sample] = Renderer(tokenizer).render(say("u: Q", "a: One", "u: Q", "a: Two"))
        assert loss_texts(tokenizer, sample) == ["One" + END, "Two" + END]


def test_an_earlier_turn_may_end_with_another_token(make_tokenizer: MakeTokenizer) -> None:
    """As gpt-oss's, where only the last turn ends with the token that stops generation."""
    ends = MARKS_CONTENT.replace("{{ '<|im_end|>\n' }}", "{{ '<|im_end|>\n' if loop.last else '<|eom_id|>\n' }}")
    tokenizer = make_tokenizer(ends, SPECIAL)
    [sample] = Renderer(tokenizer).render(say("u: Q", "a: One", "u: Q", "a: Two"))
    assert loss_texts(tokenizer, sample) == ["One<|eom_id|>", "Two" + END]
    ends = "('<|im_end|>' if loop.last or message['role'] != 'assistant' else '<|eom_id|>')"
    tokenizer = make_tokenizer(CHATML.replace("'<|im_end|>'", ends), SPECIAL)
    samples = Renderer(tokenizer).render(say("u: Q", "a: One", "u: Q", "a: Two"))
    assert [loss_texts(tokenizer, sample) for sample in samples] == [["One" + END], ["Two" + END]]


def test_calls_that_no_end_follows_are_written_as_text(make_tokenizer: MakeTokenizer) -> None:
    endless = NATIVE_TOOLS.replace("'<|eom_id|>' if m.tool_calls", "'<|eom_id|>.' if m.tool_calls")
    tokenizer = make_tokenizer(endless, SPECIAL)
    renderer = Renderer(tokenizer)
    assert ["tool_calls" in note for note in renderer.notes] == [True]
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": None, "tool_calls": call(x=1)}]
    [sample] = renderer.render(Conversation(messages))
    assert loss_texts(tokenizer, sample)[0].startswith("<tool_call>")


PUBLISHED = {
    "qwen2_5": ("<|im_end|>", 1),
    "qwen2_5_training": ("<|im_end|>", 1),
    "qwen3": ("<|im_end|>", 2),
    "qwen3_instruct_2507": ("<|im_end|>", 1),
    "llama3": ("<|eot_id|>", 1),
    "llama3_training": ("<|eot_id|>", 1),
    "gemma3": ("<end_of_turn>", 1),
    "gemma3_training": ("<end_of_turn>", 1),
    "phi3": ("<|end|>", 2),
    "phi3_training": ("<|end|>", 1),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates(make_tokenizer: MakeTokenizer, name: str) -> None:
    """The templates that TRL ships: end-of-turn token, and samples for a conversation of two turns."""
    path = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    if not path.is_file():
        pytest.skip(f"this TRL has no {path.name}")
    end, count = PUBLISHED[name]
    specials = ("<|endoftext|>", end, "<|im_start|>", "<start_of_turn>", "<|start_header_id|>", "<|end_header_id|>")
    tokenizer = make_tokenizer(path.read_text(), tuple(dict.fromkeys((*specials, "<|user|>", "<|assistant|>"))))
    tokenizer.bos_token = "<|endoftext|>"
    samples = Renderer(tokenizer).render(say("s: S", "u: 1", "a: One", "u: 2", "a: Two"))
    assert len(samples) == count
    texts = [text for sample in samples for text in loss_texts(tokenizer, sample)]
    empty = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    assert texts == [f"{empty}One{end}", f"{empty}Two{end}"]


def test_lone_surrogates_and_nul_do_not_crash(chatml_tokenizer: PreTrainedTokenizerFast) -> None:
    spans = [[], [RoleSpan(0, 2, Role.REASONING)]]
    [sample] = Renderer(chatml_tokenizer).render(say("u: \udc00", "a: \ud800x\x00", role_spans=spans))
    assert loss_texts(chatml_tokenizer, sample) == ["\ufffdx\x00" + END]
    assert sample.true_roles is not None
    assert (sample.true_roles == Role.REASONING).sum() >= 1


def test_fingerprints(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML)
    before = Renderer(tokenizer).fingerprint()
    own = tokenizer_fingerprint(tokenizer)
    assert len(before) == len(own) == 64
    # Padding and truncation leave traces in the backend that say nothing about the ids.
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert json.loads(tokenizer.backend_tokenizer.to_str())["padding"] is not None
    assert (Renderer(tokenizer).fingerprint(), tokenizer_fingerprint(tokenizer)) == (before, own)
    assert Renderer(make_tokenizer(CHATML)).fingerprint() == before
    assert Renderer(make_tokenizer(MARKS_CONTENT)).fingerprint() != before
    assert Renderer(tokenizer, tool_format="rlla").fingerprint() != before
    other = make_tokenizer(CHATML, (END, "<|im_start|>", "<|more|>"))
    assert tokenizer_fingerprint(other) != own
    assert Renderer(other).fingerprint() != before


@pytest.mark.parametrize("name", ["toolrl_rlla/rlla_sft.jsonl", "fireact/gpt_format__multitask_multimethod.jsonl"])
@pytest.mark.parametrize("template", [CHATML, MARKS_CONTENT])
def test_real_data(make_tokenizer: MakeTokenizer, data_dir: Path, name: str, template: str) -> None:
    tokenizer = make_tokenizer(template)
    renderer = Renderer(tokenizer)
    for conversation in read_conversations(data_dir / name).conversations[:80]:
        [sample] = renderer.render(conversation)
        check_columns(tokenizer, sample)
        expected = [m["content"] + END for m in conversation.messages if m["role"] == "assistant"]
        assert loss_texts(tokenizer, sample) == expected


def test_notes_about_tools_are_kept_from_data_without_tools(make_tokenizer):
    renderer = Renderer(make_tokenizer(CHATML))
    talk = Conversation([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    acting = Conversation([talk.messages[0], {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert any("tool_calls" in note for note in renderer.notes)
    assert renderer.notes_for([talk, acting]) == renderer.notes
    assert not any("tool" in note for note in renderer.notes_for([talk]))
