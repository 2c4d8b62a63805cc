"""The engines against each other on a real model: Transformers in process, llama.cpp's server, vLLM's server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inference_servers import llama_cpp, vllm
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rolewise.core.errors import InputError
from rolewise.engines.agreement import Agreement, greedy_agreement
from rolewise.engines.base import EngineError, Sampling
from rolewise.engines.server import ServerEngine
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.jobs import demo_model

pytestmark = pytest.mark.engine

QUESTIONS = [
    "What is the capital of France? Answer in one word.",
    "A baker sells 12 loaves in the morning and twice as many in the afternoon. How many loaves is that?",
    "Name three colours.",
    "Translate to German: the weather is nice today.",
    "Write one sentence about rain.",
    "Tom has 5 apples, eats 2 and buys 4 more. How many has he now? Explain.",
]
EMOJI = "Here are ten emojis, one of each: 😀 🦊 🐙 🦖 🧀"


@pytest.fixture(scope="module")
def gguf() -> Path:
    """SmolLM2-135M-Instruct in 4 bits, from the package that carries it."""
    try:
        return demo_model._package_file()
    except InputError as error:
        pytest.skip(f"no small real model: {error}")


@pytest.fixture(scope="module")
def smol(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a model directory in float32."""
    return demo_model._convert_package_file(tmp_path_factory.mktemp("smol") / "model")


@pytest.fixture(scope="module")
def in_process(smol: Path) -> TransformersEngine:
    model = AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32).eval()
    return TransformersEngine(model, AutoTokenizer.from_pretrained(smol))


@pytest.fixture(scope="module")
def prompts(in_process: TransformersEngine) -> list[list[int]]:
    texts = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n" for question in QUESTIONS]
    return [in_process.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.fixture(scope="module")
def llama(
    gguf: Path, in_process: TransformersEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerEngine]:
    pytest.importorskip("xllamacpp", reason="no llama.cpp; pip install xllamacpp")
    log = tmp_path_factory.mktemp("llama") / "log.txt"
    with llama_cpp(gguf, log) as url, ServerEngine([url], in_process.tokenizer) as engine:
        yield engine


@pytest.fixture(scope="module")
def served(
    smol: Path, in_process: TransformersEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerEngine]:
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with vllm(smol, log) as url, ServerEngine([url], in_process.tokenizer) as engine:
        yield engine


def told(agreements: list[Agreement]) -> str:
    lines = [
        f"{one.equal} of {one.length} tokens" + ("" if one.gap is None else f", then a gap of {one.gap:.4f} nats")
        for one in agreements
    ]
    return "\n".join(lines)


def test_llama_cpp_is_seen_for_what_it_can_do(llama: ServerEngine) -> None:
    can = llama.capabilities
    assert can.generated_ids == "logprobs content"
    assert (can.logprobs, can.n, can.seed, can.stop, can.top_k) == (True, True, True, True, True)
    assert (can.stop_token_ids, can.chosen_logprobs) == (False, False)
    assert llama.describe()["server"] == "llamacpp"
    assert llama.describe()["context"] == 1024
    with pytest.raises(EngineError, match="can't return log-probabilities of the prompt's tokens"):
        llama.score([[5, 6]])


def test_llama_cpp_says_the_same_up_to_its_rounding(llama, in_process, prompts, capsys) -> None:
    """It multiplies in 8 bits, which moves log-probabilities by some tenths."""
    agreements = greedy_agreement(in_process, llama, prompts, Sampling(max_new_tokens=24), gap=0.5)
    with capsys.disabled():
        print(f"\nin process and llama.cpp:\n{told(agreements)}")
    assert all(one.explained for one in agreements), told(agreements)
    assert sum(one.equal for one in agreements) > sum(one.length for one in agreements) / 2
    [[sample]] = llama.generate(prompts[:1], Sampling(max_new_tokens=12, logprobs=True))
    [scores] = in_process.score([[*prompts[0], *sample.ids]])
    assert sample.logprobs == pytest.approx(scores[-len(sample.ids) :], abs=0.5)
    [end] = in_process.tokenizer.convert_ids_to_tokens(sample.ids[-1:])
    assert (end, sample.finish_reason) == ("<|im_end|>", "stop")  # Transformers 5.17 reads another end from the file


def test_llama_cpp_characters_of_several_tokens_are_whole(llama, in_process) -> None:
    prompt = in_process.tokenizer(EMOJI, add_special_tokens=False)["input_ids"]
    [[sample]] = llama.generate([prompt], Sampling(max_new_tokens=24))
    text = in_process.tokenizer.decode(sample.ids)
    assert any(ord(character) > 0x1F000 for character in text)
    assert "\N{REPLACEMENT CHARACTER}" not in text.rstrip("\N{REPLACEMENT CHARACTER}")
    assert len(sample.ids) > len(text.split())


def test_llama_cpp_more_samples_than_it_has_slots(llama, prompts) -> None:
    [samples] = llama.generate(prompts[4:5], Sampling(max_new_tokens=6, temperature=1.0, n=6, seed=2))
    assert len({tuple(sample.ids) for sample in samples}) > 3


def test_llama_cpp_stops(llama, in_process, prompts) -> None:
    decode = in_process.tokenizer.decode
    [[free]] = llama.generate(prompts[2:3], Sampling(max_new_tokens=16))
    stop = decode(free.ids)[8:12]
    [[by_text]] = llama.generate(prompts[2:3], Sampling(max_new_tokens=16, stop=(stop,)))
    assert by_text.finish_reason == "stop"
    assert decode(by_text.ids).partition(stop)[0] == decode(free.ids).partition(stop)[0]
    end = free.ids[5]
    [[by_token]] = llama.generate(prompts[2:3], Sampling(max_new_tokens=16, stop_token_ids=(end,)))
    assert (by_token.ids, by_token.finish_reason) == (free.ids[: free.ids.index(end) + 1], "stop")


@pytest.mark.slow
def test_vllm_is_seen_for_what_it_can_do(served: ServerEngine) -> None:
    can = served.capabilities
    assert can.generated_ids == "token_ids"
    assert all((can.logprobs, can.n, can.seed, can.stop, can.stop_token_ids, can.top_k, can.plain_sampling))
    assert served.describe()["context"] == 2048


@pytest.mark.slow
def test_vllm_says_the_same_until_two_tokens_are_equally_likely(served, in_process, prompts, capsys) -> None:
    agreements = greedy_agreement(in_process, served, prompts, Sampling(max_new_tokens=48))
    with capsys.disabled():
        print(f"\nin process and vLLM:\n{told(agreements)}")
    assert all(one.explained for one in agreements), told(agreements)


@pytest.mark.slow
def test_vllm_log_probabilities(served, in_process, prompts) -> None:
    samples = served.generate(prompts, Sampling(max_new_tokens=12, temperature=1.0, seed=1, logprobs=True))
    sequences = [[*prompt, *sample.ids] for prompt, [sample] in zip(prompts, samples, strict=True)]
    expected = in_process.score(sequences)
    for sequence, [sample], scores, own in zip(sequences, samples, served.score(sequences), expected, strict=True):
        assert len(scores) == len(sequence) - 1
        assert scores == pytest.approx(own, abs=1e-3)
        assert sample.logprobs == pytest.approx(own[-len(sample.ids) :], abs=1e-3)
    allowed = [[504, 7042, 9]] * len(prompts)
    for one, other in zip(
        served.next_token_logprobs(prompts, allowed), in_process.next_token_logprobs(prompts, allowed), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.slow
def test_vllm_ends_samples_where_the_engine_in_this_process_does(served, in_process, prompts) -> None:
    [[free]] = in_process.generate(prompts[1:2], Sampling(max_new_tokens=24))
    stop = in_process.tokenizer.decode(free.ids)[11:14]
    for sampling in (
        Sampling(max_new_tokens=24, stop=(stop,)),
        Sampling(max_new_tokens=24, stop_token_ids=(free.ids[7],)),
        Sampling(max_new_tokens=24, n=2, stop=("nowhere",)),
        Sampling(max_new_tokens=60),
    ):
        expected, got = (engine.generate(prompts[:2], sampling) for engine in (in_process, served))
        assert got == expected


@pytest.mark.slow
def test_vllm_loads_an_adapter(smol, in_process, prompts, tmp_path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32),
        LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    ).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would make the adapter do nothing
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(tmp_path / "tuned")
    tuned = TransformersEngine(model, in_process.tokenizer)
    sampling = Sampling(max_new_tokens=24)
    options = ("--enable-lora", "--max-lora-rank", "8")
    with (
        vllm(smol, tmp_path / "log.txt", *options, VLLM_ALLOW_RUNTIME_LORA_UPDATING="1") as url,
        ServerEngine([url], in_process.tokenizer) as engine,
    ):
        base = engine.model
        engine.load_adapter(tmp_path / "tuned")
        assert engine.model == "tuned"
        agreements = greedy_agreement(tuned, engine, prompts, sampling)
        assert all(one.explained for one in agreements), told(agreements)
        assert tuned.generate(prompts, sampling) != in_process.generate(prompts, sampling)
        for name, reference in ((base, in_process), ("tuned", tuned)):
            with ServerEngine([url], in_process.tokenizer, model=name) as chosen:
                assert all(one.explained for one in greedy_agreement(reference, chosen, prompts[:2], sampling))
