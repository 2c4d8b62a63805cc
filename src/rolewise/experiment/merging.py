"""The adapter that a fine-tuning left and its base as one model, for what goes on from it."""

import shutil
from pathlib import Path

from rolewise.core.behaviour import taught_behaviours, write_behaviours
from rolewise.core.errors import InputError
from rolewise.core.files import open_to_umask
from rolewise.experiment.stages import partial
from rolewise.jobs.engines import adapter_base, open_tokenizer
from rolewise.jobs.eval_options import EvalOptions
from rolewise.training.models import load_model, write_merged


def merge(adapter: str, output: str, *, dtype: str, trust_remote_code: bool = False) -> None:
    """Write the model with the adapter merged in, whole or not at all.

    Args:
        adapter: directory of `rolewise sft`.
        output: directory to make.
        dtype: of the base while it was tuned.
        trust_remote_code: passed on to Transformers.

    Raises:
        InputError: for a directory that holds no adapter, or a base that can't be loaded.
    """
    base = adapter_base(adapter)
    if base is None:
        raise InputError(f"{adapter}: holds no adapter; remove it and run the same command again")
    options = EvalOptions(model=adapter, suite="", output="", trust_remote_code=trust_remote_code)
    tokenizer = open_tokenizer(options)
    behaviours = taught_behaviours(adapter)
    working = partial(Path(output))
    shutil.rmtree(working, ignore_errors=True)
    model = load_model(base, dtype=dtype, trust_remote_code=trust_remote_code)
    write_merged(model, Path(adapter), working, tokenizer)
    if behaviours is not None:
        write_behaviours(behaviours, working)
    open_to_umask(working)
    working.rename(output)
