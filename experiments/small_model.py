"""A small Llama with a tokenizer of its own, for experiments that need no downloaded model."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rolewise.data.chat_template import CHATML


def train_tokenizer(texts: Sequence[str], vocab_size: int, *, single_digits: bool = False) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer with ChatML's template.

    Args:
        texts: to train it on.
        vocab_size: of it.
        single_digits: no token has two digits.
    """
    backend = Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Digits(individual_digits=True)] if single_digits else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def small_llama(tokenizer: PreTrainedTokenizerFast, **sizes: Any) -> LlamaForCausalLM:
    """Two layers with random weights, of PyTorch's present seed.

    Args:
        tokenizer: its own.
        sizes: fields of `LlamaConfig`.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            num_hidden_layers=2,
            num_attention_heads=4,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            **sizes,
        )
    )
