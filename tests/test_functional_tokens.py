"""Functional tokens are one id each in every kind of tokenizer, and begin with the embeddings of their description."""

import numpy as np
import pytest
import torch
from tiny import tiny_model
from tiny_tokenizers import KINDS, tiny_tokenizer
from tokenizers import Tokenizer, models
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, GPT2Config, PhiConfig, PreTrainedTokenizerFast

from rolewise.core.behaviour import RFTT, Behaviour, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.data.render import tokenizer_fingerprint
from rolewise.training.functional_tokens import add_functional_tokens, add_to_tokenizer, functional_token_ids

TEXT = "Why?<analysis>\nIs 2+3 5?</analysis><verify> yes</verify><next_step></next_step>東京<output>\n5</output>"
HOUSE = BehaviourSet(
    [Behaviour("ponder", "think it over", ("tell",)), Behaviour("tell", "give the answer")], ["ponder"]
)


def embeddings(model):
    """Both embedding matrices, copied."""
    return [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]


@pytest.mark.parametrize("kind", KINDS)
def test_one_id_each_also_after_save_and_load(kind, tmp_path):
    tokenizer = tiny_tokenizer(kind)
    before = len(tokenizer)
    assert add_to_tokenizer(tokenizer) == RFTT.tokens
    ids = functional_token_ids(tokenizer)
    assert [i for pair in ids.values() for i in pair] == list(range(before, before + 16))
    encoded = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert [i for i in encoded if i >= before] == [
        *(*ids["analysis"], *ids["verify"], *ids["next_step"], *ids["output"])
    ]
    shown = tokenizer.decode(encoded)
    assert "<next_step></next_step>東京<output>" in shown.replace(" ", "")
    assert "<verify>" not in tokenizer.decode(encoded, skip_special_tokens=True)

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    from_json = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for again in (loaded, from_json):
        assert functional_token_ids(again) == ids
        assert again(TEXT, add_special_tokens=False)["input_ids"] == encoded
        assert add_to_tokenizer(again) == []
    assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
    assert loaded.special_tokens_map == tiny_tokenizer(kind).special_tokens_map


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gemma2"])
@pytest.mark.parametrize("spare", [0, 3, 40])
def test_new_rows_are_the_mean_of_their_words_and_old_ones_stay(kind, spare):
    tokenizer = tiny_tokenizer("qwen")
    size = len(tokenizer) + spare
    model = tiny_model(kind, vocab_size=size)
    before = embeddings(model)
    ids = add_functional_tokens(model, tokenizer)
    after = embeddings(model)
    rows = max(size, len(tokenizer))
    assert ids == [i for pair in functional_token_ids(tokenizer).values() for i in pair]
    assert [len(matrix) for matrix in after] == [rows, rows]
    assert model.config.vocab_size == rows
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == bool(model.config.tie_word_embeddings)
    for old, new in zip(before, after, strict=True):
        kept = [row for row in range(size) if row not in ids]
        assert torch.equal(old[kept], new[kept])
        for behaviour, (opening, closing) in zip(RFTT, np.array(ids).reshape(-1, 2), strict=True):
            for row, phrase in [(opening, behaviour.description), (closing, f"end of {behaviour.description}")]:
                words = tokenizer(phrase, add_special_tokens=False)["input_ids"]
                torch.testing.assert_close(new[row], torch.stack([old[word] for word in words]).mean(dim=0))
        assert len(torch.unique(new[ids], dim=0)) == len(ids)


def test_tokens_that_are_there_keep_their_rows(tmp_path):
    tokenizer, model = tiny_tokenizer("llama3"), tiny_model(vocab_size=352)
    ids = add_functional_tokens(model, tokenizer, HOUSE)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] = 7.0
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    more = BehaviourSet([*HOUSE, Behaviour("doubt", "question a step")], ["ponder", "doubt"])
    again = add_functional_tokens(model, tokenizer, more)
    assert again[:4] == ids
    assert (model.get_input_embeddings().weight[ids] == 7.0).all()
    assert not (model.get_input_embeddings().weight[again[4:]] == 7.0).any()


def test_a_tokenizer_that_was_prepared_before_its_model():
    prepared, tokenizer = tiny_tokenizer("qwen"), tiny_tokenizer("qwen")
    add_to_tokenizer(prepared)
    twins = [tiny_model(vocab_size=len(tiny_tokenizer("qwen"))) for _ in range(2)]
    ids = [add_functional_tokens(model, which) for model, which in zip(twins, (prepared, tokenizer), strict=True)]
    assert ids[0] == ids[1]
    for one, other in zip(embeddings(twins[0]), embeddings(twins[1]), strict=True):
        assert torch.equal(one, other)


def test_a_token_of_the_tokenizer_that_is_not_special_is_used():
    tokenizer = tiny_tokenizer("qwen")
    tokenizer.add_tokens([AddedToken("<ponder>", special=False, normalized=False)])
    own = tokenizer.convert_tokens_to_ids("<ponder>")
    assert add_to_tokenizer(tokenizer, HOUSE) == ["</ponder>", "<tell>", "</tell>"]
    assert functional_token_ids(tokenizer, HOUSE)["ponder"] == (own, own + 1)


def test_rows_that_would_be_equal_are_moved_apart():
    twins = BehaviourSet([Behaviour("a", "think", ("b",)), Behaviour("b", "think")], ["a"])
    tokenizer = tiny_tokenizer("llama3")
    model = tiny_model(vocab_size=len(tokenizer) + 30)
    a, _, b, _ = ids = add_functional_tokens(model, tokenizer, twins)
    for matrix in embeddings(model):
        assert len(torch.unique(matrix[ids], dim=0)) == len(ids)
        torch.testing.assert_close(matrix[a], matrix[b], atol=0.05, rtol=0)


def test_a_bias_of_the_head_follows():
    tokenizer = tiny_tokenizer("gpt2")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(PhiConfig(vocab_size=len(tokenizer), **sizes))
    bias = torch.linspace(-1, 1, len(tokenizer))
    with torch.no_grad():
        model.get_output_embeddings().bias.copy_(bias)
    [opening, *_] = add_functional_tokens(model, tokenizer, HOUSE)
    words = tokenizer("think it over", add_special_tokens=False)["input_ids"]
    assert model.get_output_embeddings().bias[opening].item() == pytest.approx(bias[words].mean().item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_models_precision_stays(dtype):
    tokenizer = tiny_tokenizer("gpt2")
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    add_functional_tokens(model, tokenizer, HOUSE)
    assert {matrix.dtype for matrix in embeddings(model)} == {dtype}


def test_what_can_not_be_used_is_refused():
    tokenizer = tiny_tokenizer("llama3")
    with pytest.raises(InputError, match=r"no functional token <clarify> \(it splits it into \d+ pieces\)"):
        functional_token_ids(tokenizer)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "</ponder>": 1}, unk_token="<unk>"))
    with pytest.raises(InputError, match=r"</ponder> is an ordinary word of the tokenizer \(id 1\)"):
        add_to_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words), HOUSE)
    with pytest.raises(InputError, match="<a>: the behaviour's description is empty"):
        add_functional_tokens(tiny_model(), tokenizer, BehaviourSet([Behaviour("a", "")], ["a"]))
