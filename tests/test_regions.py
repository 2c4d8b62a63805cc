"""Regions of sampled ids: against responses whose regions are known, on several tokenizers, and under any ids."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from region_cases import ANSWER, ARGUMENTS, KEY, NAME, OTHER, TAG, THINK, VALUE, cases, slow_weights
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rolewise.core.errors import InputError
from rolewise.core.region import Region
from rolewise.data.token_text import token_table
from rolewise.data.tool_calls import CALL_FORMATS
from rolewise.roles.regions import label_regions, region_spans
from rolewise.weighting import ResT, ResTOfficial

CASES = cases(500, seed=3)
TEXTS = [case.text for case in CASES]
SMOLLM2 = os.environ.get("ROLEWISE_SMOLLM2")


def unigram_with_bytes():
    """As SentencePiece's models: spaces as ▁, unknown characters as bytes."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0)], 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.UnigramTrainer(vocab_size=700, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([text.encode("ascii", "ignore").decode() for text in TEXTS[:300]], trainer)
    vocabulary = [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]
    tokenizer.model = models.Unigram([*vocabulary, *((piece, -20.0) for piece in pieces)], 0, byte_fallback=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def metaspace_bpe():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_level_on_cases():
    """Byte-level BPE that merges across words, lines and the borders of regions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def wordpiece():
    """A decoder that the table does not know: it asks the tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module", params=["byte-level", "byte-level-merging", "unigram", "metaspace", "smollm2"])
def tokenizer(request, make_tokenizer):
    if request.param == "smollm2":
        if not SMOLLM2:
            pytest.skip("no SmolLM2 at hand; set ROLEWISE_SMOLLM2 to its directory")
        return AutoTokenizer.from_pretrained(SMOLLM2)
    makers = {"byte-level-merging": byte_level_on_cases, "unigram": unigram_with_bytes, "metaspace": metaspace_bpe}
    return makers.get(request.param, make_tokenizer)()


def encoded(tokenizer, text):
    """Ids and the tokenizer's own character offsets."""
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    return encoding["input_ids"], encoding["offset_mapping"]


def weights(weighting, regions, step, total_steps=None):
    codes_BT = torch.from_numpy(regions)[None]
    mask_BT = torch.ones_like(codes_BT, dtype=torch.bool)
    return weighting.response_weights(codes_BT, mask_BT, step=step, total_steps=total_steps)[0].tolist()


def official(step):
    table = {TAG: 1.0, NAME: 1.2, THINK: min(0.6 + 0.002 * step, 1.0)}
    table |= dict.fromkeys((ARGUMENTS, KEY, VALUE), min(0.6 + 0.002 * step, 1.2))
    return lambda region: table.get(region, 0.0)


def ours(step, total_steps):
    part = step / (total_steps - 1)
    table = {TAG: 1.0, NAME: 1.2, THINK: 0.6 + 0.4 * part, ANSWER: 0.6 + 0.4 * part}
    table |= dict.fromkeys((ARGUMENTS, KEY, VALUE), 0.6 + 0.6 * part)
    return lambda region: table.get(region, 0.2)


def test_weights_of_500_responses_equal_the_reference(tokenizer):
    ids, offsets = zip(*(encoded(tokenizer, text) for text in TEXTS), strict=True)
    labelled = label_regions(ids, tokenizer)
    compared = nonzero = 0
    for number, (case, regions) in enumerate(zip(CASES, labelled, strict=True)):
        step = (0, 57, 250, 400)[number % 4]
        expected = slow_weights(case.regions, offsets[number], official(step))
        found = weights(ResTOfficial(), regions, step)
        assert found == pytest.approx(expected, abs=1e-6), explain(tokenizer, case, ids[number], found, expected)
        compared += len(found)
        nonzero += sum(weight > 0 for weight in expected)
        if case.exact:
            expected = slow_weights(case.regions, offsets[number], ours(step % 105, 105))
            found = weights(ResT(), regions, step % 105, 105)
            assert found == pytest.approx(expected, abs=1e-6), explain(tokenizer, case, ids[number], found, expected)
    assert nonzero > compared / 4


def explain(tokenizer, case, ids, found, expected):
    tokens = tokenizer.convert_ids_to_tokens(ids)
    wrong = [row for row in zip(tokens, found, expected, strict=True) if abs(row[1] - row[2]) > 1e-6]
    return f"{case.format}: {case.text!r}\n(token, found, expected): {wrong[:8]}"


def test_regions_of_whole_responses_with_the_format_named(tokenizer):
    for case in CASES:
        if not case.exact:
            continue
        ids, offsets = encoded(tokenizer, case.text)
        (regions,) = label_regions([ids], tokenizer, case.format)
        for code, (start, end) in zip(regions, offsets, strict=True):
            inside = set(case.regions[start:end])
            if len(inside) == 1:
                assert Region(int(code)) is inside.pop(), (case.text, case.text[start:end])


def test_the_text_is_the_tokenizers(tokenizer):
    table = token_table(tokenizer)
    for text in TEXTS[:200]:
        ids, offsets = encoded(tokenizer, text)
        found, start_T, end_T = table.text(ids)
        decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert found == decoded
        is_fallback = any(token.startswith("<0x") for token in tokenizer.convert_ids_to_tokens(ids))
        if "<unk>" not in decoded and not is_fallback:  # of fallback bytes the tokenizer gives a whole word's place
            assert list(zip(start_T, end_T, strict=True)) == offsets


def test_a_decoder_that_is_not_known_is_asked():
    tokenizer = wordpiece()
    ids = tokenizer("the weather in Oslo , so call it")["input_ids"]
    found, start_T, end_T = token_table(tokenizer).text(ids)
    assert found.strip() == tokenizer.decode(ids)
    assert (start_T[1:] == end_T[:-1]).all()
    words = [found[start:end] for start, end in zip(start_T, end_T, strict=True)]
    assert [word.strip() for word in words] == [tokenizer.decode([i]).removeprefix("##") for i in ids]
    assert words[1].startswith(" ") or tokenizer.convert_ids_to_tokens(ids)[1].startswith("##")


def test_tokens_that_were_added_later_are_seen(make_tokenizer):
    tokenizer = make_tokenizer()
    assert token_table(tokenizer).text([len(tokenizer)])[0] == ""
    tokenizer.add_tokens(["<tool_call>", "東京 é"])
    ids = tokenizer.convert_tokens_to_ids(["<tool_call>", "東京 é", "<|im_end|>"])
    text, start_T, end_T = token_table(tokenizer).text(ids)
    assert text == "<tool_call>東京 é<|im_end|>"
    assert (start_T.tolist(), end_T.tolist()) == ([0, 11, 15], [11, 15, 25])


def test_the_table_is_built_once(make_tokenizer, monkeypatch):
    tokenizer = make_tokenizer()
    ids = tokenizer("<think>a</think>")["input_ids"]
    label_regions([ids], tokenizer)

    def refuse(*_, **__):
        raise AssertionError("the tokenizer was called")

    for method in ("__call__", "decode", "get_vocab", "convert_ids_to_tokens", "encode"):
        monkeypatch.setattr(type(tokenizer), method, refuse)
    assert label_regions([ids, ids], tokenizer)[1].tolist().count(TAG) >= 2


# --- characters


def marked(text, format=None):
    spans = region_spans(text, format)
    return [(text[start:end], Region(region)) for start, end, region in sorted([*spans.leaves, *spans.arguments])]


@pytest.mark.parametrize(
    ("text", "format", "expected"),
    [
        ("Hello there.", None, []),
        ("Hello there.", "hermes", [("Hello there.", ANSWER)]),
        ("Hello there.", "rlla", []),
        ("<think>a</think>\nHi", None, [("<think>", TAG), ("a", THINK), ("</think>", TAG), ("\nHi", ANSWER)]),
        # "arguments" makes it Hermes, the answer's tags rlla.
        (
            '<tool_call>{"name": "f", "arguments": {}}</tool_call> hm <response>b',
            None,
            [
                ("<tool_call>", TAG),
                ("f", NAME),
                ("{}", ARGUMENTS),
                ("</tool_call>", TAG),
                ("<response>", TAG),
                ("b", ANSWER),
            ],
        ),
        # Tags within a key or value of a call are the call's.
        (
            '<tool_call>{"name": "f", "parameters": {"<think>": "</tool_call>"}, "<think>": 1}',
            "rlla",
            [
                ("<tool_call>", TAG),
                ("f", NAME),
                ('{"<think>": "</tool_call>"}', ARGUMENTS),
                ("<think>", KEY),
                ("</tool_call>", VALUE),
            ],
        ),
        ("<tool_call>\nf(1)\n</tool_call>", "hermes", [("<tool_call>", TAG), ("</tool_call>", TAG)]),
        (
            "Thought: a\nAction: find\nObservation: 3\nFinal Answer: b",
            None,
            [
                ("Thought:", TAG),
                (" a\n", THINK),
                ("Action:", TAG),
                (" find", NAME),
                ("Observation:", TAG),
                ("Final Answer:", TAG),
                (" b", ANSWER),
            ],
        ),
        (
            "[f(a=1, b='x'), g()]",
            None,
            [
                ("f", NAME),
                ("(a=1, b='x')", ARGUMENTS),
                ("a", KEY),
                ("1", VALUE),
                (" b", KEY),
                ("x", VALUE),
                (" g", NAME),
                ("()", ARGUMENTS),
            ],
        ),
        (
            "Action: search[Who?]",
            "fireact",
            [("Action:", TAG), (" search", NAME), ("[Who?]", ARGUMENTS), ("Who?", VALUE)],
        ),
    ],
)
def test_spans_by_hand(text, format, expected):
    assert marked(text, format) == expected


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60), format=st.sampled_from([None, *CALL_FORMATS]))
def test_spans_are_in_order(text, format):
    for spans in region_spans(text, format):
        ends = [0, *(bound for start, end, _ in spans for bound in (start, end))]
        assert ends == sorted(ends)
        assert all(start < end <= len(text) for start, end, _ in spans)


# --- masks, options, any ids


def test_each_run_of_the_models_own_tokens_is_a_response(make_tokenizer):
    tokenizer = make_tokenizer()
    turn = '<think>a</think>\n<tool_call>\n{"name": "f", "arguments": {"a": "1"}}\n</tool_call>'
    parts = [(turn, 1), ("<tool_response> <think> x", 0), ("<think>b</think>\nDone", 1), ("<|im_end|>" * 3, 0)]
    ids, mask = [], []
    for text, own in parts:
        piece = tokenizer(text)["input_ids"]
        ids += piece
        mask += [own] * len(piece)
    expected = []
    for text, own in parts:
        alone = tokenizer(text)["input_ids"]
        expected += label_regions([alone], tokenizer)[0].tolist() if own else [0] * len(alone)
    (regions,) = label_regions([ids], tokenizer, masks=[mask])
    assert regions.tolist() == expected
    assert {TAG, NAME, THINK, VALUE, ANSWER} <= set(regions.tolist())
    rows = label_regions(torch.tensor([ids, ids]), tokenizer, masks=torch.tensor([mask, [0] * len(ids)]).bool())
    assert rows[0].tolist() == expected
    assert not rows[1].any()
    with pytest.raises(ValueError, match="masks"):
        label_regions([ids], tokenizer, masks=[mask[:-1]])


def test_tokens_across_borders(make_tokenizer):
    tokenizer = make_tokenizer(special=("<|im_end|>", "</think>\n", "x</think>", '": {"', '"}}', 'f", "arguments'))
    ids = tokenizer.convert_tokens_to_ids(["x</think>", "</think>\n"])
    assert label_regions([ids[:1]], tokenizer)[0].tolist() == [OTHER]
    assert label_regions([ids[:1]], tokenizer, touching=True)[0].tolist() == [TAG]
    two_tags = make_tokenizer(special=("<|im_end|>", "think><tool"))
    ids = two_tags('<think>a</think><tool_call>{"name": "f"')["input_ids"]
    regions = dict(zip(two_tags.convert_ids_to_tokens(ids), label_regions([ids], two_tags)[0].tolist(), strict=True))
    assert regions["think><tool"] == TAG
    text = '<tool_call>\n{"name": "f", "arguments": {"a": "b"}}'
    ids = tokenizer(text)["input_ids"]
    for touching, expected in ((False, [OTHER, OTHER, OTHER]), (True, [NAME, ARGUMENTS, ARGUMENTS])):
        (regions,) = label_regions([ids], tokenizer, touching=touching)
        of = dict(zip(tokenizer.convert_ids_to_tokens(ids), regions.tolist(), strict=True))
        assert [of['f", "arguments'], of['": {"'], of['"}}']] == expected


@pytest.fixture(scope="module")
def tokenizer_of_parts(make_tokenizer):
    """With whole tags and brackets as tokens, so that random ids make calls."""
    parts = ["<tool_call>", "</tool_call>", '{"name": "', '", "arguments": {"', '": "', '"}}', "<think>", "</think>"]
    return make_tokenizer(special=("<|im_end|>", *parts, "[TOOL_CALLS]", "[ARGS]", "Action: "))


@settings(max_examples=150, deadline=None)
@given(
    ids=st.lists(st.integers(-3, 420), max_size=40),
    format=st.sampled_from([None, *CALL_FORMATS]),
    touching=st.booleans(),
)
def test_any_ids_get_regions(tokenizer_of_parts, ids, format, touching):
    (regions,) = label_regions([ids], tokenizer_of_parts, format, touching=touching)
    assert regions.dtype == np.uint8
    assert regions.shape == (len(ids),)
    assert set(regions.tolist()) <= {int(region) for region in Region}


def test_nothing_and_an_unknown_format(make_tokenizer):
    assert label_regions([], make_tokenizer()) == []
    assert label_regions([[]], make_tokenizer())[0].shape == (0,)
    with pytest.raises(InputError, match="unknown tool-call format 'xml'"):
        label_regions([[5]], make_tokenizer(), "xml")
