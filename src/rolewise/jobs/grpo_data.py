"""Data of `rolewise grpo`: prompts rendered with the policy's chat template, and their references."""

from datasets import Dataset

from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.data.readers import describe_rejects
from rolewise.data.tool_prompts import ToolPrompts, read_tool_prompts
from rolewise.evaluation.prompting import Prompter
from rolewise.jobs.policy import PromptData, prompt_tokenizer
from rolewise.options.training import GRPOOptions
from rolewise.training.grpo_config import WeightedGRPOConfig


def call_format(training: WeightedGRPOConfig) -> str:
    """Return the call format of prompts, references and rewards: rlla if the trainer's settings leave it open."""
    return training.call_format or "rlla"


def load_prompts(options: GRPOOptions, training: WeightedGRPOConfig) -> PromptData:
    """Read and render the prompts; their columns are `prompt`, `reference` (see `read_reference`) and `source`.

    Raises:
        InputError: for unusable data, or if no prompt is short enough.
    """
    load_plugins(split_list(options.plugin or ""))
    tokenizer = prompt_tokenizer(options)
    tool_format = options.tool_format or ("rlla" if call_format(training) == "rlla" else None)
    prompter = Prompter(tokenizer, options.chat_template, tool_format)
    paths = [path for path in (options.data, options.eval_data) if path]
    read = [
        read_tool_prompts(
            path,
            call_format=call_format(training),
            format=options.format,
            limit=options.limit,
            skip_invalid=options.skip_invalid,
            answers=options.answers,
        )
        for path in paths
    ]
    notes: dict[str, None] = {}
    sets = [_rows(path, prompts, prompter, options, notes) for path, prompts in zip(paths, read, strict=True)]
    rejected = [entry for prompts in read for entry in prompts.rejected]
    notes |= dict.fromkeys([*(note for prompts in read for note in prompts.notes), *prompter.notes])
    notes |= dict.fromkeys(describe_rejects(rejected))
    contents = digest([[rows["prompt"][:], rows["reference"][:]] for rows in sets])
    return PromptData(
        tokenizer=tokenizer,
        train=sets[0],
        eval=sets[1] if len(sets) > 1 else None,
        stop_token_ids=prompter.stop_token_ids,
        digest=contents,
        notes=list(notes),
        rejected=rejected,
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
