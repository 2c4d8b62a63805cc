"""The engine that a command's options select: a model in this process, with or without an adapter, or a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rolewise.core.errors import InputError
from rolewise.core.limits import parse_json, read_text
from rolewise.core.options import split_list
from rolewise.engines.base import Engine
from rolewise.engines.transformers_engine import TransformersEngine
from rolewise.options.groups import AskedModel
from rolewise.options.training import ReinforceOptions
from rolewise.training.functional_tokens import make_room
from rolewise.training.models import default_device, load_model, load_tokenizer, model_fingerprint

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


EngineOptions = AskedModel | ReinforceOptions
"""Options of a command that queries a model."""


def open_engine(options: EngineOptions, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """Open the engine of these options; the caller closes it.

    Raises:
        InputError: if there is no such model, or a key is missing.
        EngineError: if the server can't be reached or used.
    """
    if options.server is not None:
        from rolewise.engines.server import ServerEngine

        return ServerEngine(
            split_list(options.server),
            tokenizer,
            model=options.served_model,
            api_key=read_key(options.api_key),
            concurrency=options.concurrency,
        )
    return local_engine(options, open_model(options), tokenizer)


def local_engine(options: EngineOptions, model: Any, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """Return the engine over a model in this process."""
    batch_size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    return TransformersEngine(model, tokenizer, **batch_size)


def engine_fingerprint(options: EngineOptions) -> str:
    """Return what identifies the answering model: the hash of its weights, or an adapter's and its base's. A server's
    model is not included: it is known only after asking the server (see `jobs.answering_run`).

    Raises:
        InputError: if there is no such model.
    """
    if options.server is not None:
        return "served"
    trust = options.trust_remote_code
    base = adapter_base(options.model)
    if base is None:
        return model_fingerprint(options.model, trust_remote_code=trust)
    adapter = model_fingerprint(options.model, trust_remote_code=trust)
    with _as_base_of(options.model, base):
        return f"{adapter} on {model_fingerprint(base, trust_remote_code=trust)}"


def open_tokenizer(options: EngineOptions) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the model, or of an adapter: its own if it has one, else its base's.

    Raises:
        InputError: if there is none.
    """
    base = adapter_base(options.model)
    if base is None:
        return load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    if not (Path(options.model) / "tokenizer_config.json").is_file():
        with _as_base_of(options.model, base):
            return load_tokenizer(base, trust_remote_code=options.trust_remote_code)
    try:
        return AutoTokenizer.from_pretrained(options.model, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"{options.model}: the adapter's tokenizer can't be loaded ({_first_line(error)})") from error


def adapter_base(name: str) -> str | None:
    """Return the model that an adapter's directory was trained on; None if it is not an adapter's directory.

    Raises:
        InputError: if the adapter does not name the model, or the model's folder or the adapter's weights are missing.
    """
    config = Path(name) / ADAPTER_CONFIG
    if not config.is_file() or (Path(name) / "config.json").is_file():
        return None
    try:
        base = parse_json(read_text(config)).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{config}: not readable as an adapter's config ({_first_line(error)})") from error
    if not base:
        raise InputError(f"{config}: does not name its base model (base_model_name_or_path)")
    base = str(base)
    if (Path(base).is_absolute() or base.startswith(".")) and not Path(base).exists():
        raise InputError(f"{config}: its base model {base} is missing; set base_model_name_or_path to its path")
    if not any((Path(name) / weights).is_file() for weights in ADAPTER_WEIGHTS):
        raise InputError(f"{name}: an adapter without weights ({ADAPTER_WEIGHTS[0]}); copy them there")
    return base


def open_model(options: EngineOptions) -> Any:
    """Load the model of these options in this process, on its device, with the adapter if it is an adapter's directory.

    Raises:
        InputError: if there is no such model, or the adapter does not fit its base.
    """
    common: dict[str, Any] = {
        "dtype": options.dtype,
        "device": default_device(),
        "trust_remote_code": options.trust_remote_code,
    }
    base = adapter_base(options.model)
    if base is None:
        return load_model(options.model, **common)
    with _as_base_of(options.model, base):
        model = load_model(base, **common)
    try:
        make_room(model, options.model)
        # Not merged: in 16 bits merging rounds, and the answers would be those of another model.
        return PeftModel.from_pretrained(model, options.model).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        # The second line of torch's message names the first weight that does not fit.
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{options.model}: this adapter does not fit {base} ({reason})") from error


@contextmanager
def _as_base_of(adapter: str, base: str) -> Iterator[None]:
    """Name the adapter if its base can't be loaded, since the user gave the adapter, not that model.

    Raises:
        InputError: in place of one raised within the context.
    """
    try:
        yield
    except InputError as error:
        if Path(base).exists():
            raise InputError(f"{adapter}: an adapter of {base}, but {error}") from error
        raise InputError(
            f"{adapter}: an adapter whose base model {base} is missing: there is no such folder, and the hub does not "
            f"have it or can't be reached; set base_model_name_or_path in {ADAPTER_CONFIG} to a folder that contains it"
        ) from error


def read_key(variable: str | None, option: str = "api_key") -> str | None:
    """Read the server's key from the environment; None if no variable is named.

    Args:
        variable: environment variable that holds the key.
        option: option that names the variable.

    Raises:
        InputError: if the variable is not set, or the text is not a variable's name.
    """
    if variable is None:
        return None
    if not variable.isidentifier():
        # It may be the key itself, which must not be shown.
        raise InputError(f"{option} must be the name of an environment variable that holds the key")
    if not os.environ.get(variable):
        raise InputError(f"{option} names the environment variable {variable}, which is not set; export it first")
    return os.environ[variable]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
