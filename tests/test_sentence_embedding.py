"""How alike texts are, by the mean of a model's hidden states."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from rolewise.evaluation.sentence_embedding import SentenceEmbedding

TEXTS = ["The weather in Paris", "weather", "a question that is much longer than the others, and then some more", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chatml_tokenizer):
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(chatml_tokenizer), max_position_embeddings=64, pad_token_id=0, **sizes)
    BertModel(config).save_pretrained(path)
    chatml_tokenizer.save_pretrained(path)
    return path


def slow_vector(folder, tokenizer, text, max_tokens):
    """One text at a time, without padding."""
    model = BertModel.from_pretrained(folder).eval()
    ids = tokenizer(text)["input_ids"][:max_tokens]
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    vector = states.mean(0).numpy()
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("max_tokens", [64, 4])
def test_cosines_are_those_of_mean_vectors(folder, chatml_tokenizer, max_tokens):
    encoder = SentenceEmbedding(str(folder), max_tokens=max_tokens)
    first, second = TEXTS[:3], TEXTS[1:3]
    slow = {text: slow_vector(folder, chatml_tokenizer, text, max_tokens) for text in TEXTS[:3]}
    expected = np.array([[slow[a] @ slow[b] for b in second] for a in first])
    found = encoder.cosines(first, second)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.min() < 0.999  # the texts are told apart


def test_many_texts_come_in_batches(folder):
    encoder = SentenceEmbedding(str(folder), max_tokens=64)
    texts = [f"question {number}" for number in range(40)]
    together = encoder.cosines(texts, texts[:1])
    np.testing.assert_allclose(together[[0, 35]], encoder.cosines([texts[0], texts[35]], texts[:1]), atol=1e-5)
    np.testing.assert_allclose(together[0], 1, atol=1e-6)


def test_a_model_that_is_not_there_can_not_be_loaded(tmp_path):
    with pytest.raises((OSError, ValueError)):
        SentenceEmbedding(str(tmp_path))
