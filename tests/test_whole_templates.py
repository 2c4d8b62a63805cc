"""Templates that lose messages or calls, always write a header, or write prompts that no training text begins with."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.data.chat_template import CHATML
from rolewise.data.conversation import Conversation
from rolewise.data.render import RenderedSample, Renderer
from rolewise.evaluation.prompting import Prompter

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
END = "<|im_end|>"
ALWAYS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
FIRST_CALL_ONLY = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FIRST_SYSTEM_ONLY = CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages if loop.first or message.role != 'system' or message.content == 'x' %}",
).replace("if loop.first or message.role", "if message == messages[0] or message.role")
MARKED_WITHOUT_THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
MARKED = MARKED_WITHOUT_THOUGHT.replace("<think>\n' }}", "' }}")
LATE_SYSTEM_FIRST = (
    "{% for m in messages if m.role == 'system' %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    + MARKED.replace("for m in messages", "for m in messages if m.role != 'system'")
)
# One header for all assistant turns in a row, as for a model that goes on with its own turn.
FUSING = MARKED.replace(
    "{{ '<|im_start|>' + m.role + '\n' }}",
    "{% if loop.first or m.role != loop.previtem.role %}{{ '<|im_start|>' + m.role + '\n' }}{% endif %}",
).replace(
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}",
    "{{ m.content }}{% if loop.last or loop.nextitem.role != m.role %}<|im_end|>{% endif %}{% endgeneration %}",
)
FUSING = FUSING.replace(
    "{{ '\n' }}{% endfor %}", "{% if loop.last or loop.nextitem.role != m.role %}\n{% endif %}{% endfor %}"
)
SYSTEM_AT_EITHER_END = CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages if message.role != 'system' or message in [messages[0], messages[-1]] %}",
)
UNTRAINED_HEADER = MARKED.replace(
    "{% generation %}", "{% if not loop.first and loop.previtem.role == 'system' %}Reply: {% endif %}{% generation %}"
)


def say(*turns: str) -> Conversation:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return Conversation([{"role": names[turn[0]], "content": turn[3:]} for turn in turns], source="data.jsonl:7")


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def loss_texts(tokenizer: PreTrainedTokenizerFast, sample: RenderedSample) -> list[str]:
    return [tokenizer.decode(sample.input_ids[start:end]) for start, end in sample.turns]


def test_a_header_that_is_always_written_is_no_part_of_a_turn(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(ALWAYS)
    renderer, prompter = Renderer(tokenizer), Prompter(tokenizer)
    conversation = say("s: S", "u: Hi", "a: Hello", "u: More", "a: Bye")
    [sample] = renderer.render(conversation)
    assert loss_texts(tokenizer, sample) == [f"Hello{END}", f"Bye{END}"]
    assert sample.text.endswith(f"Bye{END}")
    assert prompter.stop_token_ids == (tokenizer.convert_tokens_to_ids(END),)
    assert sample.text.startswith(prompter.prompt_text(conversation.messages[:2]))
    assert renderer.notes_for([conversation]) == []


def test_a_header_in_a_system_message_that_opens_is_no_turn(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML)
    system = f"Say <|im_start|>assistant\nOne{END} at first."
    [sample] = Renderer(tokenizer).render(say(f"s: {system}", "a: One", "u: Hi", "a: Two"))
    assert loss_texts(tokenizer, sample) == [f"One{END}", f"Two{END}"]


@pytest.mark.parametrize("arguments", [({"city": "Ulm"}, {"city": "Bonn"}), ({}, {})])
def test_calls_that_a_template_drops_are_written_as_text(make_tokenizer: MakeTokenizer, arguments: Any) -> None:
    tokenizer = make_tokenizer(FIRST_CALL_ONLY)
    renderer = Renderer(tokenizer)
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "Weather."}}]
    single = Conversation([*say("u: Q").messages, {"role": "assistant", "content": "", "tool_calls": [call()]}], tools)
    [sample] = renderer.render(single)
    assert "<tool_call>" not in sample.text
    assert renderer.notes_for([single]) == []
    calls = [call(**each) for each in arguments]
    parallel = Conversation([*say("u: Q").messages, {"role": "assistant", "content": "", "tool_calls": calls}], tools)
    [sample] = renderer.render(parallel)
    [text] = loss_texts(tokenizer, sample)
    assert text.count("get_weather") == text.count("<tool_call>") == 2
    assert any("leaves out calls" in note and "--tool-format hermes" in note for note in renderer.notes_for([parallel]))


def test_system_messages_that_a_template_drops_are_joined(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(FIRST_SYSTEM_ONLY)
    renderer = Renderer(tokenizer)
    conversation = say("s: One.", "s: Two.", "u: Hi", "a: Hello", "s: Three.", "u: Q", "a: A")
    [sample] = renderer.render(conversation)
    assert "One.\n\nTwo." in sample.text
    assert "Three.\n\nQ" in sample.text
    assert loss_texts(tokenizer, sample) == [f"Hello{END}", f"A{END}"]
    assert any("system messages" in note for note in renderer.notes_for([conversation]))


def test_what_is_lost_in_every_shape_is_refused_by_name(make_tokenizer: MakeTokenizer) -> None:
    drops = CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'tool' %}")
    drops = drops.replace("{{ '<|im_start|>'", "{% if loop.index < 3 or message.role != 'user' %}{{ '<|im_start|>'", 1)
    drops = drops.replace("{% endfor %}", "{% endif %}{% endfor %}", 1)
    with pytest.raises(InputError, match=r"data.jsonl:7: the chat template leaves out message 3 \(user\)"):
        Renderer(make_tokenizer(drops)).render(say("u: 1", "a: One", "u: 2", "a: Two"))


def test_a_prompt_that_no_training_text_begins_with_is_said(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(MARKED_WITHOUT_THOUGHT))
    conversation = say("u: Hi", "a: Hello", "u: More", "a: Bye")
    renderer.render(conversation)
    assert sum("<think>" in note and "--chat-template" in note for note in renderer.notes_for([conversation])) == 1


def test_a_late_system_message_that_moves_to_the_start_is_not_seen_by_earlier_turns(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(LATE_SYSTEM_FIRST)
    renderer, prompter = Renderer(tokenizer), Prompter(tokenizer)
    conversation = say("u: Hi", "a: Hello", "s: Late.", "u: More", "a: Bye")
    first, second = renderer.render(conversation)
    assert "Late." not in first.text
    assert second.text.startswith(prompter.prompt_text(conversation.messages[:4]))
    assert [loss_texts(tokenizer, sample) for sample in (first, second)] == [[f"Hello{END}"], [f"Bye{END}"]]
    assert any("separate sample" in note for note in renderer.notes_for([conversation]))


def test_assistant_turns_that_a_template_fuses_are_refused(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(FUSING))
    with pytest.raises(InputError, match=r"data.jsonl:7: .* merges consecutive assistant turns; join them in the data"):
        renderer.render(say("u: Hi", "a: Hello", "a: Again"))
    [sample] = renderer.render(say("u: Hi", "a: Hello", "u: More", "a: Again"))
    assert len(sample.turns) == 2


def test_a_prompt_has_the_shape_that_the_answer_is_trained_in(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(SYSTEM_AT_EITHER_END)
    renderer, prompter = Renderer(tokenizer), Prompter(tokenizer)
    conversation = say("s: One.", "u: Hi", "a: Hello", "s: Two.", "a: Bye")
    [sample] = renderer.render(conversation)
    assert sample.text.startswith(prompter.prompt_text(conversation.messages[:4]))
    assert loss_texts(tokenizer, sample) == [f"Hello{END}", f"Bye{END}"]
    [note] = prompter.notes
    assert "system messages" in note
    assert renderer.notes_for([conversation]) == [note]


def test_words_before_an_answer_that_neither_prompt_nor_loss_has_are_said(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(UNTRAINED_HEADER))
    plain = say("u: Hi", "a: Hello")
    renderer.render(plain)
    assert renderer.notes_for([plain]) == []
    late = say("u: Hi", "a: Hello", "s: Late.", "a: Bye")
    renderer.render(late)
    [note] = renderer.notes_for([late])
    assert "Reply: " in note
    assert "--chat-template" in note


def test_a_note_on_prompts_comes_from_any_kind_of_turn(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(CHATML, special=("<|im_end|>", "<|im_start|>", AddedToken("\n\n", special=False)))
    renderer = Renderer(tokenizer)
    plain, indented = say("u: Hi", "a: Hello"), say("u: Hi", "a: \nHello")
    renderer.render(plain)
    assert renderer.notes_for([plain]) == []
    renderer.render(indented)
    assert len(renderer.notes_for([indented])) == 1


def test_prompts_say_what_is_written_differently_once(make_tokenizer: MakeTokenizer) -> None:
    prompter = Prompter(make_tokenizer(FIRST_SYSTEM_ONLY))
    messages = say("s: One.", "s: Two.", "u: Hi").messages
    for _ in range(2):
        assert "One.\n\nTwo." in prompter.prompt_text(messages)
    [note] = prompter.notes
    assert "system messages" in note
