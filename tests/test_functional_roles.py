"""Roles and behaviours read off the ids, against a slow reading of the text."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizers import KINDS, tiny_tokenizer

from rolewise.core.behaviour import RFTT
from rolewise.core.role import Role
from rolewise.data.chat_template import CHATML
from rolewise.data.conversation import Conversation
from rolewise.data.render import Renderer
from rolewise.roles.functional import functional_roles, label_behaviours
from rolewise.training.functional_tokens import add_to_tokenizer, functional_token_ids

# As Qwen 3's: an earlier turn is shown without its thinking, which is whatever stands before `</think>`.
STRIPS_THINK = CHATML.replace("message['content']", "text").replace(
    "{{ '<|im_start|>'",
    "{% set text = message['content'] %}"
    "{% if message['role'] == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>'",
)
TRIMS = CHATML.replace("message['content']", "message['content'] | trim")
ANSWER = "<clarify>We add.</clarify>\n<next_step> 2+3 = 5</next_step><verify>5-3 = 2</verify><output>5</output>"
TOKENS = {name: (10 + 2 * number, 11 + 2 * number) for number, name in enumerate(["clarify", "verify", "output"])}


def conversation(*contents):
    roles = ["user", "assistant"] * (len(contents) // 2)
    pairs = zip(roles, contents, strict=True)
    return Conversation([{"role": role, "content": content} for role, content in pairs], None)


def reference(ids, tokens):
    """Behaviours by walking back from each token to what opened its step."""
    names = {token: (name, kind) for name, pair in tokens.items() for token, kind in zip(pair, "oc", strict=True)}
    found = []
    for place, token in enumerate(ids):
        name, kind = names.get(token, (None, None))
        if kind is None:
            before = [names[i] for i in ids[:place] if i in names]
            name = before[-1][0] if before and before[-1][1] == "o" else None
        found.append(0 if name is None else 1 + list(tokens).index(name))
    return found


@given(st.lists(st.sampled_from([1, 2, 10, 11, 12, 13, 14, 15]), max_size=12))
def test_every_sequence_is_read_as_the_reference_does(ids):
    found = label_behaviours(ids, TOKENS)
    assert found.steps_T.tolist() == reference(ids, TOKENS)
    assert found.tokens_T.tolist() == [i >= 10 for i in ids]


def test_roles_by_behaviour():
    ids = [1, 10, 2, 11, 3, 12, 4, 13, 5, 14, 6, 15, 7, 8, 9]
    mask = np.array([0, *[1] * 12, 0, 1], dtype=bool)
    context, form, text, old, plain = Role.CONTEXT, Role.FORMAT, Role.REASONING, Role.BOILERPLATE, Role.PLAIN
    expected = [context, form, old, form, form, form, text, form, form, form, old, form, form, context, plain]
    assert functional_roles(ids, mask, TOKENS).tolist() == expected
    expected[2] = expected[10] = text
    assert functional_roles(ids, mask, TOKENS, restating=()).tolist() == expected


@pytest.mark.parametrize("template", [CHATML, STRIPS_THINK, TRIMS])
@pytest.mark.parametrize("kind", KINDS)
def test_templates_keep_functional_tokens_as_single_ids_that_carry_loss(kind, template):
    tokenizer = tiny_tokenizer(kind)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    add_to_tokenizer(tokenizer)
    tokenizer.chat_template = template
    ids = functional_token_ids(tokenizer)
    [sample] = Renderer(tokenizer).render(conversation("2+3?", ANSWER, "Sure?", "<verify>Yes.</verify>"))
    named = dict(zip((i for pair in ids.values() for i in pair), RFTT.tokens, strict=True))
    with_loss = [int(i) for i in sample.input_ids[sample.loss_mask]]
    assert [named[i] for i in with_loss if i in named] == [*re.findall("<[^>]*>", ANSWER), "<verify>", "</verify>"]
    assert not set(named) & {int(i) for i in sample.input_ids[~sample.loss_mask]}

    roles_T = functional_roles(sample.input_ids, sample.loss_mask, ids)
    role_C = np.zeros(len(sample.text), dtype=np.uint8)
    for role, start, end in zip(roles_T, sample.char_start, sample.char_end, strict=True):
        role_C[start:end] = role
    of_role = {role: "".join(c for c, r in zip(sample.text, role_C, strict=True) if r == role) for role in Role}
    assert "".join(of_role[Role.REASONING].split()) == "2+3=55-3=2Yes."
    assert of_role[Role.BOILERPLATE].replace(" ", "") == "Weadd.5"
    assert of_role[Role.FORMAT].count("<|im_end|>") == 2
    assert of_role[Role.PLAIN] == ""


def test_thinking_is_stripped_and_the_steps_behind_it_stay():
    tokenizer = tiny_tokenizer("qwen")
    add_to_tokenizer(tokenizer)
    tokenizer.chat_template = STRIPS_THINK
    thinking = "<think>hm <verify>no</verify></think>"
    samples = Renderer(tokenizer).render(conversation("1?", thinking + ANSWER, "2?", thinking + ANSWER))
    assert len(samples) == 2  # turn by turn
    opening, _ = functional_token_ids(tokenizer)["verify"]
    for sample in samples:
        assert list(sample.input_ids[sample.loss_mask]).count(opening) == 2
