"""SHAD against slow references: scoring, cross-fitting, classifying, and a bench on which it has to work."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from rich.progress import Progress
from transformers import AutoModelForCausalLM
from workbench import SPECIAL, Workbench, tiny_model, tiny_tokenizer

from rolewise.core.errors import InputError
from rolewise.core.role import Role
from rolewise.data.conversation import Conversation, RoleSpan
from rolewise.data.labelled import labelled_samples
from rolewise.data.render import RenderedSample, Renderer
from rolewise.data.shuffle import OutputRef
from rolewise.generator import generate
from rolewise.labelling.checks import check_format, check_truth
from rolewise.labelling.classify import LossLabels, classify, streamed_quantile
from rolewise.labelling.settings.shad import SHADConfig, check_classification
from rolewise.labelling.shad import SHAD

NAN = float("nan")
STRIPS_THINKING = (
    "{% for m in messages %}{% set text = m.content %}"
    "{% if m.role == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def quiet() -> Progress:
    return Progress(disable=True)


@pytest.fixture(scope="module")
def samples(bench: Workbench) -> list[RenderedSample]:
    """Ten conversations, single and multi-turn, of the odd lengths that the generator gives."""
    renderer = Renderer(bench.tokenizer(), max_length=1024)
    return [sample for c in generate(10, seed=1) for sample in renderer.render(c)]


def naive_losses(model: torch.nn.Module, sample: RenderedSample) -> np.ndarray:
    """Loss of every loss token, one sample at a time, from full logits; NaN elsewhere."""
    ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
    with torch.no_grad():
        log_probabilities = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double().log_softmax(-1)
    losses_T = np.full(len(sample.input_ids), np.nan)
    for t in range(1, len(sample.input_ids)):
        if sample.loss_mask[t]:
            losses_T[t] = -log_probabilities[t - 1, ids[0, t]]
    return losses_T


class TestScoring:
    @pytest.mark.parametrize(("tuning", "batch_tokens"), [("lora", 1), ("lora", 4000), ("full", 700), ("full", 2048)])
    def test_losses_equal_those_of_two_models_and_one_sample_at_a_time(
        self, bench, samples, tmp_path, tuning, batch_tokens
    ):
        config = SHADConfig(min_pairs=4, tuning=tuning, batch_tokens=batch_tokens, learning_rate=1e-2)
        shad = SHAD(str(bench.model), config, max_length=1024)
        plan = shad.plan(samples)
        labels, excluded = shad.label(samples, tmp_path, quiet(), plan)
        assert not any(excluded)
        base = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32).eval()
        tuned = []
        for fold in range(2):
            directory = tmp_path / f"tuned-{fold}"
            if tuning == "lora":
                fresh = AutoModelForCausalLM.from_pretrained(bench.model, dtype=torch.float32)
                tuned.append(PeftModel.from_pretrained(fresh, directory).eval())
            else:
                tuned.append(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval())
        for i, (sample, label) in enumerate(zip(samples, labels, strict=True)):
            expected_base = naive_losses(base, sample)
            expected_tuned = naive_losses(tuned[plan.folds[i]], sample)
            np.testing.assert_allclose(label.base_loss_T, expected_base, atol=1e-4, rtol=0)
            np.testing.assert_allclose(label.tuned_loss_T, expected_tuned, atol=1e-4, rtol=0)
            # The tuning was strong enough for a mix-up of models to show.
            assert np.nanmax(np.abs(expected_tuned - naive_losses(tuned[1 - plan.folds[i]], sample))) > 1e-2

    def test_killed_scoring_reuses_the_shards_and_ends_the_same(self, bench, samples, tmp_path):
        shad = SHAD(str(bench.model), SHADConfig(min_pairs=4, batch_tokens=256), max_length=1024)
        first, _ = shad.label(samples, tmp_path, quiet())
        shards = sorted((tmp_path / "losses").iterdir())
        assert len(shards) > 2
        shards[1].unlink()
        untouched = {path: path.stat().st_mtime_ns for path in shards if path != shards[1]}
        second, _ = shad.label(samples, tmp_path, quiet())
        assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a.base_loss_T, b.base_loss_T, equal_nan=True)
            assert np.array_equal(a.tuned_loss_T, b.tuned_loss_T, equal_nan=True)


class TestCrossFit:
    @pytest.mark.parametrize("template", [None, STRIPS_THINKING], ids=["whole", "turn by turn"])
    @pytest.mark.parametrize("seed", range(5))
    def test_nobody_is_judged_by_a_model_that_saw_the_outputs_of_its_conversation(self, bench, template, seed):
        tokenizer = bench.tokenizer()
        tokenizer.chat_template = template or tokenizer.chat_template
        turns = [
            ("user", "Ask {}"),
            ("assistant", "<think>why {}</think>Yes {}"),
            ("user", "And {}?"),
            ("assistant", "No"),
        ]
        conversations = [
            Conversation([{"role": r, "content": c.replace("{}", str(i))} for r, c in turns], source=f"c{i}")
            for i in range(9)
        ]
        renderer = Renderer(tokenizer)
        samples = [sample for conversation in conversations for sample in renderer.render(conversation)]
        assert len(samples) == (18 if template else 9)
        plan = SHAD("unused", SHADConfig(min_pairs=200, seed=seed)).plan(samples)
        assert set(plan.folds) == {0, 1}
        for i, fold in enumerate(plan.folds):
            seen = {samples[ref.sample].source for pair in plan.pairs[fold] for ref in (pair.output, pair.context)}
            assert samples[i].source not in seen
        for pairs in plan.pairs:
            assert all(samples[p.context.sample].source != samples[p.output.sample].source for p in pairs)
        # With room for all of them every output is used, so each fold is tuned on the other half's whole.
        assert plan.tuned_on == {OutputRef(i, t) for i, s in enumerate(samples) for t in range(len(s.turns))}

    def test_one_long_conversation_gives_no_more_than_half_of_the_pairs(self, bench):
        def conversation(name: str, turns: int) -> Conversation:
            messages = [
                message
                for turn in range(turns)
                for message in (
                    {"role": "user", "content": f"{name} {turn}"},
                    {"role": "assistant", "content": f"Yes {name} {turn}"},
                )
            ]
            return Conversation(messages, source=name)

        conversations = [conversation("long", 60), *(conversation(f"short{i}", 2) for i in range(9))]
        samples = [s for c in conversations for s in Renderer(bench.tokenizer()).render(c)]
        plan = SHAD("unused", SHADConfig(min_pairs=200)).plan(samples)
        counts = [Counter(samples[p.output.sample].source for p in pairs) for pairs in plan.pairs]
        # Five conversations to each fold; every turn of the short ones is used, and as many of the long one.
        assert sorted([c["long"], c.total()] for c in counts) == [[0, 10], [8, 16]]

    def test_each_sample_is_scored_once(self, samples):
        plan = SHAD("unused", SHADConfig(min_pairs=4)).plan(samples)
        scored = [i for shard in plan.shards for batch in shard.batches for i in batch.samples]
        assert sorted(scored) == list(range(len(samples)))
        assert all(plan.folds[i] == b.fold for shard in plan.shards for b in shard.batches for i in b.samples)

    def test_three_conversations_are_too_few(self, samples):
        with pytest.raises(InputError, match="3 conversations are too few"):
            SHAD("unused").plan([replace(sample, source=f"c{i}") for i, sample in enumerate(samples[:3])])

    def test_without_it_outputs_that_were_tuned_on_stay_plain_and_out_of_the_checks(self, bench, samples, tmp_path):
        shad = SHAD(str(bench.model), SHADConfig(min_pairs=4, cross_fit=False), max_length=1024)
        plan = shad.plan(samples)
        assert len(plan.pairs) == 1
        labels, excluded = shad.label(samples, tmp_path, quiet(), plan)
        assert any(excluded)
        assert not all(excluded)
        for i, (sample, label) in enumerate(zip(samples, labels, strict=True)):
            used = [OutputRef(i, t) in plan.tuned_on for t in range(len(sample.turns))]
            assert excluded[i] == any(used)
            for turn, memorised in zip(sample.turns, used, strict=True):
                roles = set(label.roles_T[turn.start : turn.end].tolist())
                assert (roles == {Role.PLAIN}) == memorised
                assert np.isnan(label.tuned_loss_T[turn.start : turn.end]).all() == memorised
        rows = labelled_samples(samples, labels, excluded)
        kept = [row for row in rows if not row.excluded]
        assert check_format(rows) == check_format(kept)
        assert check_truth(rows) == check_truth(kept)
        assert check_truth([row for row in rows if row.excluded]) is None


class TestClassify:
    base = np.array([NAN, 1.0, 1.0, 1.0, NAN, 1.0], dtype=np.float32)
    tuned = np.array([NAN, 0.5, 1.0, 1.5, 1.0, 3.0], dtype=np.float32)
    mask = np.array([False, True, True, True, True, True])

    @pytest.mark.parametrize(
        ("threshold", "expected"), [(0.0, "BBRPR"), (0.5, "BBBPR"), (-0.1, "BRRPR"), (9.0, "BBBPB")]
    )
    def test_above_the_threshold_is_reasoning_and_unknown_is_plain(self, threshold, expected):
        names = {"B": Role.BOILERPLATE, "R": Role.REASONING, "P": Role.PLAIN}
        roles = classify(self.base, self.tuned, self.mask, threshold)
        assert roles.dtype == np.uint8
        assert roles.tolist() == [Role.CONTEXT, *(names[letter] for letter in expected)]

    def test_boilerplate_splits_at_the_quantile_of_all_samples_boilerplate(self):
        base = [np.array([0.0, 1.0, 2.0], dtype=np.float32), np.array([3.0, 4.0, 99.0], dtype=np.float32)]
        tuned = [base[0] - 1, base[1] + np.array([-1, -1, 1], dtype=np.float32)]  # the last one is reasoning
        losses = [(b, t, np.ones(3, dtype=bool)) for b, t in zip(base, tuned, strict=True)]
        split = [label.roles_T.tolist() for label in LossLabels(losses, 0.0, 0.5)]
        assert split == [[Role.FORMAT, Role.FORMAT, Role.TEMPLATE], [Role.TEMPLATE, Role.TEMPLATE, Role.REASONING]]
        assert all(role != Role.FORMAT for label in LossLabels(losses, 0.0, 0.0) for role in label.roles_T)
        whole = [[Role.BOILERPLATE] * 3, [Role.BOILERPLATE, Role.BOILERPLATE, Role.REASONING]]
        assert [label.roles_T.tolist() for label in LossLabels(losses, 0.0, None)] == whole

    @pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.77, 1.0])
    def test_a_streamed_quantile_is_numpys(self, quantile):
        rng = np.random.default_rng(0)
        pieces = [rng.exponential(scale, size).astype(np.float32) for scale, size in ((1, 501), (1e-4, 37), (9, 0))]
        pieces += [np.array([0.0, -0.0, 2.5, 2.5, 2.5], dtype=np.float32)]
        expected = np.quantile(np.concatenate(pieces).astype(np.float64), quantile)
        assert streamed_quantile(lambda: pieces, quantile) == pytest.approx(expected, rel=1e-12)
        assert streamed_quantile(lambda: [np.array([4.0], dtype=np.float32)], quantile) == 4.0
        assert streamed_quantile(lambda: [], quantile) is None

    def test_nothing_to_split(self):
        nothing = np.full(2, NAN)
        [label] = LossLabels([(nothing, nothing, np.array([False, True]))], 0.0, 0.5)
        assert label.roles_T.tolist() == [Role.CONTEXT, Role.PLAIN]

    @pytest.mark.parametrize(
        ("threshold", "quantile"), [(NAN, None), (float("inf"), 0.5), (0, -0.1), (0, 1.1), (0, NAN)]
    )
    def test_numbers_that_mean_nothing_are_refused(self, threshold, quantile):
        with pytest.raises(InputError, match=r"threshold is|format_quantile is"):
            check_classification(threshold, quantile)
        with pytest.raises(InputError, match=r"threshold is|format_quantile is"):
            SHADConfig(threshold=threshold, format_quantile=quantile)


def copying_task(count: int, seed: int, tokenizer: object | None = None) -> list[Conversation]:
    """Answers of fixed words around two that are copied from the question; the truth is known by construction."""
    rng = np.random.default_rng(seed)
    conversations = []
    for number in range(count):
        words = [f"{a}{b}" for a, b in rng.choice(list("abcdefghij"), size=(2, 2))]
        pieces = [("Let me see now: the value is", Role.TEMPLATE)]
        pieces += [(f" {words[0]}", Role.REASONING), (" and then", Role.TEMPLATE), (f" {words[1]}", Role.REASONING)]
        pieces += [(". That is all there is.", Role.TEMPLATE)]
        spans, text = [], ""
        for piece, role in pieces:
            spans.append(RoleSpan(len(text), len(text) + len(piece), role))
            text += piece
        messages = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": text}]
        conversations.append(Conversation(messages, source=f"copy{number}", role_spans=[[], spans]))
    return conversations


def test_shad_tells_copied_words_from_fixed_ones(tmp_path: Path):
    """The base is a random model: fixed words are learnt from shuffled pairs, copies can't be."""
    conversations = copying_task(200, seed=0)
    tokenizer = tiny_tokenizer([m["content"] for c in conversations for m in c.messages], vocab_size=320)
    assert len(tokenizer) > len(SPECIAL)
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_model(len(tokenizer), initializer_range=0.02).save_pretrained(tmp_path / "model")
    samples = [sample for c in conversations for sample in Renderer(tokenizer).render(c)]
    config = SHADConfig(min_pairs=100, tuning="full", learning_rate=3e-3, batch_size=10, micro_batch_size=10, epochs=4)
    labels, excluded = SHAD(str(tmp_path / "model"), config).label(samples, tmp_path / "work", quiet())
    truth = check_truth(labelled_samples(samples, labels, excluded), resamples=50)
    assert truth is not None
    assert truth.auroc["LD"].estimate > 0.9
    # What the base alone knows would not do: the gain is the tuning's.
    assert truth.auroc["LD"].estimate > truth.auroc["base loss"].estimate + 0.2
