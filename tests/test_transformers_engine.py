"""The engine in this process against plain `generate`, one prompt at a time."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny import tiny_model
from transformers import (
    GenerationConfig,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rolewise.core.errors import InputError
from rolewise.engines import transformers_engine
from rolewise.engines.base import EngineError, Sampling
from rolewise.engines.decoding import GrowingSample, choose
from rolewise.engines.key_values import cache_traits
from rolewise.engines.stopping import StopTexts
from rolewise.engines.transformers_engine import TransformersEngine

KINDS = ["llama", "llama-tied", "lora", "gemma2", "cohere", "moe", "sliding", "hybrid", "mamba"]
LENGTHS = [5, 1, 23, 12, 2, 40, 12, 7, 31, 3, 18]


@pytest.fixture(scope="session")
def tokenizer(chatml_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return chatml_tokenizer


@pytest.fixture
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Any]:
    """A tiny model of a kind that never ends by itself, unless a test says with which token."""

    def make(kind: str) -> Any:
        model = _model(kind, len(tokenizer))
        model.generation_config.eos_token_id = None
        return model

    return make


def _model(kind: str, vocabulary: int) -> Any:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2, "vocab_size": vocabulary}
    if kind == "mamba":
        return MambaForCausalLM(MambaConfig(state_size=4, **small)).eval()
    if kind == "hybrid":
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
        linear = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
        config = Qwen3NextConfig(
            **small, **heads, **linear, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
            intermediate_size=48, num_experts=0,
        )  # fmt: skip
        return Qwen3NextForCausalLM(config).eval()
    if kind == "lora":
        model = get_peft_model(tiny_model(vocab_size=vocabulary), LoraConfig(r=4, target_modules="all-linear"))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first, which would make the adapter do nothing
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()
    if kind == "sliding":
        model = tiny_model("gemma2", vocab_size=vocabulary)
        model.config.sliding_window = 8
        for layer in model.model.layers:
            if getattr(layer.self_attn, "sliding_window", None):
                layer.self_attn.sliding_window = 8
        return model
    return tiny_model(kind, vocab_size=vocabulary)


def prompts_of(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def plain(
    model: Any, prompt: list[int], max_new_tokens: int, ends: Sequence[int] = ()
) -> tuple[list[int], list[float]]:
    """Greedy ids and their log-probabilities, by Transformers alone, on one prompt."""
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(ends) or None, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    ids_BT = torch.tensor([prompt])
    output = model.generate(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=config)
    ids = output.sequences[0, len(prompt) :].tolist()
    logprobs = [float(logits[0].log_softmax(-1)[token]) for logits, token in zip(output.logits, ids, strict=True)]
    return ids, logprobs


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_ids_and_log_probabilities_are_those_of_plain_generate(kind, make_model, tokenizer):
    model = make_model(kind)
    prompts = prompts_of(LENGTHS, len(tokenizer))
    ends = [plain(model, prompts[0], 4)[0][2], plain(model, prompts[3], 12)[0][9]]
    expected = [plain(model, prompt, 24, [*ends, tokenizer.eos_token_id]) for prompt in prompts]
    assert len({len(ids) for ids, _ in expected}) > 1, "some should end early"
    sampling = Sampling(max_new_tokens=24, stop_token_ids=tuple(ends), logprobs=True)
    for batch_size in (4, 32):
        got = TransformersEngine(model, tokenizer, batch_size=batch_size).generate(prompts, sampling)
        for (ids, logprobs), [sample] in zip(expected, got, strict=True):
            assert sample.ids == ids
            # In a recurrent state rounding adds up.
            assert sample.logprobs == pytest.approx(logprobs, abs=5e-5 if kind == "hybrid" else 1e-5)
            assert sample.finish_reason == ("stop" if ids[-1] in [*ends, tokenizer.eos_token_id] else "length")


@pytest.mark.parametrize("kind", ["llama", "lora", "sliding", "mamba"])
def test_samples_do_not_depend_on_their_company(kind, make_model, tokenizer):
    model = make_model(kind)
    prompts = prompts_of(LENGTHS, len(tokenizer))
    sampling = Sampling(max_new_tokens=16, temperature=1.2, top_p=0.9, top_k=50, n=3, seed=5, logprobs=True)
    together = TransformersEngine(model, tokenizer, batch_size=9).generate(prompts, sampling)
    for prompt, samples in zip(prompts, together, strict=True):
        [alone] = TransformersEngine(model, tokenizer).generate([prompt], sampling)
        assert [sample.ids for sample in samples] == [sample.ids for sample in alone]
        for one, other in zip(samples, alone, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        [[first]] = TransformersEngine(model, tokenizer).generate([prompt], replace(sampling, n=1))
        assert first.ids == samples[0].ids
        assert len({tuple(sample.ids) for sample in samples}) == 3
    other_seed = TransformersEngine(model, tokenizer).generate(prompts, replace(sampling, seed=6))
    assert [s[0].ids for s in other_seed] != [s[0].ids for s in together]


def test_requests_of_different_settings_share_a_batch(make_model, tokenizer):
    model = make_model("llama")
    prompts = prompts_of([9, 14, 6], len(tokenizer))
    settings = [Sampling(max_new_tokens=7), Sampling(max_new_tokens=20, temperature=0.7, top_p=0.8), Sampling(n=2)]
    engine = TransformersEngine(model, tokenizer)
    for prompt, sampling in zip(prompts, settings, strict=True):
        engine.submit(sampling.n * 100 + sampling.max_new_tokens, prompt, sampling)
    together = {}
    while done := engine.collect():
        together |= {completion.key: completion.samples for completion in done}
    for prompt, sampling in zip(prompts, settings, strict=True):
        [alone] = TransformersEngine(model, tokenizer).generate([prompt], sampling)
        assert [s.ids for s in together[sampling.n * 100 + sampling.max_new_tokens]] == [s.ids for s in alone]


@pytest.mark.parametrize(
    ("kind", "joins", "selects"),
    [
        ("llama", True, True),
        ("moe", True, True),
        ("sliding", False, True),
        ("hybrid", False, False),
        ("mamba", False, False),
    ],
)
def test_what_a_cache_allows(kind, joins, selects, make_model):
    traits = cache_traits(make_model(kind), 0)
    assert (traits.joins, traits.selects) == (joins, selects)


def test_a_prompt_is_read_once_for_all_its_samples(make_model, tokenizer, monkeypatch):
    model = make_model("llama")
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(model, "forward", _spy(model.forward, read))
    [prompt] = prompts_of([30], len(tokenizer))
    TransformersEngine(model, tokenizer).generate([prompt], Sampling(max_new_tokens=3, n=4, temperature=1.0))
    assert read == [(1, 1), (1, 30), (4, 1), (4, 1)]  # the first finds out what the cache allows


def test_samples_that_have_ended_leave_the_batch(make_model, tokenizer, monkeypatch):
    model = make_model("llama")
    prompts = prompts_of([20] * 4, len(tokenizer))
    engine = TransformersEngine(model, tokenizer)
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(model, "forward", _spy(model.forward, read))
    for number, prompt in enumerate(prompts):
        engine.submit(number, prompt, Sampling(max_new_tokens=2 + 3 * number))
    sizes = {}
    while done := engine.collect():
        sizes |= {completion.key: len(completion.samples[0].ids) for completion in done}
    assert sizes == {0: 2, 1: 5, 2: 8, 3: 11}
    steps = [rows for rows, tokens in read[1:] if tokens == 1]
    assert steps == [4] + [3] * 3 + [2] * 3 + [1] * 3


def _spy(forward: Callable[..., Any], read: list[tuple[int, int]]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        read.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    return wrapped


def test_waiting_requests_are_let_in_when_others_end(make_model, tokenizer):
    model = make_model("llama")
    engine = TransformersEngine(model, tokenizer, batch_size=2)
    prompts = prompts_of([30, 20, 10], len(tokenizer))
    for number, (prompt, length) in enumerate(zip(prompts, [40, 3, 3], strict=True)):
        engine.submit(number, prompt, Sampling(max_new_tokens=length))
    assert [c.key for c in engine.collect()] == [1]
    assert [c.key for c in engine.collect()] == [2]
    assert [c.key for c in engine.collect()] == [0]
    assert engine.collect() == []


def test_one_who_plays_many_turns_hands_in_the_next_while_others_go_on(make_model, tokenizer):
    """Every answer is asked about once more, as a runner of conversations does."""
    model = make_model("llama")
    prompts = prompts_of([8, 25, 14, 3, 19], len(tokenizer))
    engine = TransformersEngine(model, tokenizer, batch_size=3)
    lengths = [9, 4, 13, 6, 2]
    for number, prompt in enumerate(prompts):
        engine.submit((number, 0), prompt, Sampling(max_new_tokens=lengths[number]))
    second = {}
    while done := engine.collect():
        for completion in done:
            number, turn = completion.key
            if turn == 0:
                prompt = [*prompts[number], *completion.samples[0].ids, 7]
                engine.submit((number, 1), prompt, Sampling(max_new_tokens=lengths[number]))
            else:
                second[number] = completion.samples[0].ids
    for number, prompt in enumerate(prompts):
        first, _ = plain(model, prompt, lengths[number])
        assert second[number] == plain(model, [*prompt, *first, 7], lengths[number])[0]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_stop_texts_end_a_sample_at_the_token_that_completes_one(batch_size, make_model, tokenizer):
    model = make_model("llama")
    prompts = prompts_of(LENGTHS, len(tokenizer))
    free = [plain(model, prompt, 24)[0] for prompt in prompts]
    text = tokenizer.decode(free[2])
    stops = (text[5:9], text[20:23])
    got = TransformersEngine(model, tokenizer, batch_size=batch_size).generate(
        prompts, Sampling(max_new_tokens=24, stop=stops)
    )
    ended = 0
    for ids, [sample] in zip(free, got, strict=True):
        if tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(tokenizer.eos_token_id) + 1]
        decoded = [tokenizer.decode(ids[:end]) for end in range(len(ids) + 1)]
        end = next((i for i, part in enumerate(decoded) if any(stop in part for stop in stops)), None)
        ended += end is not None
        assert sample.ids == ids[:end]
        assert sample.finish_reason == ("stop" if end is not None or ids[-1] == tokenizer.eos_token_id else "length")
    assert ended


def test_the_models_own_settings_change_only_its_end_tokens(make_model, tokenizer):
    """Files of chat models bring a temperature and a repetition penalty, which `generate` would take up."""
    model = make_model("llama")
    prompts = prompts_of([12, 5], len(tokenizer))
    free = [plain(model, prompt, 12)[0] for prompt in prompts]
    model.generation_config.update(
        repetition_penalty=5.0, do_sample=True, temperature=0.1, top_k=3, suppress_tokens=free[0][:3],
        eos_token_id=free[0][6],
    )  # fmt: skip
    before = model.generation_config.to_dict()
    got = TransformersEngine(model, tokenizer).generate(prompts, Sampling(max_new_tokens=12))
    assert got[0][0].ids == free[0][: free[0].index(free[0][6]) + 1]
    assert got[0][0].finish_reason == "stop"
    assert model.generation_config.to_dict() == before


def test_a_full_context_ends_a_sample_and_refuses_a_prompt(make_model, tokenizer):
    model = make_model("llama")  # 256 positions
    prompts = prompts_of([250, 255, 256, 300], len(tokenizer), seed=2)
    engine = TransformersEngine(model, tokenizer)
    for number, prompt in enumerate([*prompts, []]):
        engine.submit(number, prompt, Sampling(max_new_tokens=20))
    done = {}
    while some := engine.collect():
        done |= {completion.key: completion for completion in some}
    assert [len(done[i].samples[0].ids) for i in (0, 1)] == [6, 1]
    assert done[0].samples[0].finish_reason == "length"
    assert done[2].error == "the prompt has 256 tokens, but the model's context holds 256"
    assert done[3].samples == []
    assert "at least one token" in done[4].error
    with pytest.raises(EngineError, match="prompt 0: the prompt has 300"):
        engine.generate([prompts[3]], Sampling())


@pytest.mark.parametrize("kind", ["llama", "lora", "gemma2", "sliding", "cohere", "hybrid", "mamba"])
def test_scores_are_log_probabilities_of_each_token(kind, make_model, tokenizer, monkeypatch):
    model = make_model(kind)
    monkeypatch.setattr(transformers_engine, "SCORED_TOKENS", 100)
    monkeypatch.setattr(transformers_engine, "SLICE_TOKENS", 7)
    sequences = [*prompts_of(LENGTHS, len(tokenizer)), []]
    engine = TransformersEngine(model, tokenizer)
    allowed = [[3, 9], [4], [5, 5, 0], *([[8, 2]] * (len(sequences) - 4))]
    scores = engine.score(sequences)
    following = engine.next_token_logprobs(sequences[:-1], allowed)
    assert [len(row) for row in scores] == [max(len(ids) - 1, 0) for ids in sequences]
    for ids, row, asked, told in zip(sequences[:-1], scores, allowed, following, strict=False):
        with torch.no_grad():
            logprobs_TV = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [float(logprobs_TV[i, token]) for i, token in enumerate(ids[1:])]
        assert row == pytest.approx(expected, abs=2e-5)
        assert told == pytest.approx(logprobs_TV[-1, asked].tolist(), abs=2e-5)


def test_scores_of_what_was_generated_are_its_log_probabilities(make_model, tokenizer):
    engine = TransformersEngine(make_model("moe"), tokenizer)
    prompts = prompts_of(LENGTHS, len(tokenizer))
    samples = engine.generate(prompts, Sampling(max_new_tokens=9, temperature=1.5, logprobs=True))
    scores = engine.score([[*prompt, *s.ids] for prompt, [s] in zip(prompts, samples, strict=True)])
    for [sample], row in zip(samples, scores, strict=True):
        assert row[-len(sample.ids) :] == pytest.approx(sample.logprobs, abs=2e-5)


def test_a_sequence_longer_than_the_context_is_not_scored(make_model, tokenizer):
    engine = TransformersEngine(make_model("llama"), tokenizer)
    with pytest.raises(EngineError, match="sequence 1 has 257 tokens, but the model's context holds 256"):
        engine.score(prompts_of([3, 257], len(tokenizer)))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.9)])
def test_draws_follow_the_distribution(top_k, top_p):
    """Against the shares worked out by hand: 20,000 draws, so a share is off by 0.015 once in ten thousand times."""
    logits = torch.tensor([2.0, 0.0, 1.0, 1.5, -1.0, 0.5])
    temperature = 1.3
    shares = (logits / temperature).softmax(-1).tolist()
    order = sorted(range(6), key=lambda i: -shares[i])
    if top_k:
        order = order[:top_k]
    total = sum(shares[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        if mass < top_p:
            kept.append(i)
            mass += shares[i] / total
    expected = [shares[i] / sum(shares[j] for j in kept) if i in kept else 0.0 for i in range(6)]
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=20000)
    samples = [GrowingSample([1], sampling, i, frozenset(), StopTexts(None, ()), 1) for i in range(20000)]
    drawn = torch.bincount(choose(logits.expand(20000, 6), samples), minlength=6) / 20000
    assert drawn.tolist() == pytest.approx(expected, abs=0.015)
    assert all(share == 0 for share, i in zip(drawn.tolist(), expected, strict=True) if i == 0)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
@pytest.mark.parametrize("tied", [False, True])
def test_a_draw_among_the_likeliest_is_the_draw_from_the_whole_vocabulary(tied, top_p):
    """Against Transformers' warpers over all logits, and the inverse of the whole cumulative distribution."""
    rows, vocabulary, top_k, temperature = 53, 127, 5, 0.8
    logits_RV = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3)) * 2
    if tied:
        logits_RV[7] = logits_RV[7].round()  # many tokens share the last place
        assert (logits_RV[7] >= logits_RV[7].topk(top_k).values[-1]).sum() > top_k
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)

    def samples():
        return [GrowingSample([row], sampling, 0, frozenset(), StopTexts(None, ()), 1) for row in range(rows)]

    warped_RV = logits_RV
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        warped_RV = warper(torch.zeros(rows, 1), warped_RV)
    cumulative_RV = warped_RV.double().softmax(-1).cumsum(-1)
    drawn_R = torch.tensor([sample.uniform() for sample in samples()])
    expected = [int((cumulative_RV[row] <= drawn_R[row]).sum()) for row in range(rows)]
    assert choose(logits_RV, samples()).tolist() == expected
    assert len(set(expected)) > 20


def test_different_prompts_draw_different_numbers():
    sampling = Sampling(temperature=1.0)
    prompts = [[i, 2, 3] for i in range(50)]
    numbers = {GrowingSample(p, sampling, 0, frozenset(), StopTexts(None, ()), 1).uniform() for p in prompts}
    assert len(numbers) == 50


def test_a_model_in_training_is_left_as_it_was(make_model, tokenizer):
    model = make_model("llama").train()
    engine = TransformersEngine(model, tokenizer)
    engine.generate([[5, 6, 7]], Sampling(max_new_tokens=2))
    assert model.training


def test_what_a_record_says(make_model, tokenizer):
    facts = TransformersEngine(make_model("lora"), tokenizer).describe()
    assert (facts["kind"], facts["dtype"], facts["device"], facts["adapter"]) == (
        "transformers",
        "float32",
        "cpu",
        "LORA",
    )
    assert json.loads(json.dumps(facts)) == facts


def test_options_that_can_not_be_used(make_model, tokenizer):
    model = make_model("llama")
    with pytest.raises(InputError, match="must be at least 1"):
        TransformersEngine(model, tokenizer, batch_size=0)
    prompted = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(InputError, match="PROMPT_TUNING is not supported"):
        TransformersEngine(prompted, tokenizer)


def tree_prompts(vocabulary: int) -> list[list[int]]:
    """Two questions behind one instruction, three openings of each, one that is a prompt as it stands, and a loner."""
    stem, one, two, loner = prompts_of([60, 30, 45, 25], vocabulary, seed=7)
    openings = prompts_of([1, 2, 9], vocabulary, seed=8)
    paths = [[*stem, *one], [*stem, *two]]
    return [*([*path, *opening] for path in paths for opening in openings), paths[0], loner]


def answers(engine: TransformersEngine, prompts: Sequence[list[int]], sampling: Sampling) -> list[Any]:
    return [[(s.ids, s.finish_reason) for s in samples] for samples in engine.generate(prompts, sampling)]


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "lora", "cohere", "moe"])
def test_known_prefixes_change_no_answer(kind, make_model, tokenizer):
    """Steps of a tree search: every answer is asked on with each opening, next to questions about the next token."""
    model = make_model(kind)
    engine, plain_engine = TransformersEngine(model, tokenizer), TransformersEngine(model, tokenizer, prefix_mib=0)
    prompts = tree_prompts(len(tokenizer))
    stop = tokenizer.decode(plain(model, prompts[0], 6)[0][4:6])
    sampling = Sampling(max_new_tokens=7, stop=(stop,), logprobs=True)
    allowed = [[5, 9, 200]] * len(prompts)
    for depth in range(3):
        expected, got = plain_engine.generate(prompts, sampling), engine.generate(prompts, sampling)
        for [one], [other] in zip(expected, got, strict=True):
            assert (other.ids, other.finish_reason) == (one.ids, one.finish_reason)
            assert other.logprobs == pytest.approx(one.logprobs, abs=2e-5)
        for one, other in zip(
            plain_engine.next_token_logprobs(prompts, allowed),
            engine.next_token_logprobs(prompts, allowed),
            strict=True,
        ):
            assert other == pytest.approx(one, abs=2e-5)
        prompts = [[*prompt, *s.ids, 11 + depth] for prompt, [s] in zip(prompts, got, strict=True)]
    assert plain_engine.usage.computed_tokens == plain_engine.usage.prompt_tokens == engine.usage.prompt_tokens
    assert engine.usage.computed_tokens < 0.25 * engine.usage.prompt_tokens
    assert engine.usage.generated_tokens == plain_engine.usage.generated_tokens > 0


def test_what_is_computed_is_what_nobody_has_read(make_model, tokenizer):
    engine = TransformersEngine(make_model("llama"), tokenizer)
    stem, one, other = prompts_of([80, 10, 12], len(tokenizer))
    [[first]] = engine.generate([[*stem, *one]], Sampling(max_new_tokens=5))
    assert vars(engine.usage) == {"prompt_tokens": 90, "computed_tokens": 90, "generated_tokens": 5}
    engine.generate([[*stem, *other]], Sampling(max_new_tokens=1, n=3, temperature=1.0))
    assert engine.usage.computed_tokens == 90 + 12, "the stem is known, and the prompt is read once for its samples"
    engine.generate([[*stem, *one, *first.ids, 3]], Sampling(max_new_tokens=1))
    assert engine.usage.computed_tokens == 102 + 2, "the last token was generated, but nothing was computed from it"
    engine.next_token_logprobs([[*stem, *one, *first.ids]], [[4]])
    assert engine.usage.computed_tokens == 104 + 1, "the last token is always read"


def test_siblings_read_what_they_share_once(make_model, tokenizer, monkeypatch):
    model = make_model("llama")
    prompts = tree_prompts(len(tokenizer))
    engine = TransformersEngine(model, tokenizer)
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(model, "forward", _spy(model.forward, read))
    engine.generate(prompts, Sampling(max_new_tokens=1))
    # The stem; what each question adds to it, but for the last token, which one of the prompts ends with; the loner;
    # what the openings add, in two passes of what is alike, with tokens in place of padding.
    assert read[1:] == [(1, 60), (1, 45), (1, 29), (1, 25), (5, 10), (2, 1)]
    assert engine.usage.computed_tokens == 60 + 45 + 29 + 25 + 5 * 10 + 2
    assert engine.usage.prompt_tokens == sum(map(len, prompts))


def test_more_prefixes_than_there_is_memory_for(make_model, tokenizer):
    """0.25 KiB for a token: 4096 tokens fit into a MiB."""
    model = make_model("llama")
    prompts = prompts_of([200] * 30, len(tokenizer))
    asked_again = [[*prompt, 5] for prompt in prompts]
    engine, plain_engine = (TransformersEngine(model, tokenizer, prefix_mib=mib) for mib in (1, 0))
    sampling = Sampling(max_new_tokens=3)
    assert answers(engine, prompts, sampling) == answers(plain_engine, prompts, sampling)
    assert answers(engine, asked_again, sampling) == answers(plain_engine, asked_again, sampling)
    saved = engine.usage.prompt_tokens - engine.usage.computed_tokens
    assert 0 < saved <= 4096


@pytest.mark.parametrize("kind", ["gemma2", "sliding", "hybrid", "mamba", "dynamic rope"])
def test_models_whose_keys_can_not_be_kept_read_from_the_start(kind, make_model, tokenizer):
    model = make_model("llama" if kind == "dynamic rope" else kind)
    if kind == "dynamic rope":
        model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    engine = TransformersEngine(model, tokenizer)
    [prompt] = prompts_of([90], len(tokenizer))
    for _ in range(2):
        engine.generate([prompt], Sampling(max_new_tokens=2))
        engine.next_token_logprobs([prompt], [[4]])
    assert engine.usage.computed_tokens == engine.usage.prompt_tokens == 360


def _optimizer_step(model: Any) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    optimizer.step()


def _reload(model: Any) -> None:
    model.load_state_dict({name: weight * 1.1 for name, weight in model.state_dict().items()})


def _write_behind_the_back(model: Any) -> None:
    for weight in model.parameters():
        weight.data.mul_(1.1)


def _merge(model: Any) -> None:
    model.merge_adapter()


def _switch(model: Any) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    model.set_adapter("other")


def _to_float32(model: Any) -> None:
    model.float()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("llama", _optimizer_step),
        ("bfloat16", _to_float32),
        ("llama", _reload),
        ("llama", _write_behind_the_back),
        ("lora", _optimizer_step),
        ("lora", _merge),
        ("lora", _switch),
    ],
)
def test_what_another_model_read_is_forgotten(kind, change, make_model, tokenizer):
    model = make_model("llama").to(torch.bfloat16) if kind == "bfloat16" else make_model(kind)
    engine = TransformersEngine(model, tokenizer)
    prompts, sampling = tree_prompts(len(tokenizer)), Sampling(max_new_tokens=6, logprobs=True)
    before = engine.generate(prompts, sampling)
    computed = engine.usage.computed_tokens
    with torch.enable_grad():
        change(model)
    if change is _write_behind_the_back:
        engine.forget()
    after = engine.generate(prompts, sampling)
    fresh = TransformersEngine(model, tokenizer, prefix_mib=0).generate(prompts, sampling)
    assert engine.usage.computed_tokens == 2 * computed
    for [one], [other], [old] in zip(fresh, after, before, strict=True):
        assert other.ids == one.ids
        assert other.logprobs == pytest.approx(one.logprobs, abs=2e-5)
        if change not in (_merge, _to_float32):
            assert other.logprobs != pytest.approx(old.logprobs, abs=1e-3)


def test_a_change_of_the_model_while_samples_are_under_way(make_model, tokenizer):
    """They end as they may, but nobody goes on from what the two models made together."""
    model = make_model("llama")
    engine = TransformersEngine(model, tokenizer)
    prompts = prompts_of([30, 40], len(tokenizer), seed=1)
    for prompt, length in zip(prompts, (2, 20), strict=True):
        engine.submit(length, prompt, Sampling(max_new_tokens=length))
    assert [completion.key for completion in engine.collect()] == [2]
    _reload(model)
    [late] = engine.collect()
    engine.usage.computed_tokens = 0
    follow_up = [*prompts[1], *late.samples[0].ids, 5]
    [[sample]] = engine.generate([follow_up], Sampling(max_new_tokens=8))
    assert engine.usage.computed_tokens == len(follow_up)
    assert sample.ids == plain(model, follow_up, 8)[0]


def test_known_prefixes_in_sixteen_bits(make_model, tokenizer):
    model = make_model("llama").to(torch.bfloat16)
    engine, plain_engine = TransformersEngine(model, tokenizer), TransformersEngine(model, tokenizer, prefix_mib=0)
    prompts = tree_prompts(len(tokenizer))
    allowed = [list(range(0, len(tokenizer), 7))] * len(prompts)
    engine.generate(prompts, Sampling(max_new_tokens=4))
    told, expected = (e.next_token_logprobs(prompts, allowed) for e in (engine, plain_engine))
    assert engine.usage.computed_tokens < 0.5 * engine.usage.prompt_tokens
    for one, other in zip(expected, told, strict=True):
        assert other == pytest.approx(one, abs=0.1)


def test_an_agents_next_turn_reads_only_what_is_new(make_model, tokenizer):
    """Whole conversations come in again, a reply and a tool's result longer each time."""
    model = make_model("llama")
    engine = TransformersEngine(model, tokenizer)
    conversations = prompts_of([70, 55, 90], len(tokenizer))
    results = prompts_of([6, 9, 4], len(tokenizer), seed=3)
    new = sum(map(len, conversations))
    for _ in range(4):
        replies = engine.generate(conversations, Sampling(max_new_tokens=5))
        for ids, [reply], result in zip(conversations, replies, results, strict=True):
            assert reply.ids == plain(model, ids, 5)[0]
            ids += [*reply.ids, *result]
    # A reply's last token is read with what follows, and a row reads as much as the longest beside it.
    assert new + 3 * (7 + 10 + 5) <= engine.usage.computed_tokens <= new + 3 * 3 * 10


def test_conversations_that_go_on_come_before_those_that_begin(make_model, tokenizer):
    """What is known of 20 conversations fits into a MiB, and 40 wait: four go on to their ends before others begin."""
    engine = TransformersEngine(make_model("llama"), tokenizer, batch_size=4, prefix_mib=1)
    conversations = prompts_of([200] * 40, len(tokenizer))
    for number, ids in enumerate(conversations):
        engine.submit((number, 0), ids, Sampling(max_new_tokens=3))
    while done := engine.collect():
        for completion in done:
            number, turn = completion.key
            ids = conversations[number]
            ids += [*completion.samples[0].ids, 5, 6]
            if turn < 3:
                engine.submit((number, turn + 1), ids, Sampling(max_new_tokens=3))
    assert engine.usage.prompt_tokens > 40 * 4 * 200
    assert engine.usage.computed_tokens == 40 * 200 + 40 * 3 * 3
