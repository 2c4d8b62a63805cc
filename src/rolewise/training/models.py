"""Loading of models and tokenizers, with errors that state the remedy."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rolewise.core.errors import InputError
from rolewise.core.transformers_insides import hub_commit
from rolewise.training.functional_tokens import make_room

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def default_device() -> str:
    """Return the accelerator if there is one, else the CPU."""
    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model directory or hub id.

    Raises:
        InputError: if there is no tokenizer.
    """
    _refuse_adapter(name)
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded("tokenizer", name, error) from error


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
    auto_class: Any = AutoModelForCausalLM,
    **kwargs: Any,
) -> PreTrainedModel:
    """Load the causal language model of a model directory or hub id, or that of another auto class, in evaluation mode.

    Raises:
        InputError: if there is no such model, or `dtype` is not one of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
    _refuse_adapter(name)
    try:
        model = auto_class.from_pretrained(name, dtype=DTYPES[dtype], trust_remote_code=trust_remote_code, **kwargs)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _not_loaded("model", name, error) from error
    return model.to(device).eval() if device is not None else model.eval()


def load_trainable(name: str, *, dtype: str, in_4bit: bool = False, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a model to tune, on this process's device; in 4 bits (QLoRA's base) on all available devices.

    Raises:
        InputError: as `load_model`.
    """
    if not in_4bit:
        return load_model(name, dtype=dtype, device=default_device(), trust_remote_code=trust_remote_code)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return load_model(
        name,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        quantization_config=quantization,
        device_map="auto",
    )


def write_merged(
    base: PreTrainedModel,
    adapter: Path,
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    stops: GenerationConfig | None = None,
) -> None:
    """Merge an adapter into its base, in the base's own precision, and write the result to `output`.

    Args:
        base: the base model, changed in place.
        adapter: directory of the adapter.
        output: directory to make.
        tokenizer: tokenizer to save with the model.
        stops: generation settings instead of the base's.
    """
    make_room(base, adapter)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    if stops is not None:
        merged.generation_config = stops
    merged.save_pretrained(output)
    tokenizer.save_pretrained(output)


def lora_config(rank: int) -> LoraConfig:
    """Return LoRA on every linear layer except the LM head, with alpha twice the rank and no dropout."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def count_parameters(name: str, *, trust_remote_code: bool = False) -> tuple[int, Any]:
    """Return the number of parameters of a model and its config, without loading the weights.

    Raises:
        InputError: if there is no such model.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded("model", name, error) from error
    return sum(parameter.numel() for parameter in model.parameters()), config.get_text_config()


def architecture_of(name: str, *, trust_remote_code: bool = False) -> str:
    """Return the name of a model's class from its config; empty if the config has none.

    Raises:
        InputError: if there is no such model.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded("model", name, error) from error
    return str((config.architectures or [""])[0])


def model_fingerprint(name: str, *, trust_remote_code: bool = False) -> str:
    """Return the SHA-256 of a model's or adapter's config and weights; for a hub model its commit, or its id if the hub
    gave no commit.

    Raises:
        InputError: if there is no such model.
    """
    directory = Path(name)
    if directory.is_dir():
        hasher = hashlib.sha256()
        configs = ("config.json", "adapter_config.json")
        for path in sorted(p for p in directory.iterdir() if p.name in configs or p.suffix == ".safetensors"):
            hasher.update(path.name.encode())
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 24):
                    hasher.update(chunk)
        return hasher.hexdigest()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded("model", name, error) from error
    return hub_commit(config) or name


def _refuse_adapter(name: str) -> None:
    """Refuse an adapter: Transformers would load its base, and PEFT would then silently put another adapter in its
    place."""
    directory = Path(name)
    if (directory / "adapter_config.json").is_file() and not (directory / "config.json").is_file():
        raise InputError(
            f"{name}: an adapter, not a whole model; give the model with the adapter merged in "
            f"({directory / 'merged'}, which the training command writes with --merge)"
        )


def _not_loaded(what: str, name: str, error: Exception) -> InputError:
    if Path(name).is_dir():
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return InputError(f"{name}: this folder holds no {what} that transformers can load ({reason})")
    return InputError(
        f"{name}: no {what} found: it is not a folder here, and the hub does not have it or can't be reached; "
        "give a model directory or a hub id"
    )
