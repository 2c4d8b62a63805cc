"""Small fast tokenizers of the kinds that models bring, each of Transformers' own class, trained in the process."""

import json
from collections.abc import Sequence
from typing import Any

from conftest import CORPUS
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

KINDS = ("llama2", "llama3", "qwen", "gemma", "mistral", "gpt2")
_LETTERS_OR_SIGNS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer of that kind with a few hundred tokens and its usual special ones, without a chat template."""
    if kind == "llama3":
        return _llama3()
    if kind == "mistral":
        return _mistral()
    if kind in ("qwen", "gpt2"):
        end = "<|endoftext|>"
        vocab, merges = _byte_level([end, *(["<|im_start|>", "<|im_end|>"] if kind == "qwen" else [])])
        if kind == "gpt2":
            return GPT2Tokenizer(vocab=vocab, merges=merges)
        tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, eos_token="<|im_end|>", pad_token=end)
        tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
        return tokenizer
    if kind == "llama2":
        vocab, merges = _sentence_pieces(["<unk>", "<s>", "</s>"])
        return LlamaTokenizer(vocab=vocab, merges=merges)
    vocab, merges = _sentence_pieces(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    return GemmaTokenizer(vocab=vocab, merges=merges)


def _llama3() -> PreTrainedTokenizerBase:
    """Byte-level, cut by a regular expression, as Llama 3's own file has it."""
    vocab, merges = _byte_level([])
    backend = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(_LETTERS_OR_SIGNS), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def _mistral() -> PreTrainedTokenizerBase:
    """SentencePiece's pieces with spaces put in by a normalizer, as Mistral 7B's own file has it."""
    vocab, merges = _sentence_pieces(["<unk>", "<s>", "</s>"])
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _byte_level(special: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return _parts(backend, special)


def _sentence_pieces(special: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=350, show_progress=False))
    return _parts(backend, [*special, *(f"<0x{byte:02X}>" for byte in range(256))])


def _parts(backend: Tokenizer, first: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a trained tokenizer, with other tokens put first."""
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    trained = sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocab = {token: number for number, token in enumerate([*first, *trained])}
    return vocab, [(left, right) for left, right in model["merges"]]
