"""Data of a fine-tuning: labelled data sets or plain conversations, as rows for the trainer."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from rolewise.core.behaviour import BehaviourSet, find_behaviours
from rolewise.core.errors import InputError
from rolewise.core.files import digest
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.core.role import BOILERPLATE_ROLES, Role
from rolewise.data.cut_answers import cut_note
from rolewise.data.labelled import LabelledData, is_labelled, load_labelled
from rolewise.data.prepare import prepare
from rolewise.data.readers import Rejected, describe_rejects
from rolewise.data.render import Renderer, tokenizer_fingerprint
from rolewise.data.sources import parse_sources
from rolewise.labelling.registry import LABELLERS
from rolewise.labelling.verdict import judge
from rolewise.options.training import SFTOptions
from rolewise.roles.functional import functional_roles
from rolewise.training.functional_tokens import add_to_tokenizer, functional_token_ids
from rolewise.training.labelled_rows import cut_rows, whole_rows
from rolewise.training.models import load_tokenizer
from rolewise.training.settings import MAX_LENGTH
from rolewise.training.sft import WeightedSFTConfig
from rolewise.weighting import WEIGHTINGS, Weighting, make_weighting

FOR_CONVERSATIONS = ("format", "chat_template", "tool_format")
"""Options for reading conversations; labelled data has already been read."""


@dataclass(frozen=True)
class TrainingData:
    """Rows for training and for evaluation.

    Attributes:
        tokenizer: the model's tokenizer, with the chat template of the rows, and with the functional tokens of the
            behaviours that the options name.
        digest: digest of train and eval.
        chat_template: template of the rows, if it is not the tokenizer's own.
        notes: notes on the rows, for the user.
        rejected: skipped conversations.
    """

    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    eval: Dataset | None
    digest: str
    chat_template: str | None
    notes: list[str]
    rejected: list[Rejected] = field(default_factory=list)


def load_training_data(options: SFTOptions, training: WeightedSFTConfig) -> TrainingData:
    """Load labelled data sets, or conversations, whose tokens are all PLAIN or have roles by the behaviours that the
    options name (see `roles.functional`).

    Raises:
        InputError: as for `load_labelled` and `prepare`; for conversations with a weighting that needs roles; for two
            incompatible data sets.
    """
    load_plugins(split_list(options.plugin or ""))
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    paths = [options.data, *([options.eval_data] if options.eval_data else [])]
    ignored = [name for name in FOR_CONVERSATIONS if getattr(options, name) is not None]
    if ignored and all(map(is_labelled, paths)):
        raise InputError(f"{options.data}: is already labelled, so {ignored[0]} would change nothing; leave it out")
    behaviours = find_behaviours(options.behaviours) if options.behaviours is not None else None
    wanted = 0 if behaviours is None else len(behaviours.tokens)
    reused = 0 if behaviours is None else wanted - len(add_to_tokenizer(tokenizer, behaviours))
    data = _rows(options.data, options, training, tokenizer, behaviours)
    if reused:
        note = f"{reused} of {wanted} functional tokens already exist in the model and are used unchanged."
        data = replace(data, notes=[note, *data.notes])
    if options.eval_data:
        held_out = _rows(options.eval_data, options, training, tokenizer, behaviours)
        own = tokenizer.chat_template
        if (held_out.chat_template or own) != (data.chat_template or own):
            raise InputError(
                f"{options.eval_data}: rendered with a different chat template than {options.data}; label it again "
                "with the same --chat-template"
            )
        data = replace(
            data,
            eval=held_out.train,
            digest=digest([data.digest, held_out.digest]),
            notes=list(dict.fromkeys([*data.notes, *held_out.notes])),
            rejected=[*data.rejected, *held_out.rejected],
        )
    elif options.eval_share:
        data = _split(data, options.eval_share)
    if data.chat_template is not None:
        tokenizer.chat_template = data.chat_template  # saved with the model, which learns to answer in this template
    return data


def _split(data: TrainingData, share: float) -> TrainingData:
    """Hold out conversations; all samples of a conversation stay on the same side."""
    sources = data.train["source"][:]
    names = list(dict.fromkeys(sources))
    count = round(len(names) * share)
    if not 0 < count < len(names):
        raise InputError(f"eval_share {share} of {len(names)} conversations leaves one side empty")
    held_out = {names[i] for i in np.random.default_rng(0).permutation(len(names))[:count]}
    parts = [[i for i, source in enumerate(sources) if (source in held_out) == wanted] for wanted in (False, True)]
    # In memory: otherwise the split is written as a cache file into the user's data set. `train_test_split` can't do
    # that for a data set on disk.
    train, evaluation = (data.train.select(part, keep_in_memory=True) for part in parts)
    return replace(data, train=train, eval=evaluation)


def _rows(
    path: str,
    options: SFTOptions,
    training: WeightedSFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    behaviours: BehaviourSet | None,
) -> TrainingData:
    weighting = make_weighting(training.weighting, training.weighting_args)
    needs_labels = (weighting.needs_roles and behaviours is None) or weighting.needs_scores
    locations = [source.location for source in parse_sources(path)]
    if len(locations) > 1 and any(map(is_labelled, locations)):
        raise InputError(f"{path}: fine-tuning takes one labelled data set; mix the sources when labelling")
    if is_labelled(path) or (needs_labels and Path(path).is_dir()):
        labelled = load_labelled(path)
        info = labelled.info
        if behaviours is None and "behaviours" in info.settings and info.tokenizer != tokenizer_fingerprint(tokenizer):
            raise InputError(
                f"{path}: labelled with functional tokens that the model lacks; give the same --behaviours (rftt or "
                "a file)"
            )
        labelled = load_labelled(path, tokenizer_fingerprint=tokenizer_fingerprint(tokenizer))
        if weighting.needs_scores:
            _check_scores(path, labelled, training.weighting)
        rows, rejected, cuts = _cut(path, labelled.rows, training.max_length, options)
        notes = [*info.notes, *_notes_on_roles(path, labelled, training.weighting, weighting), *cuts]
        return TrainingData(tokenizer, rows, None, digest(asdict(info)), info.chat_template, notes, rejected)
    if needs_labels:
        if not Path(path).exists():
            raise InputError(f"{path}: no such directory")
        raise InputError(
            f"{path}: weighting {training.weighting} needs a labelled data set (a directory); make one: rolewise label"
        )
    renderer = Renderer(
        tokenizer,
        chat_template=options.chat_template,
        tool_format=options.tool_format,
        max_length=training.max_length or MAX_LENGTH,
    )
    data = prepare(path, renderer, format=options.format, skip_invalid=options.skip_invalid, skip_cut=options.skip_cut)
    roles = [np.where(sample.loss_mask, Role.PLAIN, Role.CONTEXT) for sample in data.samples]
    if behaviours is not None:
        tokens = functional_token_ids(tokenizer, behaviours)
        roles = [functional_roles(sample.input_ids, sample.loss_mask, tokens) for sample in data.samples]
    silent = behaviours is not None and not any((roles_T == Role.FORMAT).any() for roles_T in roles)
    columns = {
        "input_ids": [sample.input_ids for sample in data.samples],
        "labels": [np.where(sample.loss_mask, sample.input_ids, -100) for sample in data.samples],
        "token_roles": roles,
        "source": [sample.source for sample in data.samples],
    }
    contents = digest([data.sha256, renderer.fingerprint()])
    notes = [*data.notes, *describe_rejects(data.rejected)]
    if silent:
        notes.append(f"{path}: these conversations contain no functional token, so none is learned from them")
    rows = Dataset.from_dict(columns)
    return TrainingData(tokenizer, rows, None, contents, renderer.given_template, notes, data.rejected)


def _cut(
    path: str, rows: Dataset, length: int | None, options: SFTOptions
) -> tuple[Dataset, list[Rejected], list[str]]:
    """Cut labelled rows to `max_length`, or skip those it would cut; return rows, skipped samples and notes."""
    if length is None:
        return rows, [], []
    if options.skip_cut:
        whole, sources = whole_rows(rows, length)
        if not len(whole):
            raise InputError(f"{path}: max_length {length} would cut every sample, so none is left; raise it")
        rejected = [Rejected(source, f"longer than max_length {length}") for source in sources]
        return whole, rejected, describe_rejects(rejected)
    rows, lost = cut_rows(rows, length)
    if not lost:
        return rows, [], []
    return rows, [], [f"{path}: {cut_note(length, len(lost), len(rows), sum(lost))}"]


def _check_scores(path: str, labelled: LabelledData, weighting: str) -> None:
    """Reject losses that were not measured, or that mean something else to one of our weightings.

    A plugin's weighting may read the losses of any method, including SHAD's.
    """
    method = labelled.info.method
    losses = labelled.rows.select_columns("tuned_loss").with_format("numpy")
    measured = not all(np.isnan(row["tuned_loss"]).all() for row in losses)
    if weighting not in WEIGHTINGS.own_names:
        if not measured:
            raise InputError(
                f"{path}: labelled by {method}, which measures no losses, but weighting {weighting} reads them; label "
                "with --method shad, rho or reward"
            )
        return
    other = method in (*LABELLERS.own_names, "transfer") and method != weighting
    if other or not measured:
        raise InputError(
            f"{path}: labelled by {method}, which provides no token rewards for weighting {weighting}; label with "
            "--method reward"
        )


def _notes_on_roles(path: str, labelled: LabelledData, name: str, weighting: Weighting) -> list[str]:
    """Return notes on labels that leave the weighting without effect, and the verdict on the labels."""
    if not weighting.needs_roles:
        return []
    info = labelled.info
    counts = {"reasoning": info.counts.get(Role.REASONING.label, 0)}
    counts["boilerplate"] = sum(info.counts.get(role.label, 0) for role in BOILERPLATE_ROLES)
    missing = [name for name, tokens in counts.items() if not tokens]
    notes = [f"{path}: no token is {role}, so {name} changes little or nothing" for role in missing]
    return notes or [f"{path}: verdict on the labels: {judge(labelled).line}"]
