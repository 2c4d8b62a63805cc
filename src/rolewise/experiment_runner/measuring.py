"""Measurement of one model: losses by role, and suites.

A single process takes all measurements of a model, since starting a process costs more than most measurements on a
small model. A failing measurement does not affect the others.
"""

import gc
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from rolewise.core.errors import InputError, RolewiseError
from rolewise.core.files import write_json
from rolewise.core.options import split_list
from rolewise.core.plugins import load_plugins
from rolewise.data.labelled import LabelledData, is_labelled, load_labelled
from rolewise.data.prepare import prepare
from rolewise.data.render import RenderedSample, Renderer, tokenizer_fingerprint
from rolewise.evaluation.role_losses import GROUPS, losses_by_role, token_losses
from rolewise.jobs.engines import open_model, open_tokenizer
from rolewise.jobs.evaluate import evaluate
from rolewise.options.answers import EvalOptions
from rolewise.training.models import default_device

LOSSES_FILE = "losses.json"
ALL_TOKENS = "all tokens"


def measure(task: dict[str, Any], progress: Progress) -> dict[str, str]:
    """Take the measurements of a task, and return the reason for each failure.

    Args:
        task: `model`; `plugin`, `trust_remote_code`; `role_losses`, a list of `data`, `rendering` and `output`
            by name; `suites`, a list of options of `rolewise eval` by name, with `output`.
        progress: progress display.

    Returns:
        Output directory → reason in one line.
    """
    common = {"plugin": task["plugin"], "trust_remote_code": task["trust_remote_code"]}
    failures = {}
    for options in [*task["role_losses"], *task["suites"]]:
        try:
            if "suite" in options:
                evaluate(EvalOptions(model=task["model"], **common, **options), progress)
            else:
                losses = measure_role_losses(task["model"], options["data"], options["rendering"], **common)
                write_json(Path(options["output"]) / LOSSES_FILE, losses)
        except RolewiseError as error:
            failures[options["output"]] = " ".join(str(error).split())
        except Exception as error:  # any error of a suite or a device; the others can still be measured
            failures[options["output"]] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        gc.collect()
    return failures


def measure_role_losses(
    model: str, data: str, rendering: dict[str, Any], *, plugin: str | None = None, trust_remote_code: bool = False
) -> dict[str, list[float | None]]:
    """Measure the mean loss of every sample, in nats per token: over all tokens with loss, and over each role's.

    Args:
        model: directory, adapter or hub id.
        data: conversations with known true roles, or a labelled data set, whose labels then count as the roles.
        rendering: `chat_template`, `tool_format` and `max_length` of the renderer.

    Raises:
        InputError: for data without roles, or a model that can't be loaded.
    """
    load_plugins(split_list(plugin or ""))
    options = EvalOptions(model=model, suite="", output="", trust_remote_code=trust_remote_code)
    tokenizer = open_tokenizer(options)
    samples, roles = _samples(data, tokenizer, rendering)
    device = default_device()
    losses = token_losses(open_model(options), samples, device=device)
    by_role = losses_by_role(losses, roles)
    means = {ALL_TOKENS: [float(np.nanmean(loss_T)) for loss_T in losses]}
    means |= {group.label: by_role.by_sample[group].tolist() for group in GROUPS}
    return {name: [None if np.isnan(x) else round(x, 6) for x in values] for name, values in means.items()}


def _samples(
    data: str, tokenizer: PreTrainedTokenizerBase, rendering: dict[str, Any]
) -> tuple[list[RenderedSample], list[np.ndarray]]:
    if is_labelled(data):
        return _labelled_samples(load_labelled(data, tokenizer_fingerprint=tokenizer_fingerprint(tokenizer)))
    samples = list(prepare(data, Renderer(tokenizer, **rendering)).samples)
    roles = [sample.true_roles for sample in samples]
    for sample, roles_T in zip(samples, roles, strict=True):
        if roles_T is None:
            raise InputError(
                f"{sample.source}: its true roles are unknown; give conversations with role_spans, or label the "
                "data and give the result"
            )
    return samples, [roles_T for roles_T in roles if roles_T is not None]


def _labelled_samples(data: LabelledData) -> tuple[list[RenderedSample], list[np.ndarray]]:
    samples = [
        RenderedSample(
            row["input_ids"], row["labels"] != -100, row["char_start"], row["char_end"], row["text"], (), row["source"]
        )
        for row in data.rows.with_format("numpy")
    ]
    return samples, [row["token_roles"] for row in data.rows.with_format("numpy")]
