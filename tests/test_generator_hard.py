"""The generator's hard split: counting and rules fail there, and its truth still follows from the prompt."""

import json
import re
from collections import Counter

import hard_split
import numpy as np
import pytest
from workbench import Workbench

from rolewise.core.role import Role
from rolewise.data.readers import read_conversations, write_conversations
from rolewise.data.tool_calls import parse_response
from rolewise.generator import MADE_UP_FORMATS, generate, reference_calls
from rolewise.generator.splits import SPLITS
from rolewise.roles.regex import format_spans

HARD = SPLITS["hard"]
NAME = re.compile(r"<\^?(\w+)>")


def assistant_texts(conversations):
    return [m["content"] for c in conversations for m in c.messages if m["role"] == "assistant"]


def areas(split, seed):
    return hard_split.measure([hard_split.in_words(one) for one in generate(64, seed=seed, split=split)])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counting_and_rules_tell_roles_apart_on_eval_but_not_on_hard(seed):
    found, found_on_eval = areas("hard", seed), areas("eval", seed)
    assert 0.45 < found["rarity"] < 0.62
    assert found["regex"] < 0.65
    assert found["regex, then rarity"] < 0.65
    assert 0.35 < found["rarity of words"] < 0.62
    assert min(found_on_eval[name] for name in ("rarity", "regex", "regex, then rarity")) > 0.7
    assert found["reasoning"] > 0.08


def test_the_measure_is_a_plain_count_on_words():
    conversations = generate(4, seed=0, split="hard")
    words = [
        [
            (
                match[0].strip(),
                next(
                    (s.role == Role.REASONING for s in spans if s.start <= match.start() and match.end() <= s.end),
                    False,
                ),
            )
            for match in re.finditer(r"\s*(?:\w+|[^\w\s])", message["content"])
        ]
        for conversation in conversations
        for message, spans in zip(conversation.messages, conversation.role_spans, strict=True)
        if message["role"] == "assistant"
    ]
    assert len(words) == len(conversations), "a conversation with two turns would be counted as two"
    kinds, scored = len({word for own in words for word, _ in own}), []
    for own in words:
        elsewhere = Counter(word for other in words if other is not own for word, _ in other)
        shares = [(elsewhere[word] + 0.5) / (elsewhere.total() + kinds / 2) for word, _ in own]
        scored += zip(shares, (is_reasoning for _, is_reasoning in own), strict=True)
    pairs = [(a < b) + 0.5 * (a == b) for a, first in scored if first for b, second in scored if not second]
    found = hard_split.measure([hard_split.in_words(one) for one in conversations])
    assert found["rarity"] == pytest.approx(np.mean(pairs))
    assert found["reasoning"] == pytest.approx(np.mean([is_reasoning for _, is_reasoning in scored]))


@pytest.mark.parametrize("name", MADE_UP_FORMATS)
def test_rules_and_parsers_know_nothing_of_made_up_formats(name):
    texts = assistant_texts(generate(200, seed=4, split="hard", formats=(name,)))
    assert not any(format_spans(text) for text in texts)
    assert not any(parse_response(text).calls for text in texts)


def test_two_of_three_formats_are_made_up():
    assert sorted(name in MADE_UP_FORMATS for name in HARD.formats) == [False, True, True]


def test_hardly_any_sentence_recurs():
    def sentences(split):
        ends = re.compile(r"(?<=[.?!])\s|\n")
        texts = assistant_texts(generate(400, seed=0, split=split))
        # Sentences of a few words, and the lines of calls, are not prose.
        return Counter(
            s for text in texts for s in ends.split(text) if len(re.findall(r"[a-z]+", s)) > 3 and "=" not in s
        )

    calls = re.compile(r'"|tool_call')
    counts = Counter({s: n for s, n in sentences("hard").items() if not calls.search(s)})
    on_eval = Counter({s: n for s, n in sentences("eval").items() if not calls.search(s)})
    assert counts.total() > 800
    assert max(counts.values()) <= 2
    assert max(on_eval.values()) > 5


def test_the_lexicon_is_closed_and_used_up():
    asked, reached = (
        set(),
        {name for bank in vars(HARD.bank).values() for phrase in bank for name in NAME.findall(phrase)},
    )
    while reached - asked:
        asked |= (new := reached - asked)
        reached |= {name for one in new for entry in HARD.lexicon[one] for name in NAME.findall(entry)}
    assert asked == HARD.lexicon.keys()


def test_stock_sentences_say_no_value_tool_key_or_name():
    """Otherwise the value's first mention in a call would pass for a copy of the sentence."""
    pools = HARD.pools
    options = {
        value.text
        for conversation in generate(300, seed=0, split="hard")
        for value in conversation.derivations
        if value.rule == "option"
    }
    assert options == {"true", "false", "high", "low", "early", "late", "small", "large"}
    said = {
        *pools.names,
        *(word.capitalize() for word in pools.words),
        *pools.codes,
        *pools.tools,
        *pools.keys,
        *options,
    }
    said |= {word for c in generate(300, seed=0, split="hard") for value in c.derivations for word in value.given}
    phrases = [p for name, bank in vars(HARD.bank).items() if name not in ("asks", "also", "same_again") for p in bank]
    phrases += [entry for name, entries in HARD.lexicon.items() if name != "greeting" for entry in entries]
    for phrase in phrases:
        words = NAME.sub("", re.sub(r"\{\w+\}", "", phrase))
        assert not said & set(re.findall(r"\w+", words)), phrase
        assert not said & set(re.findall(r"\w+", words.title())), phrase


def test_no_run_of_words_is_shared_with_the_other_splits_stock_sentences():
    def runs(phrases):
        found = set()
        for phrase in phrases:
            words = re.findall(r"[\w']+", re.sub(r"\{\w+\}|<\^?\w+>", " | ", phrase).lower())
            found |= {tuple(words[at : at + 4]) for at in range(len(words) - 3)}
        return found

    composed = [text.lower() for text in assistant_texts(generate(400, seed=1, split="hard"))]
    for split in ("train", "eval"):
        others = runs(phrase for bank in vars(SPLITS[split].bank).values() for phrase in bank)
        assert len(others) > 100
        assert not others & runs(composed)


def test_the_dominant_tool_is_often_offered_and_not_called():
    offered = called = 0
    for conversation in generate(600, seed=3, split="hard"):
        names = [call["name"] for turn in reference_calls(conversation) for call in turn]
        if names and "- relay(" in conversation.messages[0]["content"]:
            offered += 1
            called += "relay" in names
    assert offered > 350
    assert 0.4 < called / offered < 0.75


def test_no_call_of_two_gives_the_others_option_away():
    """Values of one conversation are distinct: with one list of options in both, the second would follow."""
    lists = {"high": "heat", "low": "heat", "early": "hour", "late": "hour", "small": "size", "large": "size"}
    both = 0
    for conversation in generate(600, seed=3, split="hard"):
        calls = [call for turn in reference_calls(conversation) for call in turn]
        if len(calls) == 2 and calls[0]["name"] != calls[1]["name"]:
            first, second = (
                {"flag" if isinstance(v, bool) else lists.get(v) for v in call["arguments"].values()} - {None}
                for call in calls
            )
            assert first.isdisjoint(second), calls
            both += 1
    assert both > 40


def test_the_split_goes_through_a_file(tmp_path):
    """The reader takes the results that follow calls which it cannot see."""
    conversations = generate(120, seed=0, split="hard")
    write_conversations(conversations, tmp_path / "hard.jsonl")
    found = read_conversations(str(tmp_path / "hard.jsonl")).conversations
    assert [c.messages for c in found] == [c.messages for c in conversations]
    assert [c.role_spans for c in found] == [c.role_spans for c in conversations]
    results = [m for c in conversations for m in c.messages[2:] if m["role"] in ("tool", "user")]
    assert {message["role"] for message in results} == {"tool", "user"}


def test_the_script_measures_words_and_tokens(bench: Workbench, tmp_path, monkeypatch):
    options = ["--conversations", "6", "--seeds", "1", "--output", str(tmp_path / "o.json")]
    for words in ([], ["--tokenizer", str(bench.model)]):
        monkeypatch.setattr("sys.argv", ["hard_split.py", *options, *words])
        hard_split.main()
        found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
        assert found["unit"] == ("tokens" if words else "words")
        assert found["splits"].keys() == SPLITS.keys()
        assert found["splits"]["hard"].keys() == {"all", *HARD.formats}
        [result] = found["splits"]["hard"]["minutes"]
        assert result["tokens"] > 100
        assert words or result["regex"] == 0.5
