"""What a search gives the model to read is what warm-up data have there, whatever the chat template writes."""

import pytest
from tiny_tokenizers import tiny_tokenizer

from rolewise.core.behaviour import RFTT
from rolewise.data.chat_template import CHATML
from rolewise.data.conversation import Conversation
from rolewise.data.render import Renderer
from rolewise.search.policies import PromptPolicy, TokenPolicy
from rolewise.search.tree import Question, Step
from rolewise.search.warmup_data import WarmupSample
from rolewise.training.functional_tokens import add_to_tokenizer, functional_token_ids

# As Qwen 3's: an answer without a thought gets an empty one, which the header does not have.
EMPTY_THOUGHT = CHATML.replace("message['content']", "text").replace(
    "{{ '<|im_start|>'",
    "{% set text = message['content'] %}{% if message['role'] == 'assistant' and loop.last %}"
    "{% set text = '<think>\n\n</think>\n\n' + text %}{% endif %}{{ '<|im_start|>'",
)
# As DeepSeek's for its distilled models: the header opens a thought, a finished turn shows none.
OPENS_THOUGHT = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
# As Llama 2's: no header, and a space before the answer.
SPACED = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
QUESTION = Question("q", "What is 2 plus 3?", "5")
STEPS = (Step("clarify", "We add."), Step("next_step", "2 + 3 = 5."), Step("output", r"\boxed{5}"))


def with_template(kind, template):
    tokenizer = tiny_tokenizer(kind)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("kind", "template"),
    [("qwen", CHATML), ("qwen", EMPTY_THOUGHT), ("llama2", SPACED), ("mistral", SPACED)],
    ids=["chatml", "empty thought", "llama2", "mistral"],
)
def test_a_search_by_tokens_goes_on_where_warm_up_data_begin(kind, template):
    tokenizer = with_template(kind, template)
    add_to_tokenizer(tokenizer)
    content = WarmupSample(QUESTION, STEPS, "plain", (1,)).content(RFTT)
    turns = [{"role": "user", "content": QUESTION.text}, {"role": "assistant", "content": content}]
    [sample] = Renderer(tokenizer).render(Conversation(turns, None))
    trained = [int(token) for token in sample.input_ids]
    opening = functional_token_ids(tokenizer)["clarify"][0]
    assert TokenPolicy(tokenizer).begin(QUESTION).prompt_ids == trained[: trained.index(opening)]


@pytest.mark.parametrize(
    ("kind", "template", "end"),
    [
        ("qwen", CHATML, "<|im_start|>assistant\n"),
        ("qwen", EMPTY_THOUGHT, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen", OPENS_THOUGHT, "<|im_start|>assistant\n"),
        ("llama2", SPACED, "[/INST]"),
    ],
    ids=["chatml", "empty thought", "opened thought", "llama2"],
)
def test_a_search_by_prompts_asks_for_a_step_without_a_thought_before(kind, template, end):
    prompt = PromptPolicy(with_template(kind, template)).prompt(QUESTION, STEPS[:1], "next_step")
    assert prompt.partition(RFTT["next_step"].prompt)[2].removeprefix("<|im_end|>\n").lstrip(" ") == end
