"""Code shared by the jobs in which the model in training samples its responses: `rolewise grpo` and `reinforce`."""

import math
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig

from rolewise.core.errors import InputError
from rolewise.data.chat_template import template_text
from rolewise.data.readers import Rejected
from rolewise.jobs.trainer_settings import check_evaluation, check_trainer
from rolewise.options import groups
from rolewise.training.models import load_tokenizer, load_trainable

TRAINERS_CHOICES = {
    "loss_type": ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "scale_rewards": ("group", "batch", "none"),
    "vllm_mode": ("colocate", "server"),
}
"""Choices of TRL options that TRL checks only after sampling the first responses, or never."""


@dataclass(frozen=True, kw_only=True)
class PromptData:
    """Prompts for training and for evaluation.

    Attributes:
        tokenizer: the model's tokenizer.
        train: a column `prompt` (the template's whole output), and those of the command.
        eval: the same, or None.
        stop_token_ids: tokens that end a turn in this template.
        digest: digest of train and eval.
        notes: notes for the user.
        rejected: skipped records.
    """

    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    eval: Dataset | None
    stop_token_ids: tuple[int, ...]
    digest: str
    notes: list[str]
    rejected: list[Rejected]


def prompt_tokenizer(options: groups.Training) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer, with a padding token.

    Raises:
        InputError: if there is none.
    """
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_grpo_trainer(training: GRPOConfig, eval_data: str | None) -> None:
    """Check the fields of TRL's `GRPOConfig`, and that evaluation data fits the evaluation strategy.

    Raises:
        InputError: naming the option.
    """
    check_trainer(training)
    check_evaluation(training, eval_data is not None, "eval_data")
    if training.max_completion_length is None or training.max_completion_length < 1:
        raise InputError(f"max_completion_length is {training.max_completion_length}; it must be at least 1")
    for name, choices in TRAINERS_CHOICES.items():
        if getattr(training, name) not in choices:
            raise InputError(f"{name} {getattr(training, name)!r} is not known; choose one of {', '.join(choices)}")
    if training.num_iterations < 1:
        raise InputError(f"num_iterations is {training.num_iterations}; it must be at least 1")
    if not 0 <= training.beta < math.inf:
        raise InputError(f"beta is {training.beta}; the KL term's weight is a finite number, 0 or more")
    if training.temperature <= 0:
        raise InputError(f"temperature is {training.temperature}; it must be above 0, or all responses are the same")


def check_fills_a_rollout(source: str, prompts: int, training: GRPOConfig) -> None:
    """Check that the data fills at least one rollout.

    Raises:
        InputError: naming the data.
    """
    per_rollout = training.generation_batch_size // training.num_generations
    if prompts < per_rollout:
        raise InputError(
            f"{source}: {prompts} prompts, but a rollout takes {per_rollout}; give more data, or lower "
            "steps_per_generation or per_device_train_batch_size"
        )


def load_policy(
    options: Any, tokenizer: PreTrainedTokenizerBase, stop_token_ids: tuple[int, ...], *, in_4bit: bool = False
) -> Any:
    """Load the model to train. Its generation also stops at the template's end-of-turn tokens.

    A user's chat template is set on the tokenizer, which is saved with the model.
    """
    model = load_trainable(
        options.model, dtype=options.dtype, in_4bit=in_4bit, trust_remote_code=options.trust_remote_code
    )
    own = model.generation_config.eos_token_id
    ends = [*stop_token_ids, *(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    model.generation_config.eos_token_id = list(dict.fromkeys(end for end in ends if end is not None))
    if options.chat_template is not None:
        tokenizer.chat_template = template_text(tokenizer, options.chat_template)
    return model


def prompts_of(data: Any, count: int) -> list[tuple[str, list[int]]]:
    """Return the first evaluation or else training prompts as (text, ids), for the answers before and after."""
    texts = (data.eval if data.eval is not None else data.train)["prompt"][:count]
    return [(text, data.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
