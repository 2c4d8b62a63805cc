"""DPO on preference pairs (arXiv 2305.18290), with TRL's trainer, to make a model that gives token rewards."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase, set_seed
from trl import DPOConfig, DPOTrainer

from rolewise.core.errors import InputError
from rolewise.data.preferences import Preferences
from rolewise.labelling.tuning import TuningConfig, run_to_end, trainer_arguments
from rolewise.training.models import load_model, lora_config
from rolewise.training.progress import RichProgressCallback


def tune_by_preferences(
    model: str,
    preferences: Preferences,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    config: TuningConfig,
    *,
    beta: float,
    max_length: int | None,
    device: str,
    trust_remote_code: bool = False,
    progress: Progress,
) -> None:
    """Tune a LoRA adapter by DPO and save it as the directory `output`; the reference is the model without it.

    `output` is written atomically at the end. Until then checkpoints are kept beside it, from which a killed run
    resumes.

    Raises:
        InputError: if the chat template refuses a conversation, or no pair is shorter than `max_length`.
    """
    if output.exists():
        return
    work = output.with_name(f"{output.name}.training")
    set_seed(config.seed)
    description = f"DPO on {len(preferences.rows)} preference pairs"
    arguments: dict[str, Any] = trainer_arguments(work, config, on_gpu=device != "cpu")
    try:
        trainer = DPOTrainer(
            model=load_model(model, dtype=config.dtype, device=device, trust_remote_code=trust_remote_code),
            args=DPOConfig(**arguments, beta=beta, max_length=max_length),
            train_dataset=Dataset.from_list(preferences.rows),
            processing_class=tokenizer,
            peft_config=lora_config(config.rank),
            callbacks=[RichProgressCallback(progress, description)],
        )
    except (TemplateError, ValueError) as error:
        raise InputError(
            f"the preference pairs can't be written in the model's chat template ({' '.join(str(error).split())}); "
            "give another --chat-template, or pairs of texts"
        ) from error
    if not len(trainer.train_dataset):
        raise InputError(
            f"no preference pair has a prompt shorter than max_length, {max_length} tokens; raise max_length"
        )
    run_to_end(trainer, work, output)
