"""Data of `rolewise reinforce`: questions rendered with the policy's chat template, and their answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from rolewise.core.behaviour import BehaviourSet, behaviours_of
from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.data.readers import Rejected, describe_rejects
from rolewise.evaluation.prompting import Prompter
from rolewise.jobs.policy import PromptData, prompt_tokenizer
from rolewise.jobs.questions import read_questions
from rolewise.options.training import ReinforceOptions
from rolewise.training.functional_tokens import functional_token_ids


@dataclass(frozen=True, kw_only=True)
class QuestionData(PromptData):
    """Questions for training and for evaluation, with the columns `id`, `prompt`, `question` and `reference`; no two
    rows have the same prompt.

    Attributes:
        behaviours: behaviours that the policy may have tokens for.
        functional: opening and closing token of each behaviour, by name; empty for a model without them.
    """

    behaviours: BehaviourSet
    functional: Mapping[str, tuple[int, int]]


def load_questions(options: ReinforceOptions) -> QuestionData:
    """Read and render the questions.

    Raises:
        InputError: for unusable data, a model without functional tokens if trees are to be searched, or if no question
            is left.
    """
    load_plugins(split_list(options.plugin or ""))
    behaviours = behaviours_of(options.model, options.behaviours)
    tokenizer = prompt_tokenizer(options)
    notes: list[str] = []
    functional = _functional(options, tokenizer, behaviours, notes)
    prompter = Prompter(tokenizer, options.chat_template)
    rejected: list[Rejected] = []
    sets = [
        _rows(path, prompter, options, notes, rejected)
        for path in (options.data, options.eval_data)
        if path is not None
    ]
    notes += [*prompter.notes, *describe_rejects(rejected)]
    contents = digest([[rows[name][:] for name in ("prompt", "reference")] for rows in sets])
    return QuestionData(
        tokenizer=tokenizer,
        behaviours=behaviours,
        functional=functional,
        train=sets[0],
        eval=sets[1] if len(sets) > 1 else None,
        stop_token_ids=prompter.stop_token_ids,
        digest=contents,
        notes=notes,
        rejected=rejected,
    )


def _functional(
    options: ReinforceOptions, tokenizer: PreTrainedTokenizerBase, behaviours: BehaviourSet, notes: list[str]
) -> dict[str, tuple[int, int]]:
    try:
        return functional_token_ids(tokenizer, behaviours)
    except InputError as error:
        if options.rollouts_from == "tree":
            raise InputError(f"{options.model}: {error}, or use --rollouts-from samples") from error
        notes.append(f"{options.model} has no functional tokens; each of its answers counts as one step.")
        return {}


def _rows(
    path: str, prompter: Prompter, options: ReinforceOptions, notes: list[str], rejected: list[Rejected]
) -> Dataset:
    """Return the questions of a source, each once; counts of skipped ones go to `notes`."""
    columns: dict[str, list[str | None]] = {"id": [], "prompt": [], "question": [], "reference": []}
    needs_answer = options.value == "math" and options.process_reward is None
    seen: set[str] = set()
    twice = without_answer = too_long = 0
    found = read_questions(path, format=options.format, skip_invalid=options.skip_invalid, limit=options.limit)
    rejected += found.rejected
    for question in found.questions:
        try:
            prompt = prompter.prompt_text([{"role": "user", "content": question.text}])
        except InputError as error:
            if not options.skip_invalid:
                raise InputError(f"{path}: question {question.id}: {error}") from error
            rejected.append(Rejected(question.id, str(error)))
            continue
        if prompt in seen:
            twice += 1
        elif needs_answer and question.reference is None:
            without_answer += 1
        elif len(prompter.ids(prompt)) > options.max_prompt_length:
            too_long += 1
        else:
            seen.add(prompt)
            row = (question.id, prompt, question.text, question.reference)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    left_out = {
        "are duplicates and are used once": twice,
        "have no answer to compare with and are skipped": without_answer,
        f"are longer than max_prompt_length {options.max_prompt_length} tokens and are skipped": too_long,
    }
    told = [f"{count} questions {what}" for what, count in left_out.items() if count]
    if not columns["id"]:
        raise InputError(
            f"{path}: contains no question to train on ({'; '.join(told) or 'it is empty'}); give other data"
        )
    notes += [f"{path}: {text}." for text in told]
    return Dataset.from_dict(columns)
