"""What Rolewise relies on in Transformers' insides; a failure here says what moved."""

import inspect
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model
from transformers import DynamicCache, PreTrainedConfig, TrainingArguments
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations import integration_utils
from transformers.utils.chat_template_utils import render_jinja_template
from trl import SFTConfig

from rolewise.core import transformers_insides as insides
from rolewise.engines.key_values import generate, padded
from rolewise.jobs.trainer_settings import written_settings
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.reinforce import ReinforceConfig
from rolewise.training.sft import WeightedSFTConfig

QUIET = {"use_cpu": True, "bf16": False, "report_to": "none"}
MARKED = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}"


def grown(prompt: list[int]) -> DynamicCache:
    model = tiny_model()
    return insides.cache_of(generate(model, padded([prompt], 0, model.device), 0, 1))


def test_generation_gives_a_cache_and_takes_it_back_without_a_warning(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(logging.Logger, "warning_once", lambda _, text, *args: logged.append(text))
    model = tiny_model()
    rows = padded([[5, 6, 7, 8]], 0, model.device)
    first = generate(model, rows, 0, 1)
    rows.cache = insides.cache_of(first)
    assert isinstance(rows.cache, DynamicCache), f"generate's output no longer has {insides.cache_name()}"
    rows.append(first.sequences[:, -1])
    alone = generate(model, padded([rows.ids_BT[0].tolist()], 0, model.device), 0, 1, logits=True)
    beside = generate(model, rows, 0, 1, logits=True)
    assert torch.allclose(alone.logits[0], beside.logits[0], atol=1e-5), "generate no longer goes on from its cache"
    said = [*(str(w.message) for w in recwarn), *logged]
    assert [text for text in said if "past_key_values" in text] == [], "the cache has another name again"


def test_a_cache_has_layers_of_keys_and_values_that_may_be_set() -> None:
    cache = grown([5, 6, 7, 8])
    tensors = list(insides.cache_tensors(cache))
    assert [tuple(t.shape) for t in tensors] == [(1, 2, 4, 8)] * 4, "keys and values are not (B, heads, T, size)"
    insides.set_cache_tensors(cache, (t[..., 1:, :] for t in insides.cache_tensors(cache)))
    assert cache.get_seq_length() == 3, "the length of a cache no longer follows its keys"
    assert torch.equal(next(insides.cache_tensors(cache)), tensors[0][..., 1:, :]), "keys can't be set"
    cache.batch_select_indices(torch.tensor([0, 0]))
    assert next(insides.cache_tensors(cache)).shape[0] == 2, "batch_select_indices no longer repeats rows"


def test_a_cache_is_made_of_pairs_of_tensors() -> None:
    before = list(insides.cache_tensors(grown([5, 6, 7, 8])))
    cache = insides.cache_from(before)
    assert insides.cache_joins(cache), "DynamicCache no longer makes DynamicLayers of tensors"
    assert all(torch.equal(a, b) for a, b in zip(before, insides.cache_tensors(cache), strict=True))


def test_kinds_of_layers_say_what_a_cache_allows() -> None:
    cache = grown([5, 6])
    assert {type(layer) for layer in cache.layers} == {DynamicLayer}, "a plain model's layers are of another kind"
    assert insides.cache_selects(cache)
    assert insides.cache_joins(cache)
    cache.layers[0] = DynamicSlidingWindowLayer(sliding_window=4)
    assert insides.cache_selects(cache)
    assert not insides.cache_joins(cache)
    assert not insides.cache_selects(None)
    assert not insides.cache_joins(DynamicCache())


def test_templates_are_rendered_with_the_spans_of_their_markers() -> None:
    parameters = inspect.signature(render_jinja_template).parameters
    assert {"conversations", "tools", "chat_template", "return_assistant_tokens_mask"} <= set(parameters), (
        "render_jinja_template has other parameters"
    )
    messages = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    text, spans = insides.render_template(messages, None, MARKED, return_assistant_tokens_mask=True)
    assert (text, [text[start:stop] for start, stop in spans]) == ("ab|c|", ["ab", "c"]), "the markers' spans moved"
    assert insides.render_template(messages, None, MARKED)[0] == text


def test_reporters_that_are_not_installed_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(getattr(integration_utils, "is_wandb_available", None)), "is_wandb_available moved"
    for there in (False, True):
        monkeypatch.setattr(integration_utils, "is_wandb_available", lambda there=there: there)
        assert insides.lacks_reporter("wandb") is not there
    assert not insides.lacks_reporter("no_such_reporter")


def test_a_config_names_its_attention_and_its_commit() -> None:
    assert insides.attention_of(tiny_model()) == "sdpa", "config._attn_implementation moved"
    assert insides.attention_of(tiny_model("gemma2")) == "eager", "config._attn_implementation moved"
    assert insides.hub_commit(tiny_model().config) is None
    assert insides.hub_commit(SimpleNamespace(_commit_hash="abc")) == "abc"
    assert "_commit_hash" in inspect.getsource(inspect.getmodule(PreTrainedConfig)), (
        "a config from the hub no longer keeps its _commit_hash"
    )


@pytest.mark.parametrize("config", [WeightedSFTConfig, WeightedGRPOConfig, ReinforceConfig])
@pytest.mark.parametrize("given", [None, False, True])
def test_checkpointing_by_its_old_name_warns_nobody(config: type, given: bool | None, tmp_path: Path) -> None:
    asked = {} if given is None else {"gradient_checkpointing": given}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        training = config(output_dir=str(tmp_path), **QUIET, **asked)
    assert insides.is_checkpointing(training) is (given is not False)  # TRL's default is on
    assert training.gradient_checkpointing is (given is not False)
    written = written_settings(training)
    assert {name: value for name, value in written.items() if "checkpointing" in name} == {
        "gradient_checkpointing": given is not False
    }


@pytest.mark.parametrize("is_on", [False, True])
@pytest.mark.parametrize("config", [TrainingArguments, SFTConfig])
def test_checkpointing_by_the_present_name_warns_nobody(config: type, is_on: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        training = config(output_dir=str(tmp_path), **QUIET, **insides.checkpointing(is_on))
    assert insides.is_checkpointing(training) is is_on


def test_a_model_is_told_to_checkpoint_without_a_warning() -> None:
    model = tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        insides.start_checkpointing(model)
    assert all(layer.gradient_checkpointing for layer in model.model.layers), "activations are still kept"
