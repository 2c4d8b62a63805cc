"""Every use of the internals of TRL's `GRPOTrainer`, in one place (TRL ≥ 1.16, < 1.17).

`tests/test_trl_grpo_adapter.py` fails when one of them changes. Relied on:
- `_generate_and_score_completions(inputs)` samples and scores a generation batch and returns a dictionary of tensors,
  including `completion_ids`, `completion_mask` and, if an environment adds text in between, `tool_mask`. Further
  entries with B rows survive the shuffling and splitting into micro-batches;
- `_compute_loss(model, inputs)` takes `advantages` of shape (B,) or (B, T), and adds KL where `beta` is not 0; with it
  a generation batch has `ref_per_token_logps`, and `old_per_token_logps` where several steps are taken from it;
- `_get_per_token_logps_and_entropies(model, ids, mask, logits_to_keep, batch_size, compute_entropy)` gives
  log-probabilities and entropies of the completion's tokens, and `_compute_loss` calls it once;
- `_tokenize_prompts(prompts)` returns ids, images and other fields; `_generate(prompts)` a tuple, prompt ids first;
- `reward_funcs`, called with `prompts`, `completions`, `completion_ids` and the columns by name, which may log numbers
  with `log_metric`; those for which `is_async_callable` is true are awaited; reward models read TRL's own text;
  `_tokenizer`, `eos_token_ids` and `tools`;
- `_get_train_sampler(dataset)` makes a `RepeatSampler`, which draws each epoch's order from `generator`;
- `_step` counts the micro-batches of this process, and a rollout serves `steps_per_generation * num_iterations`;
- `_logs["prompt"]` holds the latest prompts, which `log` writes as a table, empty ones too, if `log_completions`;
- `_metrics[mode][name]`, lists that `log` averages; `rollout_func`, called as `rollout_func(prompts, trainer)`.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler, is_async_callable

from rolewise.core.rollouts import optimizer_steps_per_rollout, rollout_at
from rolewise.data.tool_calls import opened_thought
from rolewise.training.rollout_roles import LONGEST_OPENING
from rolewise.training.trl_adapter import fit_trained_rows

RolloutFunc = Callable[[list[Any], Any], dict[str, Any]]

EPOCH_ROUNDING = 1e-6
"""The trainer counts epochs in fractions; a whole number may be slightly too low."""


class GRPOSeams(GRPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer with named hooks for subclasses; without a subclass it trains like its parent.

    Reward models and reward functions read TRL's own text. A function with a true attribute `reads_sampled_text`, such
    as Rolewise's own, gets the text of the sampled ids instead: with special tokens, without the token that ended it,
    and with the tag of a thought that the prompt opened.

    Attributes:
        rendered_prompts: True if text prompts are a chat template's whole output, so that the tokenizer adds no special
            tokens.
        kl_in_loss: True if β · KL is a term of the loss; otherwise the reference's log-probabilities come with the
            rollout for the subclass to use.
        rollout_rows: rows of the data set behind the current generation batch, one for each response.
    """

    rendered_prompts = False
    kl_in_loss = True
    rollout_rows: list[dict[str, Any]]
    _latest_scores: tuple[torch.Tensor, torch.Tensor | None, Any]
    _prompt_ids: list[list[int]]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        fit_trained_rows(self.model)
        functions: list[Any] = self.reward_funcs  # type: ignore[has-type]  # TRL is untyped
        self.reward_funcs = [self._reads_sampled_text(function) for function in functions]

    def rollout_scored(self, rollout: dict[str, Any]) -> dict[str, Any]:
        """Hook after a generation batch has been sampled and scored; return the rollout to train on."""
        return rollout

    def loss_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Hook before the loss of a micro-batch; return the inputs for the loss."""
        return inputs

    def loss_computed(self, inputs: dict[str, Any], logps_BT: torch.Tensor, entropies_BT: torch.Tensor) -> None:
        """Hook after the loss of a micro-batch, with its detached log-probabilities and entropies (B, T)."""

    def score(self, rollout: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities and entropies (nats) of a rollout's tokens under the current policy; float32
        (B, T)."""
        ids_BT = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
        attention_BT = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
        mode = "train" if self.model.training else "eval"
        batch_size = getattr(self.args, f"per_device_{mode}_batch_size")
        with torch.no_grad():
            logps_BT, entropies_BT, _ = self._get_per_token_logps_and_entropies(
                self.model,
                ids_BT,
                attention_BT,
                rollout["completion_ids"].size(1),
                batch_size=batch_size,
                compute_entropy=True,
            )
        return logps_BT.float(), entropies_BT.float()

    def is_between_rollouts(self) -> bool:
        """Return True if the next micro-batch begins a rollout, so that a kill now would lose no rollout's samples."""
        return bool(self._step % (self.args.steps_per_generation * self.num_iterations) == 0)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does, but keep the table of the last responses unchanged if training was already finished."""
        log_completions: bool = self.log_completions  # type: ignore[has-type]  # TRL is untyped
        self.log_completions = log_completions and bool(self._logs["prompt"])
        try:
            super().log(logs, start_time)
        finally:
            self.log_completions = log_completions

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rollout_rows = inputs
        return self.rollout_scored(super()._generate_and_score_completions(inputs))

    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        self._prompt_ids = generated[0]
        return generated

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        self._latest_scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return self._latest_scores

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        beta: float = self.beta  # type: ignore[has-type]  # TRL is untyped
        if not self.kl_in_loss:
            self.beta = 0.0
        try:
            loss: torch.Tensor = super()._compute_loss(model, self.loss_inputs(inputs))
        finally:
            self.beta = beta
        logps_BT, entropies_BT, _ = self._latest_scores
        del self._latest_scores  # holds the graph of the whole forward pass
        assert entropies_BT is not None  # the loss always asks for them
        self.loss_computed(inputs, logps_BT.detach(), entropies_BT.detach())
        return loss

    def _reads_sampled_text(self, function: Any) -> Any:
        """Wrap a reward function that requests the sampled text so that it gets it; return all others unchanged."""
        if not getattr(function, "reads_sampled_text", False):
            return function

        def asked(*, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> Any:
            texts = self._as_sampled(prompts, completions, completion_ids)
            return function(prompts=prompts, completions=texts, completion_ids=completion_ids, **columns)

        async def asked_async(*, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> Any:
            return await asked(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)

        return asked_async if is_async_callable(function) else asked

    def _as_sampled(self, prompts: Any, completions: Any, ids: list[list[int]]) -> Any:
        """Return completions with their special tokens, which mark the call in llama3 and mistral.

        TRL leaves these out of its texts. The token that ended a completion is left out here too, and a thought that
        the prompt opened is opened in the completion. Messages that TRL's parser split stay as they are.
        """
        if self.tools:
            return completions
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        own = [row[:-1] if row and row[-1] in ends else row for row in ids]
        texts = self._tokenizer.batch_decode(own, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if isinstance(prompts[0], str):
            return [opened_thought(prompt) + text for prompt, text in zip(prompts, texts, strict=True)]
        # Messages do not show what the template wrote behind them.
        ends_of_prompts = [self._tokenizer.decode(row[-LONGEST_OPENING:]) for row in self._prompt_ids]
        return [
            [{**completion[0], "content": opened_thought(prompt) + text}] if _is_plain(completion) else completion
            for completion, prompt, text in zip(completions, ends_of_prompts, texts, strict=True)
        ]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        if not isinstance(sampler, RepeatSampler) or not sampler.shuffle:
            return sampler
        return _SamplerOfTheEpoch(sampler, lambda: int((self.state.epoch or 0) + EPOCH_ROUNDING))

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if self.rendered_prompts and isinstance(prompts[0], str):
            return self.processing_class(text=prompts, add_special_tokens=False)["input_ids"], None, {}
        return super()._tokenize_prompts(prompts)


class _SamplerOfTheEpoch(Sampler):  # type: ignore[misc]  # torch is not followed
    """TRL's sampler with the order of this epoch, as in a run without interruption.

    TRL's own sampler restarts with the first epoch's order when a run is resumed.
    """

    def __init__(self, sampler: Any, epoch: Callable[[], int]) -> None:
        self._sampler = sampler
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator.manual_seed(self._sampler.seed)
        for _ in range(self._epoch()):
            torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)


def _is_plain(completion: list[dict[str, Any]]) -> bool:
    return len(completion) == 1 and completion[0].keys() == {"role", "content"}


def loss_mask(rollout: dict[str, Any]) -> torch.Tensor:
    """Return the mask of completion tokens with loss, bool (B, T): the model's own, without padding."""
    mask_BT: torch.Tensor = rollout["completion_mask"]
    if "tool_mask" in rollout:
        mask_BT = mask_BT * rollout["tool_mask"]
    return mask_BT.bool()


def clipped_tokens(
    trainer: GRPOTrainer, inputs: dict[str, Any], advantages_BT: torch.Tensor, logps_BT: torch.Tensor
) -> torch.Tensor:
    """Return the tokens at which the loss clips the ratio, bool (B, T); none for losses without clipping."""
    log_ratio_BT = logps_BT - inputs.get("old_per_token_logps", logps_BT)
    if trainer.importance_sampling_level == "sequence":
        mask_BT = loss_mask(inputs)
        log_ratio_BT = ((log_ratio_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1))[:, None].expand_as(logps_BT)
    ratio_BT = log_ratio_BT.exp()
    if trainer.loss_type == "cispo":
        return (ratio_BT > trainer.epsilon_high) & (advantages_BT > 0)
    if trainer.loss_type in ("sapo", "vespo"):
        return torch.zeros_like(ratio_BT, dtype=torch.bool)
    too_low = (ratio_BT < 1 - trainer.epsilon_low) & (advantages_BT < 0)
    return too_low | ((ratio_BT > 1 + trainer.epsilon_high) & (advantages_BT > 0))


def record_metrics(trainer: GRPOTrainer, mode: str, numbers: dict[str, float]) -> None:
    """Put numbers into the next log line of `mode` (train or eval)."""
    for name, value in numbers.items():
        trainer._metrics[mode][name].append(value)


def rollout_number(trainer: GRPOTrainer) -> int:
    """Return the number of earlier rollouts, counted by optimizer steps so that a resumed run continues the count.

    Several generation batches within one optimizer step come from the same policy and have the same number.
    """
    return rollout_at(int(trainer.state.global_step), _steps_per_rollout(trainer))


def total_rollouts(trainer: GRPOTrainer) -> int:
    """Return the number of rollouts in the whole run; at least 1."""
    return rollout_at(max(1, int(trainer.state.max_steps)) - 1, _steps_per_rollout(trainer)) + 1


def _steps_per_rollout(trainer: GRPOTrainer) -> Fraction:
    micro_batches = int(trainer.args.steps_per_generation * trainer.num_iterations)
    return optimizer_steps_per_rollout(micro_batches, int(trainer.args.gradient_accumulation_steps))


def with_empty_completions(rollout_func: RolloutFunc, eos_token_id: int) -> RolloutFunc:
    """Wrap a rollout function so that empty completions, on which TRL fails, become one end token without loss."""

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        output = dict(rollout_func(prompts, trainer))
        empty = [not ids for ids in output["completion_ids"]]
        if not any(empty):
            return output
        masks = output.get("env_mask") or [[1] * len(ids) for ids in output["completion_ids"]]
        output["env_mask"] = [[0] if none else list(mask) for none, mask in zip(empty, masks, strict=True)]
        output["completion_ids"] = [ids or [eos_token_id] for ids in output["completion_ids"]]
        if output["logprobs"] is not None:
            output["logprobs"] = [logprobs or [0.0] for logprobs in output["logprobs"]]
        return output

    return rollout


def text_tokenizer(trainer: GRPOTrainer) -> Any:
    """Return the tokenizer of the trainer's processing class."""
    return trainer._tokenizer
