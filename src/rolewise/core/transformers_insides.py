"""Every use of Transformers' internals, and of names that differ by version, in one place (Transformers ≥ 5.17).

`tests/test_transformers_insides.py` fails when one of them changes. Relied on:
- a model's cache of keys and values is an argument of `generate` and a field of its output, `past_key_values` at first
  and `cache` since 5.24, where the first name warns;
- `DynamicCache.layers`; `DynamicLayer` and `DynamicSlidingWindowLayer` with `keys` and `values` (B, heads, T, size),
  which may be set; pairs of such tensors make a `DynamicCache`, a configuration one with a model's kinds of layers, and
  without either it gets a `DynamicLayer` for each layer that asks;
- `TrainingArguments.gradient_checkpointing` and `gradient_checkpointing_kwargs` are named `activation_checkpointing` …
  since 5.24, where the first names warn; so are a model's `gradient_checkpointing_enable` and similar methods;
- `render_jinja_template`, beneath `apply_chat_template`, also gives the spans of text that `{% generation %}`
  markers enclose;
- `integration_utils.is_NAME_available` reports whether the package that `report_to` names is installed;
- `config._attn_implementation`; `config._commit_hash` of models from the hub.

Nothing heavy is imported before it is needed: commands without a model render templates too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache as cached
from typing import TYPE_CHECKING, Any

from rolewise.core.options import split_list
from rolewise.core.typed_values import TRUTH

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

CHECKPOINTING_NAMES = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
"""Settings of a trainer that have two names; every supported version knows the first."""


@cached
def cache_name() -> str:
    """Return the installed Transformers' name for a model's cache of keys and values."""
    from transformers.generation import GenerateDecoderOnlyOutput

    names = {field.name for field in fields(GenerateDecoderOnlyOutput)}
    return "cache" if "cache" in names else "past_key_values"


def cache_argument(cache: Any) -> dict[str, Any]:
    """Return the argument that makes `generate` continue from this cache; no argument if the cache is None."""
    return {} if cache is None else {cache_name(): cache}


def cache_of(output: Any) -> Any:
    """Return the cache in the output of `generate`, or None."""
    return getattr(output, cache_name(), None)


def cache_selects(cache: object) -> bool:
    """Return True if rows of a cache can be dropped and repeated: every layer has keys and values, by position or
    window."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    kinds = _layer_kinds(cache)
    return bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def cache_joins(cache: object) -> bool:
    """Return True if every layer of a cache has the keys and values of every position."""
    from transformers.cache_utils import DynamicLayer

    return _layer_kinds(cache) == {DynamicLayer}


def joining_cache(model: Any) -> "DynamicCache | None":
    """Return an empty cache that will have the keys and values of every position, or None if the model has layers with
    a state instead (linear attention, Mamba), which such a cache does not hold."""
    from transformers import DynamicCache

    # Layers with a window get keys and values of every position from a cache that does not know the configuration.
    return DynamicCache() if cache_selects(DynamicCache(config=model.config)) else None


def _layer_kinds(cache: object) -> set[type]:
    from transformers import DynamicCache

    return {type(layer) for layer in cache.layers} if isinstance(cache, DynamicCache) else set()


def cache_tensors(cache: "DynamicCache") -> Iterator["torch.Tensor"]:
    """Yield keys and values (B, heads, T, size) of the first layer, the second, and so on."""
    for layer in cache.layers:
        yield layer.keys
        yield layer.values


def set_cache_tensors(cache: "DynamicCache", tensors: Iterable["torch.Tensor"]) -> None:
    """Replace keys and values, in the order of `cache_tensors`, layer by layer, so that the old ones can be freed."""
    rest = iter(tensors)
    for layer in cache.layers:
        layer.keys, layer.values = next(rest), next(rest)


def cache_from(tensors: Sequence["torch.Tensor"]) -> "DynamicCache":
    """Return a cache with these keys and values, given in the order of `cache_tensors`."""
    from transformers import DynamicCache

    return DynamicCache(list(zip(tensors[::2], tensors[1::2], strict=True)))


def checkpointing(is_on: bool) -> dict[str, bool]:
    """Return the trainer setting that turns recomputation of activations, instead of keeping them, on or off."""
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    return {next(new if new in known else old for old, new in CHECKPOINTING_NAMES.items()): is_on}


def settle_fields(training: Any) -> None:
    """Bring a trainer's settings, before they are checked, into the form that every version reads.

    Settings with an old and a new name mean the same under both, and TRL's default, which uses the old name, causes no
    warning. `report_to` may name several reporters (`a,b`), and `fsdp` may be a truth value written as text.
    """
    import torch

    # TRL defaults to bf16 unless fp16 is on; without an accelerator that only loses precision.
    if training.bf16 is None and not torch.accelerator.is_available():
        training.bf16 = False
    if isinstance(training.report_to, str) and "," in training.report_to:
        training.report_to = split_list(training.report_to)
    if isinstance(training.fsdp, str):
        training.fsdp = TRUTH.get(training.fsdp.lower(), training.fsdp)
    for old, new in CHECKPOINTING_NAMES.items():
        if hasattr(training, new) and getattr(training, new) is None:
            setattr(training, new, getattr(training, old))


def is_checkpointing(training: Any) -> bool:
    """Return True if a trainer's settings ask for recomputation of activations."""
    (name,) = checkpointing(True)
    return bool(getattr(training, name))


def start_checkpointing(model: Any) -> None:
    """Make a model, or PEFT's wrapper of one, recompute activations instead of keeping them."""
    name = "activation_checkpointing_enable"
    (getattr(model, name) if hasattr(model, name) else model.gradient_checkpointing_enable)()


def render_template(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, template: str, **variables: Any
) -> tuple[str, list[tuple[int, int]]]:
    """Return a conversation as the template renders it, and the spans between its `{% generation %}` markers.

    The spans are present if `return_assistant_tokens_mask` is among the variables. Exceptions of the template pass
    through.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, spans = render_jinja_template(conversations=[messages], tools=tools, chat_template=template, **variables)
    return texts[0], spans[0] if spans else []


def lacks_reporter(name: str) -> bool:
    """Return True if `report_to` can't be this name because its package is not installed; False for unknown names."""
    from transformers.integrations import integration_utils

    installed = getattr(integration_utils, f"is_{name}_available", None)
    return installed is not None and not installed()


def attention_of(model: Any) -> str:
    """Return the implementation of a model's attention, e.g. `sdpa`."""
    return str(model.config._attn_implementation)


def hub_commit(config: Any) -> str | None:
    """Return the commit of the hub repository that a model's config came from; None for local models."""
    commit: str | None = getattr(config, "_commit_hash", None)
    return commit
