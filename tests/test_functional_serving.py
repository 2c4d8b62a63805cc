"""A merged model with functional tokens on a real server: the ids go out and come back as single tokens."""

from pathlib import Path

import pytest
import torch
from inference_servers import vllm
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rolewise.core.errors import InputError
from rolewise.engines.base import Sampling
from rolewise.engines.server import ServerEngine
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.jobs import demo_model
from rolewise.training.functional_tokens import functional_token_ids, prepare_functional
from rolewise.training.models import lora_config, write_merged
from rolewise.training.trl_adapter import fit_trained_rows

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct with an adapter and rows of its own, merged; it closes a step where it ended its turn."""
    work = tmp_path_factory.mktemp("functional")
    try:
        smol = demo_model._convert_package_file(work / "model")
    except InputError as error:
        pytest.skip(f"no small real model: {error}")
    base, tokenizer, adapter = prepare_functional(
        AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32),
        AutoTokenizer.from_pretrained(smol),
        peft_config=lora_config(4),
    )
    torch.manual_seed(0)
    model = get_peft_model(base, adapter)
    fit_trained_rows(model)
    _, closing = functional_token_ids(tokenizer)["verify"]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.01)
            elif "trainable_tokens" in name:
                rows = next(iter(model.peft_config["default"].trainable_token_indices.values()))
                weights += 0.02 * torch.randn(weights.shape)
                weights[rows.index(closing)] = 1.5 * model.get_input_embeddings().weight[tokenizer.eos_token_id]
    model.save_pretrained(work / "adapter")
    write_merged(AutoModelForCausalLM.from_pretrained(smol), work / "adapter", work / "merged", tokenizer)
    return work / "merged"


def test_a_server_gives_functional_tokens_back_as_one_id_each(merged, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(merged)
    ids = functional_token_ids(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(merged).eval()
    opening, closing = ids["verify"]
    text = "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n<next_step>2+3 = 5</next_step><verify>"
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt[-1] == opening
    in_process = TransformersEngine(model, tokenizer)
    with vllm(merged, tmp_path / "log.txt") as url, ServerEngine([url], tokenizer) as served:
        greedy = Sampling(max_new_tokens=40, stop_token_ids=(closing,), logprobs=True)
        [[expected]], [[got]] = (engine.generate([prompt], greedy) for engine in (in_process, served))
        assert expected.ids[-1] == closing, tokenizer.decode(expected.ids)
        assert got.ids == expected.ids
        assert got.finish_reason == "stop"
        assert got.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
        allowed = [[one for one, _ in ids.values()]]
        [one], [other] = (engine.next_token_logprobs([prompt], allowed) for engine in (in_process, served))
        assert other == pytest.approx(one, abs=1e-3)
        sequence = [*prompt, *got.ids, ids["output"][0]]
        [scores], [own] = served.score([sequence]), in_process.score([sequence])
        assert scores == pytest.approx(own, abs=1e-3)
