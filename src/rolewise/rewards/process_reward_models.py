"""Process-reward models in this process: one pass reads the whole solution and gives a score at each step's end.

Shapes: B rows, T tokens, K positions, C classes, V vocabulary.
"""

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from transformers import AutoModel, AutoModelForTokenClassification

from rolewise.core.errors import InputError
from rolewise.data.chat_template import ChatTemplate
from rolewise.rewards.process_reward import ProcessRewardModel, Solution
from rolewise.rewards.process_reward_server import ServerReward
from rolewise.training.models import architecture_of, default_device, load_model, load_tokenizer

_DIGITS = 4
"""Number of digits that scores are rounded to: further ones depend on the rest of the batch."""


@dataclass(frozen=True, kw_only=True)
class StepFormat:
    """Input format of a process-reward model: the question, then each step with a marker after it.

    Attributes:
        marker: text after each step; the step's score is read at the marker's last token.
        between: text between a marker and the next step.
        chat: True if the question is the user's turn of the chat template and the steps are the answer; otherwise they
            follow each other as plain text.
        system: the system turn, with `chat`.
        lead: text between the question and the first step, without `chat`.
        by_parts: True if question, steps and markers are tokenized separately and joined; otherwise the text is
            tokenized as a whole.
    """

    marker: str
    between: str = ""
    chat: bool = False
    system: str | None = None
    lead: str = ""
    by_parts: bool = False


STEP_FORMATS = {
    "qwen": StepFormat(
        marker="<extra_0>", chat=True, system=r"Please reason step by step, and put your final answer within \boxed{}."
    ),
    "shepherd": StepFormat(marker=" ки", between="\n", lead=" "),
    "trl": StepFormat(marker="\n", by_parts=True),
}
"""Formats of Qwen2.5-Math-PRM, of Math-Shepherd (arXiv 2312.08935), and of the PRMTrainer in earlier versions of
TRL."""


class _ModelReward(ProcessRewardModel):
    """Base class of both kinds: the text, its batches, and the positions of the steps' ends."""

    def __init__(self, model: Any, tokenizer: Any, form: StepFormat, batch_tokens: int) -> None:
        super().__init__()
        if not tokenizer.is_fast:
            raise InputError("a process-reward model needs a fast tokenizer, which gives the position of each token")
        if not form.marker:
            raise InputError("the process-reward model's marker is empty; name the text that ends each step")
        if batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}; it must be at least 1")
        self._model, self._tokenizer, self._form = model.eval(), tokenizer, form
        self._batch_tokens = batch_tokens
        self._template = ChatTemplate(tokenizer) if form.chat else None
        config = model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    @abstractmethod
    def _scores(self, logits_KC: torch.Tensor) -> torch.Tensor:
        """Return the scores (K,) of the logits at K markers, float32."""

    def score_new(self, solutions: Sequence[Solution]) -> list[list[float] | None]:
        read = [self._read(solution) for solution in solutions]
        scores: list[list[float] | None] = [None] * len(solutions)
        fitting = [n for n, (ids, _) in enumerate(read) if self._context is None or len(ids) <= self._context]
        for members in self._of_like_length(fitting, [len(ids) for ids, _ in read]):
            for number, found in zip(members, self._score_batch([read[n] for n in members]), strict=True):
                scores[number] = found
        return scores

    def describe(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "model": self._model.config.name_or_path,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "form": asdict(self._form),
        }

    def _read(self, solution: Solution) -> tuple[list[int], list[int]]:
        """Return token ids, and the positions of the tokens at which the steps end."""
        parts = [self._lead(solution.question)]  # then each step with its marker
        for number, step in enumerate(solution.steps):
            parts.append((self._form.between if number else "") + step)
            parts.append(self._form.marker)
        return self._read_by_parts(parts) if self._form.by_parts else self._read_as_a_whole(parts)

    def _read_by_parts(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        bos = self._tokenizer.bos_token_id
        ids = [bos] if bos is not None and self._template is None else []
        places = []
        for number, part in enumerate(parts):
            ids += self._tokenizer(part, add_special_tokens=False)["input_ids"]
            if number and number % 2 == 0:
                places.append(len(ids) - 1)
        return ids, places

    def _read_as_a_whole(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        lengths = list(accumulate(len(part) for part in parts))
        special = self._template is None  # a template writes special tokens such as <s> itself
        encoded = self._tokenizer("".join(parts), add_special_tokens=special, return_offsets_mapping=True)
        ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
        places, token = [], 0
        for end in lengths[2::2]:
            # The last token of the marker: a character may take several. A token without text (a final </s>) is at (0,
            # 0).
            while token + 1 < len(ids) and offsets[token + 1][0] < end and offsets[token + 1][1]:
                token += 1
            places.append(token)
        return ids, places

    def _lead(self, question: str) -> str:
        """Return the text before the first step."""
        if self._template is None:
            return question + self._form.lead
        messages = [{"role": "user", "content": question}]
        if self._form.system:
            messages.insert(0, {"role": "system", "content": self._form.system})
        text = self._template.render(messages, generation_prompt=True)
        return text + self._template.generation_prompt if self._template.ignores_generation_prompt else text

    def _of_like_length(self, numbers: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Yield the numbers, longest first, as many at a time as one forward pass takes."""
        waiting = sorted(numbers, key=lambda number: -lengths[number])
        while waiting:
            count = max(1, self._batch_tokens // max(1, lengths[waiting[0]]))
            yield waiting[:count]
            waiting = waiting[count:]

    def _score_batch(self, read: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        width = max(len(ids) for ids, _ in read)
        # Padded on the right, where no token sees the padding.
        ids_BT = torch.tensor([ids + [self._pad_id] * (width - len(ids)) for ids, _ in read])
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in read])
        rows_K = torch.tensor([row for row, (_, places) in enumerate(read) for _ in places])
        places_K = torch.tensor([place for _, places in read for place in places])
        try:
            with torch.inference_mode():
                scores_K = self._scores(self._logits(ids_BT, mask_BT, rows_K, places_K).float())
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device's memory is too small for {self._batch_tokens} tokens of the process-reward model; "
                "give a smaller batch_tokens"
            ) from error
        if not scores_K.isfinite().all():
            raise InputError("the process-reward model returns NaN; load it in another precision, or check its weights")
        rounded = iter(round(score, _DIGITS) for score in scores_K.tolist())
        return [[next(rounded) for _ in places] for _, places in read]

    def _logits(
        self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, rows_K: torch.Tensor, places_K: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits (K, C) at K positions of a batch."""
        device = self._model.device
        kept, index_K = places_K.unique(return_inverse=True)
        # A head over the vocabulary is costly: if the model supports it, only these positions go through the head.
        can = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        only = {"logits_to_keep": kept.to(device)} if can else {}
        output = self._model(
            input_ids=ids_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False, return_dict=True, **only
        )
        # Models with custom code may name the logits differently, but return them first.
        logits_BTC = output.logits if "logits" in output else output[0]
        logits_KC: torch.Tensor = logits_BTC[rows_K.to(device), (index_K if can else places_K).to(device)]
        return logits_KC


class ClassifierReward(_ModelReward):
    """Reward of a token classifier, like Qwen2.5-Math-PRM or TRL's PRMTrainer models: probability of the good class.

    Args:
        model: model that returns logits over classes for each token (for one class, its sigmoid is the score).
        tokenizer: tokenizer of the model.
        form: input format of the model.
        good: number of the class that means "right".
        batch_tokens: maximum number of tokens in one forward pass, padding included.

    Raises:
        InputError: for a tokenizer without offsets or template, or a nonexistent class.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        form: StepFormat = STEP_FORMATS["qwen"],
        *,
        good: int = 1,
        batch_tokens: int = 8192,
    ) -> None:
        super().__init__(model, tokenizer, form, batch_tokens)
        classes = model.config.num_labels
        if classes > 1 and not 0 <= good < classes:
            raise InputError(f"the process-reward model has {classes} classes; class {good} is not among them")
        self._good = good

    def _scores(self, logits_KC: torch.Tensor) -> torch.Tensor:
        if logits_KC.shape[1] == 1:
            return logits_KC[:, 0].sigmoid()
        return logits_KC.softmax(dim=1)[:, self._good]


class TokenReward(_ModelReward):
    """Reward of a causal language model that judges each step by the token after the step's marker, like Math-Shepherd:
    the probability of `good` against `bad`.

    Args:
        model: a causal language model.
        tokenizer: tokenizer of the model.
        form: input format of the model.
        good: verdict on a good step, one token.
        bad: verdict on a bad step, one token.
        batch_tokens: maximum number of tokens in one forward pass, padding included.

    Raises:
        InputError: for a tokenizer without offsets or template, or a verdict that is not one token.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        form: StepFormat = STEP_FORMATS["shepherd"],
        *,
        good: str = "+",
        bad: str = "-",
        batch_tokens: int = 8192,
    ) -> None:
        super().__init__(model, tokenizer, form, batch_tokens)
        self._verdicts = [self._single_token(text) for text in (good, bad)]

    def _single_token(self, text: str) -> int:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise InputError(f"the process-reward model has {len(ids)} tokens for {text!r}; it must be one")
        return int(ids[0])

    def _scores(self, logits_KC: torch.Tensor) -> torch.Tensor:
        return logits_KC[:, self._verdicts].softmax(dim=1)[:, 0]


def load_process_reward(
    name: str,
    form: StepFormat | None = None,
    *,
    dtype: str = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> ProcessRewardModel:
    """Load the process-reward model of a model directory or hub id: `TokenReward` for a causal language model, else
    `ClassifierReward`.

    Args:
        name: the model.
        form: input format of the model; None chooses from `STEP_FORMATS` by the kind of model and its tokenizer.
        dtype: a name from `training.models.DTYPES`.
        device: device to run on; None for the accelerator if there is one.
        trust_remote_code: True to run code from the model's folder, which Qwen2.5-Math-PRM requires.

    Raises:
        InputError: if the model is missing, or the format does not fit it.
    """
    tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    architecture = architecture_of(name, trust_remote_code=trust_remote_code)
    loading: dict[str, Any] = {
        "dtype": dtype,
        "device": device or default_device(),
        "trust_remote_code": trust_remote_code,
    }
    try:
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return TokenReward(load_model(name, **loading), tokenizer, form or STEP_FORMATS["shepherd"])
        # Others have a custom class, in the model's folder.
        is_plain = architecture.endswith("ForTokenClassification")
        model = load_model(name, **loading, auto_class=AutoModelForTokenClassification if is_plain else AutoModel)
        known = STEP_FORMATS["qwen"].marker in tokenizer.get_vocab()
        return ClassifierReward(model, tokenizer, form or STEP_FORMATS["qwen" if known else "trl"])
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error


def open_process_reward(
    where: str,
    form: str | None = None,
    *,
    api_key: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> ProcessRewardModel:
    """Open the process-reward model that a command's option names: a server by its URL, or a model.

    Args:
        where: a URL that starts with http:// or https://, a model directory or a hub id.
        form: a name from `STEP_FORMATS`; None chooses by the model.
        api_key: the server's key itself.
        dtype: dtype of a model's weights, see `load_process_reward`.
        trust_remote_code: True to let the model's repository run its own code.

    Raises:
        InputError: for an unknown model or format, or an invalid URL.
    """
    if form is not None and form not in STEP_FORMATS:
        raise InputError(f"process-reward format {form!r} is not known; choose one of {', '.join(STEP_FORMATS)}")
    if "://" not in where:
        chosen = None if form is None else STEP_FORMATS[form]
        return load_process_reward(where, chosen, dtype=dtype, trust_remote_code=trust_remote_code)
    if form is not None:
        raise InputError(f"process-reward server {where}: a server has its own input format; remove the format option")
    return ServerReward(where, api_key=api_key)
