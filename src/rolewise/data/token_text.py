"""The text of token ids, and each token's characters in it, from one table of the vocabulary's bytes.

A response is read as sampled. Its text is the concatenation of the tokens' own bytes, so positions in the text and
tokens can't drift apart, however the tokenizer would split that text.

Shapes: T tokens, C characters.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_FALLBACK_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenTable:
    """The bytes that each token of a vocabulary stands for. Make it with `token_table`, which caches tables."""

    def __init__(self, bytes_V: list[bytes], *, strips_first_space: bool = False) -> None:
        """Take the bytes of the ids 0, 1, …; an id without a token has none.

        `strips_first_space` is for SentencePiece's vocabularies, whose first word has a space that the text lacks.
        """
        self._bytes_V = bytes_V
        self._strips_first_space = strips_first_space

    def text(self, ids_T: Sequence[int]) -> tuple[str, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the text of ids, special tokens included, and each token's position in it.

        A byte that belongs to no character becomes U+FFFD. All tokens that share a character have that character's
        position. Ids outside the vocabulary have no text.

        Args:
            ids_T: integers.

        Returns:
            The text; int32 [T], each token's first character; int32 [T], one past its last.
        """
        size = len(self._bytes_V)
        pieces = [self._bytes_V[i] if 0 <= i < size else b"" for i in ids_T]
        if self._strips_first_space and pieces and pieces[0].startswith(b" "):
            pieces[0] = pieces[0][1:]
        joined = b"".join(pieces)
        ends_T = np.cumsum(np.fromiter(map(len, pieces), np.int32, len(pieces)), dtype=np.int32)
        starts_T = np.concatenate([np.zeros(1, np.int32), ends_T])[:-1]
        if joined.isascii():
            return joined.decode("ascii"), starts_T, ends_T
        # One character for each byte outside of any character, so that characters can be counted back into bytes.
        text = joined.decode("utf-8", "surrogateescape")
        char_at = _characters_at(text, len(joined))
        is_empty_T = starts_T == ends_T
        first_T = char_at[starts_T]
        last_T = np.where(is_empty_T, first_T, char_at[np.maximum(ends_T - 1, 0)] + 1)
        return _ESCAPED_BYTE.sub("\ufffd", text), first_T, last_T.astype(np.int32)


def token_table(tokenizer: Any) -> TokenTable:
    """Return the table of a Transformers tokenizer, built once, and again after tokens are added."""
    return _cached_table(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _cached_table(tokenizer: Any, _size: int) -> TokenTable:
    vocabulary = tokenizer.get_vocab()
    steps = _decoder_steps(tokenizer)
    read = _reader(tokenizer, steps)
    added = {index: str(token) for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    bytes_V = [b""] * (1 + max([*vocabulary.values(), *added, -1]))
    for token, index in vocabulary.items():
        bytes_V[index] = read(token, index)
    for index, content in added.items():
        bytes_V[index] = content.encode("utf-8", "replace")
    strips = any(
        (step["type"] == "Strip" and step["content"] == " " and step["start"] > 0)
        or (step["type"] == "Metaspace" and step["prepend_scheme"] != "never")
        for step in steps
    )
    return TokenTable(bytes_V, strips_first_space=strips)


def _decoder_steps(tokenizer: Any) -> list[dict[str, Any]]:
    """Return the steps of a fast tokenizer's decoder; an empty list for other tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return _steps(json.loads(backend.to_str())["decoder"]) if backend is not None else []


def _reader(tokenizer: Any, steps: list[dict[str, Any]]) -> Callable[[str, int], bytes]:
    """Return the function from a token and its id to bytes that follows the decoder's steps."""
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        byte_of = _byte_level_alphabet()
        return lambda token, _: _from_byte_level(token, byte_of)
    if not kinds <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"} or not kinds:
        return _by_decoding(tokenizer)
    replaced = [(step["replacement"], " ") for step in steps if step["type"] == "Metaspace"]
    replaced += [
        (step["pattern"]["String"], step["content"])
        for step in steps
        if step["type"] == "Replace" and "String" in step["pattern"]
    ]

    def read(token: str, _: int) -> bytes:
        if "ByteFallback" in kinds and (match := _FALLBACK_BYTE.fullmatch(token)):
            return bytes([int(match[1], 16)])
        for old, new in replaced:
            token = token.replace(old, new)
        return token.encode("utf-8", "replace")

    return read


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _steps(inner)]
    return [decoder]


def _byte_level_alphabet() -> dict[str, int]:
    """Return the inverse of GPT-2's map from bytes to printable characters: Latin-1 if printable, else an added one."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    own = {chr(byte): byte for byte in printable}
    return own | {chr(0x100 + number): byte for number, byte in enumerate(others)}


def _from_byte_level(token: str, byte_of: dict[str, int]) -> bytes:
    if all(char in byte_of for char in token):
        return bytes(byte_of[char] for char in token)
    return token.encode("utf-8", "replace")


def _by_decoding(tokenizer: Any) -> Callable[[str, int], bytes]:
    """Return the function for other decoders: the text that a token adds after an anchor token.

    It runs once for each token of the vocabulary. The anchor keeps a decoder from stripping the space of a word that
    begins the text.
    """
    anchor = next(iter(tokenizer("a", add_special_tokens=False)["input_ids"]), 0)
    alone = tokenizer.decode([anchor])

    def read(_: str, index: int) -> bytes:
        behind = tokenizer.decode([anchor, index])
        piece = behind[len(alone) :] if behind.startswith(alone) else tokenizer.decode([index])
        return str(piece).encode("utf-8", "replace")

    return read


def _characters_at(text: str, size: int) -> npt.NDArray[np.int32]:
    """Return int32 [size + 1]: for each byte of the encoded text, the number of its character."""
    codes_C = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_escaped_C = (codes_C >= 0xDC80) & (codes_C <= 0xDCFF)
    widths_C = 1 + (codes_C >= 0x80).astype(np.int64) + (codes_C >= 0x800) + (codes_C >= 0x10000)
    widths_C[is_escaped_C] = 1
    numbers = np.repeat(np.arange(len(codes_C), dtype=np.int32), widths_C)
    return np.concatenate([numbers, np.full(size + 1 - len(numbers), len(codes_C), np.int32)])
