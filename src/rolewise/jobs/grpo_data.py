"""Data of `rolewise grpo`: prompts rendered with the policy's chat template, and their references."""

from collections.abc import Iterable
from dataclasses import dataclass

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.data.readers import Rejected, describe_rejects
from rolewise.data.tool_prompts import ToolPrompts, read_tool_prompts
from rolewise.evaluation.prompting import Prompter
from rolewise.options.training import GRPOOptions
from rolewise.training.grpo_config import WeightedGRPOConfig
from rolewise.training.models import load_tokenizer


@dataclass(frozen=True)
class PromptData:
    """Prompts for training and for evaluation.

    Attributes:
        tokenizer: the model's tokenizer.
        train: columns `prompt` (the template's whole output), `reference` (see `read_reference`) and `source`.
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


def call_format(training: WeightedGRPOConfig) -> str:
    """Return the call format of prompts, references and rewards: rlla if the trainer's settings leave it open."""
    return training.call_format or "rlla"


def load_prompts(options: GRPOOptions, training: WeightedGRPOConfig) -> PromptData:
    """Read and render the prompts.

    Raises:
        InputError: for unusable data, or if no prompt is short enough.
    """
    load_plugins(split_list(options.plugin or ""))
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tool_format = options.tool_format or ("rlla" if call_format(training) == "rlla" else None)
    prompter = Prompter(tokenizer, options.chat_template, tool_format)
    read = [_read(path, options, call_format(training)) for path in (options.data, options.eval_data) if path]
    notes: dict[str, None] = {}
    sets = [_rows(path, prompts, prompter, options, notes) for path, prompts in zip(_paths(options), read, strict=True)]
    rejected = [entry for prompts in read for entry in prompts.rejected]
    notes |= dict.fromkeys([*(note for prompts in read for note in prompts.notes), *prompter.notes])
    notes |= dict.fromkeys(describe_rejects(rejected))
    contents = digest([[rows["prompt"][:], rows["reference"][:]] for rows in sets])
    held_out = sets[1] if len(sets) > 1 else None
    return PromptData(tokenizer, sets[0], held_out, prompter.stop_token_ids, contents, list(notes), rejected)


def _paths(options: GRPOOptions) -> Iterable[str]:
    return [path for path in (options.data, options.eval_data) if path]


def _read(path: str, options: GRPOOptions, calls: str) -> ToolPrompts:
    return read_tool_prompts(
        path,
        call_format=calls,
        format=options.format,
        limit=options.limit,
        skip_invalid=options.skip_invalid,
        answers=options.answers,
    )


def _rows(path: str, prompts: ToolPrompts, prompter: Prompter, options: GRPOOptions, notes: dict[str, None]) -> Dataset:
    columns: dict[str, list[str]] = {"prompt": [], "reference": [], "source": []}
    longest, too_long = 0, 0
    for prompt in prompts.prompts:
        try:
            text = prompter.prompt_text(prompt.messages, prompt.tools)
        except InputError as error:
            raise InputError(f"{prompt.source}: {error}") from error
        length = len(prompter.ids(text))
        if length > options.max_prompt_length:
            too_long += 1
            longest = max(longest, length)
            continue
        columns["prompt"].append(text)
        columns["reference"].append(prompt.reference)
        columns["source"].append(prompt.source)
    if too_long:
        notes[
            f"{path}: {too_long} of {len(prompts.prompts)} prompts are longer than max_prompt_length "
            f"{options.max_prompt_length} tokens and skipped; the longest has {longest}."
        ] = None
    if not columns["prompt"]:
        raise InputError(
            f"{path}: every prompt is longer than max_prompt_length {options.max_prompt_length} tokens; raise it"
        )
    return Dataset.from_dict(columns)
