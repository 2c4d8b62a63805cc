"""Contrast: the draw of histories, losses against whole forward passes, estimators by hand, and the command."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)
from workbench import Workbench, rolewise, small_label_arguments, tiny_model

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation
from rolewise.data.labelled import load_labelled
from rolewise.data.render import RenderedSample, Renderer, Turn
from rolewise.generator import generate
from rolewise.jobs.relabel import relabel
from rolewise.labelling.checks import check_labels
from rolewise.labelling.contrast import Contrast, ContrastLosses, loss_without_input, rarity, scores
from rolewise.labelling.histories import draw_histories
from rolewise.labelling.history_grid import HistoryScorer, plan_grid, score_grid
from rolewise.labelling.sampled_roles import contrast_rollout_roles
from rolewise.labelling.settings.contrast import LOWEST, ContrastConfig
from rolewise.labelling.tuned_losses import conversations
from rolewise.labelling.words import WORD, is_punctuation, is_repeated, largest_of_word, words_of

NAN = float("nan")
QUIET = Progress(disable=True)


@pytest.fixture(scope="module")
def samples(bench: Workbench) -> list[RenderedSample]:
    renderer = Renderer(bench.tokenizer(), max_length=1024)
    return [sample for c in generate(14, seed=2) for sample in renderer.render(c)]


def chats(bench: Workbench, questions: dict[str, list[str]]) -> list[RenderedSample]:
    """Return conversations of one answer per question, by name."""
    renderer = Renderer(bench.tokenizer())
    found = []
    for name, asked in questions.items():
        turns = [(("user", question), ("assistant", f"Answer to {question}")) for question in asked]
        messages = [{"role": role, "content": text} for pair in turns for role, text in pair]
        found += renderer.render(Conversation(messages, source=name))
    return found


def plain_losses(model: torch.nn.Module, before: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Losses of an output after a history, from one whole pass with all logits."""
    ids = torch.from_numpy(np.concatenate([before, output]).astype(np.int64))[None]
    with torch.no_grad():
        log_probabilities = model(input_ids=ids).logits[0].double().log_softmax(-1)
    places = range(len(before), ids.shape[1])
    return np.array([-float(log_probabilities[t - 1, ids[0, t]]) for t in places])


class TestHistories:
    def test_every_output_once_and_never_under_its_own_conversation(self, samples):
        names = conversations(samples)
        groups = draw_histories(samples, names, 3, 0, same_beginning=True)
        outputs = [ref for group in groups for ref in group.outputs]
        assert sorted((ref.sample, ref.turn) for ref in outputs) == [
            (i, t) for i, sample in enumerate(samples) for t in range(len(sample.turns))
        ]
        for group in groups:
            assert len(group.histories) == len(set(group.histories)) == 3
            assert not {names[ref.sample] for ref in group.histories} & {names[ref.sample] for ref in group.outputs}
            lengths = [
                samples[r.sample].turns[r.turn].end - samples[r.sample].turns[r.turn].start for r in group.outputs
            ]
            assert all(a >= b for a, b in pairwise(lengths))

    def test_the_seed_decides_and_each_history_serves_about_as_often(self, samples):
        names = conversations(samples)
        drawn = [draw_histories(samples, names, 2, seed, same_beginning=False) for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        uses = Counter(history for group in drawn[0] for history in group.histories)
        assert max(uses.values()) <= 2

    def test_near_duplicates_of_the_query_are_passed_over(self, bench):
        long = "please book a table for four people in the quiet garden of the old mill near the river at seven"
        samples = chats(
            bench, {"a": [f"{long} tonight"], "b": [f"{long} today"], "c": ["what is 9 times 12"], "d": ["sing a song"]}
        )
        groups = draw_histories(samples, conversations(samples), 3, 0, same_beginning=False)
        of = {ref.sample: {h.sample for h in group.histories} for group in groups for ref in group.outputs}
        assert 1 not in of[0]
        assert 0 not in of[1]
        assert of[2] == {0, 1, 3}

    def test_a_record_that_goes_on_from_another_is_no_history_of_it(self, bench):
        def record(name: str, *asked: str) -> list[RenderedSample]:
            return chats(bench, {name: list(asked)})

        samples = [
            *record("short", "who 1"),
            *record("long", "who 1", "and why 22"),
            *record("other", "sing 333", "a 4"),
        ]
        groups = draw_histories(samples, conversations(samples), 4, 0, same_beginning=False)
        of = {(ref.sample, ref.turn): {h.sample for h in group.histories} for group in groups for ref in group.outputs}
        assert of[0, 0] == {2}
        assert of[1, 0] == {2}
        assert of[1, 1] == {0, 2}

    def test_a_class_of_one_beginning_is_served_by_its_own(self, bench):
        renderer = Renderer(bench.tokenizer())

        def sample(i: int, start: str) -> RenderedSample:
            messages = [
                {"role": "user", "content": f"{i} {i * 7} question"},
                {"role": "assistant", "content": start + f"{i}"},
            ]
            return renderer.render(Conversation(messages, source=f"c{i}"))[0]

        samples = [sample(i, "<think> a" if i % 2 else "Thought: b") for i in range(24)]
        groups = draw_histories(samples, conversations(samples), 2, 0, same_beginning=True)
        assert all(len({ref.sample % 2 for ref in (*g.outputs, *g.histories)}) == 1 for g in groups)
        mixed = draw_histories(samples, conversations(samples), 2, 0, same_beginning=False)
        assert any(len({ref.sample % 2 for ref in (*g.outputs, *g.histories)}) == 2 for g in mixed)

    def test_one_conversation_cannot_be_contrasted(self, bench):
        samples = chats(bench, {"only": ["one question", "another question", "a third"]})
        with pytest.raises(InputError, match="only: no other conversation has a different query"):
            draw_histories(samples, conversations(samples), 2, 0, same_beginning=True)

    def test_two_long_conversations_serve_each_other(self, bench):
        asked = {name: [f"{name} {i} {i * 31}" for i in range(9)] for name in ("ant", "bee")}
        samples = chats(bench, asked)
        groups = draw_histories(samples, conversations(samples), 4, 0, same_beginning=False)
        assert all({r.sample for r in g.histories} == {1 - r.sample} for g in groups for r in g.outputs)


def gemma(vocabulary: int) -> Gemma3ForCausalLM:
    """A tiny model with a sliding window shorter than the histories."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(
        vocab_size=vocabulary, sliding_window=24, layer_types=kinds, initializer_range=0.3, **sizes, **heads
    )
    return Gemma3ForCausalLM(config).eval()


def with_state(kind: str, vocabulary: int) -> torch.nn.Module:
    """A tiny model with a recurrent state in all layers, or in the first of two."""
    torch.manual_seed(0)
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
    if kind == "mamba":
        return MambaForCausalLM(MambaConfig(**sizes, state_size=8)).eval()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    return Lfm2ForCausalLM(Lfm2Config(**sizes, **heads, layer_types=["conv", "full_attention"])).eval()


class TestLosses:
    @pytest.mark.parametrize("kind", ["llama", "sliding window"])
    @pytest.mark.parametrize("batch_tokens", [1, 4096])
    def test_equal_those_of_whole_passes(self, bench, samples, tmp_path, kind, batch_tokens):
        vocabulary = len(bench.tokenizer())
        model = tiny_model(vocabulary) if kind == "llama" else gemma(vocabulary)
        groups = draw_histories(samples, conversations(samples), 3, 0, same_beginning=True)
        shards = plan_grid(samples, groups, 3000)
        assert len(shards) > 1
        scorer = HistoryScorer(model, batch_tokens=batch_tokens, limit=None)
        done = sum(score_grid(shards, samples, scorer, tmp_path))
        assert done == sum(shard.tokens for shard in shards)
        losses = ContrastLosses(shards, samples, tmp_path, 3)
        for group in groups:
            for ref in group.outputs:
                sample = samples[ref.sample]
                start, end = sample.turns[ref.turn]
                own_T, other_KT = losses[ref.sample]
                output = sample.input_ids[start:end]
                expected = plain_losses(model, sample.input_ids[:start], output)
                np.testing.assert_allclose(own_T[start:end], expected, atol=1e-3)
                for slot, history in enumerate(group.histories):
                    before = samples[history.sample].input_ids[: samples[history.sample].turns[history.turn].start]
                    np.testing.assert_allclose(
                        other_KT[slot, start:end], plain_losses(model, before, output), atol=1e-3
                    )
        assert np.isnan(losses[0][0][~samples[0].loss_mask]).all()

    def test_a_model_without_reusable_keys_and_values_reads_each_history_whole(self, bench, samples, tmp_path):
        model = tiny_model(len(bench.tokenizer()))
        groups = draw_histories(samples[:6], conversations(samples[:6]), 2, 0, same_beginning=False)
        shards = plan_grid(samples[:6], groups, 10**6)
        found = []
        for reuses in (True, False):
            scorer = HistoryScorer(model, batch_tokens=2048, limit=None)
            scorer.reuses = reuses
            assert sum(score_grid(shards, samples, scorer, tmp_path / str(reuses))) == shards[0].tokens
            found.append(ContrastLosses(shards, samples[:6], tmp_path / str(reuses), 2))
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a[1], b[1], atol=1e-4)

    @pytest.mark.parametrize("kind", ["mamba", "hybrid"])
    def test_a_model_with_a_state_in_place_of_keys_and_values(self, bench, samples, tmp_path, kind):
        model = with_state(kind, len(bench.tokenizer()))
        some = samples[:4]
        groups = draw_histories(some, conversations(some), 2, 0, same_beginning=False)
        shards = plan_grid(some, groups, 10**6)
        scorer = HistoryScorer(model, batch_tokens=2048, limit=None)
        assert sum(score_grid(shards, some, scorer, tmp_path)) == shards[0].tokens
        losses = ContrastLosses(shards, some, tmp_path, 2)
        for ref in groups[0].outputs:
            start, end = some[ref.sample].turns[ref.turn]
            own_T, other_KT = losses[ref.sample]
            output = some[ref.sample].input_ids[start:end]
            expected = plain_losses(model, some[ref.sample].input_ids[:start], output)
            np.testing.assert_allclose(own_T[start:end], expected, atol=1e-3)
            for slot, history in enumerate(groups[0].histories):
                before = some[history.sample].input_ids[: some[history.sample].turns[history.turn].start]
                np.testing.assert_allclose(other_KT[slot, start:end], plain_losses(model, before, output), atol=1e-3)

    def test_a_model_with_a_state_reads_prompts(self, bench):
        scorer = HistoryScorer(with_state("hybrid", len(bench.tokenizer())), batch_tokens=2048, limit=None)
        ids, cache = scorer.read([5, 6, 7, 8, 9])
        assert ids.tolist() == [5, 6, 7, 8, 9]
        assert cache is None

    def test_a_history_that_is_too_long_loses_its_beginning(self, bench, samples):
        model = tiny_model(len(bench.tokenizer()))
        sample, output = samples[0], samples[1].input_ids[samples[1].turns[0].start : samples[1].turns[0].end]
        start = sample.turns[0].start
        scorer = HistoryScorer(model, batch_tokens=2048, limit=len(output) + 20)
        _, (under,) = scorer.losses(sample.input_ids, sample.loss_mask, [(start, [output])])
        expected = plain_losses(model, sample.input_ids[start - 20 : start], output)
        np.testing.assert_allclose(under[0], expected, atol=1e-4)

    def test_losses_that_are_not_finite_are_refused(self, bench, samples, tmp_path):
        model = tiny_model(len(bench.tokenizer()))
        model.lm_head.weight.data[0] = float("inf")
        shards = plan_grid(samples[:2], [], 10**6)
        with pytest.raises(InputError, match=f"{samples[0].source}|{samples[1].source}: losses of this sample"):
            list(score_grid(shards, samples, HistoryScorer(model, batch_tokens=99, limit=None), tmp_path))
        assert not any(tmp_path.glob("*.npz"))


class TestScore:
    def test_estimators_by_hand(self):
        p_KT = np.array([[0.5, 0.1], [0.25, 0.4]])
        losses_KT = -np.log(np.vstack([p_KT, [[NAN, NAN]]]))
        expected = {
            "mean": [(math.log(2) + math.log(4)) / 2, (math.log(10) + math.log(2.5)) / 2],
            "mixture": [-math.log(0.375), -math.log(0.25)],
            "posterior": [-math.log(0.375), -math.log(2 / 3 * 0.1 + 1 / 3 * 0.4)],
            "best": [math.log(2), math.log(2.5)],
        }
        for estimator, values in expected.items():
            np.testing.assert_allclose(loss_without_input(losses_KT, estimator), values)

    def test_rarity_by_hand(self):
        counts = Counter({7: 6, 8: 2, 9: 1})
        own = Counter({7: 1, 9: 1})
        np.testing.assert_allclose(
            rarity(np.array([7, 8, 9]), counts, own),
            [-math.log(5.5 / 8.5), -math.log(2.5 / 8.5), -math.log(0.5 / 8.5)],
        )

    def test_words(self):
        text = 'x {"a": 12, "city": "Pal-ind", t 10:30 10:30}'
        pieces = [
            "x",
            " {",
            '"a',
            '":',
            " ",
            "1",
            "2",
            ",",
            ' "',
            "city",
            '":',
            ' "',
            "Pal",
            "-",
            "ind",
            '",',
            " t",
            " ",
            "10",
            ":30",
            " 10",
            ":30",
            "}",
        ]
        ends = np.cumsum([len(piece) for piece in pieces])
        assert "".join(pieces) == text
        words = words_of(text, ends - [len(p) for p in pieces], ends, [Turn(0, len(pieces))])
        found = [("".join(pieces[start:end]), word) for start, end, word in words]
        assert found == [
            ("x", "x"),
            ('"a', "a"),
            (" 12", "12"),
            ("city", "city"),
            ("Pal-ind", "Pal-ind"),
            (" t", "t"),
            (" 10:30", "10:30"),
            (" 10:30", "10:30"),
        ]
        values_T = np.arange(len(pieces), dtype=float)
        values_T[5] = NAN
        pooled_T = largest_of_word(values_T, words)
        assert pooled_T[4] == pooled_T[6] == 6
        assert np.isnan(pooled_T[5])
        assert pooled_T[7] == 7
        repeated_T = is_repeated(words, len(pieces))
        assert np.flatnonzero(repeated_T).tolist() == [20, 21]

    def test_a_character_of_several_tokens_is_judged_as_a_whole(self, bench):
        tokenizer = bench.tokenizer()
        text = "a 🚀 b"
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts_T, ends_T = np.array(encoding["offset_mapping"]).T
        rocket = [text[start:end] == "🚀" for start, end in zip(starts_T, ends_T, strict=True)]
        assert 1 < sum(rocket) < len(rocket)
        without_T = np.linspace(0, 3, len(rocket))
        own_T = np.zeros(len(rocket))
        turns = [Turn(0, len(rocket))]
        whole_T, _ = scores(own_T, without_T, text, starts_T, ends_T, turns, ContrastConfig())
        assert set(whole_T[rocket]) == {np.float32(without_T[rocket].max())}
        single_T, _ = scores(own_T, without_T, text, starts_T, ends_T, turns, ContrastConfig(pooling="token"))
        assert len(set(single_T[rocket])) == sum(rocket)

    def test_punctuation_is_what_stands_outside_of_words_and_says_nothing(self):
        pieces = ["a", ".", "b", ",", " ", "10", ",", "000", " +", " 2", " ((", "!", "。", "é", " ", "", "="]
        ends = np.cumsum([len(piece) for piece in pieces])
        starts = ends - [len(piece) for piece in pieces]
        words = words_of("".join(pieces), starts, ends, [Turn(0, len(pieces))])
        assert [word.text for word in words] == ["a.b", "10,000", "2", "é"]
        found = is_punctuation("".join(pieces), starts, ends, words)
        assert [piece for piece, is_one in zip(pieces, found, strict=True) if is_one] == [",", " ((", "!", "。", " "]

    def test_words_of_other_scripts(self):
        # Combining marks belong to the word; Chinese, Japanese and Thai have no words to judge as a whole.
        assert WORD.findall("हिन्दी भाषा cafe\u0301 한국어") == ["हिन्दी", "भाषा", "cafe\u0301", "한국어"]
        assert WORD.findall("请帮 Alex 预订12个房间，カフェ ที่นี่") == ["Alex", "12"]

    def test_a_copy_of_an_earlier_turn_that_is_a_sample_of_its_own(self, bench, tmp_path):
        template = tmp_path / "strips.jinja"
        template.write_text(
            "{% for m in messages %}<|im_start|>{{ m.role }}\n"
            "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
            "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        renderer = Renderer(bench.tokenizer(), chat_template=str(template))
        found = []
        for name in ("Rome", "Oslo"):
            messages = [
                {"role": "user", "content": f"Go to {name}"},
                {"role": "assistant", "content": f"<think>hidden</think>Going to {name}"},
                {"role": "user", "content": "More"},
                {"role": "assistant", "content": f"<think>still hidden</think>Back in {name}"},
            ]
            found += renderer.render(Conversation(messages, source=name))
        assert [sample.source for sample in found] == ["Rome", "Rome", "Oslo", "Oslo"]
        contrast = Contrast(str(bench.model), ContrastConfig(threshold=-1.99, rules=False))
        labels, _ = contrast.label(found, tmp_path, QUIET)
        last = found[1]
        of_word = {}
        for word in ("still", "hidden", "Back", "Rome"):
            at = last.text.rindex(word)
            of_word[word] = set(labels[1].score_T[(last.char_start < at + len(word)) & (last.char_end > at)].tolist())
        assert of_word["Rome"] == {LOWEST}
        # Its history no longer shows the thought.
        assert all(of_word[word] != {LOWEST} for word in ("still", "hidden", "Back"))


@pytest.fixture(scope="module")
def labelled(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench labelled by the command, with rarity in the score."""
    output = tmp_path_factory.mktemp("contrast") / "out"
    arguments = small_label_arguments(bench, output, "--method", "contrast", "--rarity", 0.5, "--batch-tokens", 300)
    result = rolewise(*arguments)
    assert result.returncode == 0, result.stderr
    return output


class TestCommand:
    def test_scores_decide_and_are_stored(self, labelled):
        data = load_labelled(labelled)
        assert data.info.threshold == 0.5
        assert data.info.settings["batch_tokens"] == 300
        counted: Counter[int] = Counter()
        for sample, ids in zip(data.samples(), data.rows["input_ids"], strict=True):
            counted.update(np.array(ids)[sample.mask_T].tolist())
            assert sample.score_T is not None
            above_T = np.nan_to_num(sample.score_T, nan=-9) > 0.5
            assert ((sample.roles_T == Role.REASONING) == above_T).all()
            assert (sample.score_T[sample.roles_T == Role.FORMAT] == LOWEST).all()
            assert np.isnan(sample.score_T[~sample.mask_T]).all()
        assert data.info.token_counts == {str(token): count for token, count in sorted(counted.items())}
        assert data.info.counts["reasoning"] > 0 < data.info.counts["template"]

    def test_fewer_histories_than_requested_are_said(self, bench, tmp_path):
        arguments = small_label_arguments(bench, tmp_path / "out", "--method", "contrast", "--limit", 3, "--plan")
        note = (
            "note: some answers are contrasted with 2 instead of the requested 4 other histories: the data has no more"
        )
        assert note in rolewise(*arguments).stderr
        assert "note:" not in rolewise(*arguments, "--histories", "2").stderr

    def test_a_threshold_moves_what_the_score_leaves_open(self, labelled, tmp_path):
        output = tmp_path / "out"
        assert rolewise("relabel", "--data", labelled, "--output", output, "--threshold", 2).returncode == 0
        before, after = load_labelled(labelled), load_labelled(output)
        assert 0 < after.info.counts["reasoning"] < before.info.counts["reasoning"]
        assert after.info.counts["format"] == before.info.counts["format"]
        for sample in after.samples():
            assert ((sample.roles_T == Role.REASONING) == (np.nan_to_num(sample.score_T, nan=-9) > 2)).all()
        same = tmp_path / "same"
        assert rolewise("relabel", "--data", labelled, "--output", same, "--threshold", 0.5).returncode == 0
        assert load_labelled(same).rows["token_roles"] == before.rows["token_roles"]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--threshold", -3), "threshold is -3.0; it must be a finite number of nats, -2 or more"),
            (
                ("--format-quantile", 0.5),
                "labelled by contrast, which splits boilerplate by rules; leave format_quantile out",
            ),
        ],
    )
    def test_what_a_score_does_not_allow_is_one_line(self, labelled, tmp_path, more, message):
        result = rolewise("relabel", "--data", labelled, "--output", tmp_path / "out", *more)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()

    def test_transfer_keeps_roles_and_the_scores_of_the_same_tokens(self, bench, labelled, tmp_path):
        output = tmp_path / "out"
        result = rolewise("transfer", "--model", bench.model, "--data", labelled, "--output", output)
        assert result.returncode == 0, result.stderr
        for old, new in zip(load_labelled(labelled).samples(), load_labelled(output).samples(), strict=True):
            np.testing.assert_array_equal(old.roles_T, new.roles_T)
            np.testing.assert_array_equal(old.score_T, new.score_T)
        truth, verdict = check_labels(load_labelled(output))[1:]
        assert "score" in truth.auroc
        # Transferred labels have no threshold to move, so it can't be the advice.
        assert verdict.area is None
        assert "threshold" not in verdict.line

    def test_a_sample_longer_than_the_model_reads_is_one_line(self, bench, samples, tmp_path):
        tiny_model(len(bench.tokenizer()), max_position_embeddings=64).save_pretrained(tmp_path / "model")
        with pytest.raises(InputError, match=r"\d+ tokens, while the model reads 64; give --max-length 64$"):
            Contrast(str(tmp_path / "model"), ContrastConfig()).label(samples, tmp_path, QUIET)

    def test_one_sample_decides_if_keys_and_values_are_reused(self, bench, samples, tmp_path, monkeypatch):
        tried = []
        agrees = HistoryScorer._agrees

        def noted(self, cache, ids_T, *rest):
            tried.append(ids_T.tolist())
            return agrees(self, cache, ids_T, *rest)

        monkeypatch.setattr(HistoryScorer, "_agrees", noted)
        contrast = Contrast(str(bench.model), ContrastConfig(batch_tokens=100))
        contrast.label(samples, tmp_path, QUIET)
        sorted((tmp_path / "losses").iterdir())[-1].unlink()
        contrast.label(samples, tmp_path, QUIET)
        assert len(tried) == 2
        assert tried[0] == tried[1]

    def test_a_run_that_lost_a_shard_ends_the_same(self, bench, samples, tmp_path):
        contrast = Contrast(str(bench.model), ContrastConfig(batch_tokens=100), max_length=1024)
        first, excluded = contrast.label(samples, tmp_path, QUIET)
        shards = sorted((tmp_path / "losses").iterdir())
        assert len(shards) > 2
        shards[1].unlink()
        untouched = {path: path.stat().st_mtime_ns for path in shards if path != shards[1]}
        second, _ = contrast.label(samples, tmp_path, QUIET)
        assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
        assert not any(excluded)
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a.score_T, b.score_T)
            np.testing.assert_array_equal(a.roles_T, b.roles_T)

    def test_without_rules_and_copies_only_the_score_decides(self, bench, samples, tmp_path):
        def labels(**settings):
            config = ContrastConfig(threshold=LOWEST, **settings)
            return Contrast(str(bench.model), config).label(samples, tmp_path, QUIET)[0]

        free, ruled, copied = labels(rules=False, copies=False), labels(copies=False), labels(rules=False)
        for sample, a, b, c in zip(samples, free, ruled, copied, strict=True):
            by_rules_T = b.roles_T == Role.FORMAT
            assert by_rules_T.any()
            np.testing.assert_array_equal(a.score_T[~by_rules_T], b.score_T[~by_rules_T])
            repeated_T = is_repeated(
                words_of(sample.text, sample.char_start, sample.char_end, sample.turns), len(a.score_T)
            )
            np.testing.assert_array_equal(np.where(repeated_T & sample.loss_mask, LOWEST, a.score_T), c.score_T)

    def test_duplicates_of_a_conversation_are_no_histories_of_it(self, bench):
        samples = chats(bench, {"a": ["one 1"], "b": ["two 22"], "c": ["three 333"]})
        doubled = [*samples, *(replace(sample, source=f"{sample.source}-again") for sample in samples)]
        plan = Contrast("unused", ContrastConfig(histories=9)).plan(doubled)
        for shard in plan.shards:
            for donor, serves in shard.work:
                assert all(ref.sample % 3 != donor % 3 for use in serves for ref in use.outputs)


class TestSampled:
    def test_roles_are_those_of_whole_passes(self, bench, samples):
        tokenizer = bench.tokenizer()
        model = tiny_model(len(tokenizer))
        prompts = [sample.input_ids[: sample.turns[0].start].tolist() for sample in samples[:4]]
        config = ContrastConfig(histories=2, threshold=0.1)
        source = contrast_rollout_roles(str(bench.model), prompts, tokenizer, config)
        rows = [(0, 1), (3, 3), (0, 2), (1, 0)]
        responses = [
            samples[i].input_ids[samples[i].turns[0].start : samples[i].turns[0].end].tolist() for _, i in rows
        ]
        found = source.label([prompts[i] for i, _ in rows], [*responses[:3], []])
        assert found[3].size == 0
        for (prompt, i), response, roles_T in zip(rows[:3], responses, found, strict=False):
            others = [prompts[other] for other in (0, 1, 2) if other != prompt][:2]
            output = np.array(response)
            own_T, *other_T = (plain_losses(model, np.array(before), output) for before in (prompts[prompt], *others))
            sample, (start, end) = samples[i], samples[i].turns[0]
            starts, ends = (places[start:end] for places in (sample.char_start, sample.char_end))
            expected_T, _ = scores(
                own_T, np.mean(other_T, axis=0), sample.text, starts, ends, [Turn(0, end - start)], config
            )
            near_T = np.abs(expected_T - 0.1) < 1e-3
            assert near_T.mean() < 0.1
            assert ((roles_T == Role.REASONING) == (expected_T > 0.1))[~near_T].all()
            assert set(roles_T.tolist()) == {Role.REASONING, Role.BOILERPLATE}

    @pytest.mark.parametrize(
        ("prompts", "rarity", "message"),
        [([[5, 6]] * 3, 0.0, "at least 2 different questions"), ([[5], [6]], 0.5, "rarity counts the tokens")],
    )
    def test_what_it_cannot_use_is_refused(self, bench, prompts, rarity, message):
        with pytest.raises(InputError, match=message):
            contrast_rollout_roles(str(bench.model), prompts, bench.tokenizer(), ContrastConfig(rarity=rarity))


def test_format_found_by_rules_can_neither_be_checked_nor_choose_a_threshold(labelled, tmp_path):
    assert check_labels(load_labelled(labelled)).format is None
    with pytest.raises(
        InputError, match="labelled by contrast, whose rules decide format tokens whatever the threshold"
    ):
        relabel(labelled, tmp_path / "out", format_error=0.1)


def test_a_pushed_data_set_describes_every_column(labelled, tmp_path):
    assert rolewise("push", "--data", labelled, "--repo", "a/b", "--dry-run", tmp_path / "out").returncode == 0
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| `score` | what contrast's threshold decides on" in card
    assert "` |  |" not in card
