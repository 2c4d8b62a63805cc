"""Merge a fine-tuning's adapter with its base into one model, for the runs that continue from it."""

from pathlib import Path

from rolewise.core.behaviour import taught_behaviours, write_behaviours
from rolewise.core.errors import InputError
from rolewise.core.files import atomic_folder
from rolewise.jobs.engines import adapter_base, open_tokenizer
from rolewise.options.answers import EvalOptions
from rolewise.training.models import load_model, write_merged


def merge(adapter: str, output: str, *, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the model with the adapter merged in, atomically.

    Args:
        adapter: output directory of `rolewise sft`.
        output: directory to create.
        dtype: dtype of the base while tuning.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for a directory without an adapter, or a base that can't be loaded.
    """
    base = adapter_base(adapter)
    if base is None:
        raise InputError(f"{adapter}: contains no adapter; remove it and rerun the command")
    options = EvalOptions(model=adapter, suite="", output="", trust_remote_code=trust_remote_code)
    tokenizer = open_tokenizer(options)
    behaviours = taught_behaviours(adapter)
    model = load_model(base, dtype=dtype, trust_remote_code=trust_remote_code)
    with atomic_folder(output) as folder:
        write_merged(model, Path(adapter), folder, tokenizer)
        if behaviours is not None:
            write_behaviours(behaviours, folder)
