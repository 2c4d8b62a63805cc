"""Functional tokens in tokenizer and model: each a special token with one id and initial embeddings.

Shapes: N tokens of a phrase, D hidden size.
"""

import copy
from pathlib import Path

import torch
from peft import PeftConfig
from torch import nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from rolewise.core.behaviour import RFTT, BehaviourSet
from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json, read_text

NUDGE = 0.05
"""Offset of a row that would equal another token's, in standard deviations of the words' entries."""


def add_functional_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, behaviours: BehaviourSet = RFTT
) -> list[int]:
    """Add the functional tokens to a model and its tokenizer, both changed in place.

    The rows of a new token, in the input and the output embeddings, start from the mean of the rows of its
    description's tokens; those of a closing token from "end of" and the description. Spare rows of a padded vocabulary
    are used first, and no row is ever removed. Tokens that the tokenizer already has keep their rows. Nothing is drawn
    at random, so the same model and tokenizer get the same ids and rows again.

    Args:
        model: a whole model, not yet wrapped by PEFT.
        tokenizer: the tokenizer loaded with the model.
        behaviours: the behaviours to add tokens for.

    Returns:
        The ids in the order of `behaviours.tokens`.

    Raises:
        InputError: as `add_to_tokenizer`.
    """
    new = set(add_to_tokenizer(tokenizer, behaviours))
    ids = [token_id for pair in functional_token_ids(tokenizer, behaviours).values() for token_id in pair]
    rows = _rows(model)
    make_rows(model, max(ids) + 1)
    phrases = [phrase for b in behaviours for phrase in (b.description, f"end of {b.description}")]
    for token, token_id, phrase in zip(behaviours.tokens, ids, phrases, strict=True):
        if token in new or token_id >= rows:
            words = tokenizer(phrase, add_special_tokens=False)["input_ids"]
            if not words:
                raise InputError(f"{token}: the behaviour's description is empty; the embeddings start from its words")
            _start_from(model, token_id, words, others=[other for other in ids if other != token_id])
    return ids


def add_to_tokenizer(tokenizer: PreTrainedTokenizerBase, behaviours: BehaviourSet = RFTT) -> list[str]:
    """Add the functional tokens to a tokenizer only, in place, as `add_functional_tokens` does.

    Returns:
        The tokens that it did not have; the others are used as they are.

    Raises:
        InputError: for a slow tokenizer, or one with such a token as an ordinary word in its vocabulary: ordinary text
            with that word would turn into a functional token, and its row already has a meaning.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"{type(tokenizer).__name__} can't keep functional tokens in one piece; use a model with a fast tokenizer "
            "(tokenizer.json)"
        )
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    vocabulary = tokenizer.get_vocab()
    new = [token for token in behaviours.tokens if token not in added]
    for token in new:
        if token in vocabulary:
            raise InputError(
                f"{token} is an ordinary word of the tokenizer (id {vocabulary[token]}), so it can't be a functional "
                "token; give the behaviour another name"
            )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in new], special_tokens=True)
    return new


def functional_token_ids(
    tokenizer: PreTrainedTokenizerBase, behaviours: BehaviourSet = RFTT
) -> dict[str, tuple[int, int]]:
    """Return the ids of each behaviour's opening and closing token, by its name.

    Raises:
        InputError: if one is not always a single token of this tokenizer.
    """
    id_of = {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    for token in behaviours.tokens:
        cut = tokenizer(token, add_special_tokens=False)["input_ids"]
        if cut != [id_of.get(token)]:
            raise InputError(
                f"the tokenizer has no functional token {token} (it splits it into {len(cut)} pieces); use a model "
                "that was warmed up with these behaviours (rolewise warmup)"
            )
    return {behaviour.name: (id_of[behaviour.opening], id_of[behaviour.closing]) for behaviour in behaviours}


def prepare_functional(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    behaviours: BehaviourSet = RFTT,
    peft_config: PeftConfig | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PeftConfig | None]:
    """Prepare model, tokenizer and adapter for tuning with functional tokens.

    Pass the result to a trainer (`WeightedSFTTrainer(model, processing_class=tokenizer, peft_config=peft_config)`).
    Without an adapter all weights are tuned. With one, tuning changes the adapter and the functional tokens' rows of
    the input and output embeddings, tied or not; every other row stays as it is, bit for bit. Merging the adapter
    (`training.models.write_merged`) writes these rows into the model.

    To load such an adapter again, make room in its base first (`make_room`); the trained rows are in the adapter.

    Args:
        model: as for `add_functional_tokens`; changed in place.
        tokenizer: as for `add_functional_tokens`; changed in place. Render data with it afterward, or with one that
            `add_to_tokenizer` changed: both have the same ids.
        behaviours: the behaviours to add tokens for.
        peft_config: config of an adapter such as LoRA; not modified. None for full tuning.

    Returns:
        The given model and tokenizer, and the adapter's config with the rows to train.

    Raises:
        InputError: as `add_functional_tokens`, and for an adapter or a model without support for training single rows.
    """
    ids = add_functional_tokens(model, tokenizer, behaviours)
    if peft_config is None:
        return model, tokenizer, None
    if getattr(peft_config, "trainable_token_indices", ()) is not None:
        raise InputError(
            "this adapter can't train the functional tokens' rows; use LoRA without trainable_token_indices of its "
            "own, or full tuning (--no-lora)"
        )
    heads = [model.get_input_embeddings()]
    if not _tied(model):
        heads.append(model.get_output_embeddings())
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        # PEFT's layer for single rows ignores the bias of a linear layer.
        raise InputError("this model's LM head has a bias, which an adapter for single rows would lose; use --no-lora")
    peft_config = copy.copy(peft_config)
    peft_config.trainable_token_indices = {_name_of(model, head): list(ids) for head in heads}
    return model, tokenizer, peft_config


def make_room(model: PreTrainedModel, adapter: str | Path) -> None:
    """Add rows to an adapter's base for the functional tokens that were trained with the adapter.

    The adapter provides the rows' content. Other adapters change nothing.

    Args:
        model: the base, changed in place.
        adapter: the adapter's directory.
    """
    config = parse_json(read_text(Path(adapter) / "adapter_config.json"))
    trained = config.get("trainable_token_indices")
    if isinstance(trained, dict):
        make_rows(model, 1 + max(token_id for ids in trained.values() for token_id in ids))


def make_rows(model: PreTrainedModel, count: int) -> None:
    """Extend both embeddings to at least `count` rows; they are never shortened."""
    if _rows(model) < count:
        # Rows without a token have no meaning yet, so their distribution is not worth computing.
        model.resize_token_embeddings(count, mean_resizing=False)


def _embeddings(model: PreTrainedModel) -> list[nn.Module]:
    """Return the input and the output embeddings."""
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def _rows(model: PreTrainedModel) -> int:
    return min(len(layer.weight) for layer in _embeddings(model))


def _tied(model: PreTrainedModel) -> bool:
    first, last = _embeddings(model)
    return first.weight is last.weight


def _name_of(model: PreTrainedModel, layer: nn.Module) -> str:
    return next(str(name) for name, module in model.named_modules() if module is layer)


def _start_from(model: PreTrainedModel, token_id: int, words_N: list[int], others: list[int]) -> None:
    """Set a token's rows, and the head's bias if it has one, to the mean over the words.

    If that equals another functional token's row bit for bit (the same words in another order, or a vocabulary without
    any of them), the row is moved a little; otherwise the two tokens would start identical.
    """
    layers = _embeddings(model)[: 1 if _tied(model) else 2]
    for layer in layers:
        row_D = layer.weight.detach()[words_N].float().mean(dim=0)
        if (layer.weight.detach()[others] == row_D.to(layer.weight.dtype)).all(dim=1).any():
            draw = torch.Generator().manual_seed(token_id)
            step = layer.weight.detach()[words_N].float().std().item() * NUDGE
            row_D += step * torch.randn(row_D.shape, generator=draw).to(row_D.device)
        with torch.no_grad():
            layer.weight[token_id] = row_D.to(layer.weight.dtype)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        with torch.no_grad():
            bias[token_id] = bias[words_N].float().mean().to(bias.dtype)
