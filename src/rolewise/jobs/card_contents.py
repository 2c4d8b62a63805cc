"""The model card that every training command writes beside its model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rolewise.core.files import write_text
from rolewise.core.options import completed
from rolewise.data.labelled import is_labelled, load_labelled
from rolewise.data.sources import parse_sources
from rolewise.options.training import GRPOOptions, ReinforceOptions, SFTOptions
from rolewise.reporting.card import public_name
from rolewise.reporting.content import Table
from rolewise.reporting.model_card import TrainedModel, model_card
from rolewise.training import processes
from rolewise.weighting.registry import WEIGHTINGS

CARD_FILE = "README.md"
SHAD_RFT = "[arXiv 2412.14780](https://arxiv.org/abs/2412.14780)"
RHO = "[arXiv 2404.07965](https://arxiv.org/abs/2404.07965)"
DFT = "[arXiv 2508.05629](https://arxiv.org/abs/2508.05629)"
REST = "[arXiv 2509.21826](https://arxiv.org/abs/2509.21826)"
RFTT = "[arXiv 2502.13389](https://arxiv.org/abs/2502.13389)"

FINE_TUNING = {
    "rft": f"reasoning-highlighted fine-tuning (RFT, {SHAD_RFT}): reasoning and boilerplate tokens weighted by loss",
    "alpha": f"fixed weights for reasoning and boilerplate tokens (α-FT, {SHAD_RFT})",
    "regex": f"a constant, smaller weight for format tokens (a baseline in {SHAD_RFT})",
    "rho": f"the loss of selected tokens only (Rho-1, {RHO})",
    "reward": f"weights from token rewards (RewardFT, a baseline in {SHAD_RFT})",
    "dft": f"each token's loss times its probability (DFT, {DFT})",
    "sample-mean": "the plain loss, with every sample counting the same",
    "none": "the plain loss",
}
REINFORCEMENT = {
    "none": "GRPO",
    "rest": f"ResT ({REST}): GRPO, tokens weighted by region and by training progress",
    "rest-official": f"ResT ({REST}), with the weights of its official code",
    "rest-static": f"ResT ({REST}) without its curriculum: GRPO, tokens weighted by region",
    "rest-entropy": f"a variant of ResT ({REST}): GRPO, tokens weighted by the measured entropy of their regions",
    "rft": f"GRPO, reasoning and boilerplate tokens weighted as by RFT ({SHAD_RFT})",
    "alpha": f"GRPO, reasoning and boilerplate tokens weighted as by α-FT ({SHAD_RFT})",
}
ROLLOUTS = {
    "tree": f"REINFORCE++ on paths of tree searches by functional tokens (RFTT's second phase, {RFTT})",
    "samples": f"REINFORCE++ on sampled answers (the paths of RFTT's second phase, {RFTT}, without its tree)",
    "grpo": "GRPO on sampled answers",
}
OWN_SETTINGS = ("reward", "call_format", "rollouts_from", "value")
TRAINERS_SETTINGS = (
    *("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "num_generations", "max_completion_length", "temperature", "beta", "seed"),
)
"""Settings that readers of the card look for; config.yaml has the rest."""


def write_model_cards(
    directory: Path, command: str, options: Any, training: Any, data: Any, tables: Sequence[Table | None]
) -> None:
    """Write the card of the model in a directory, and of the merged model inside it, if there is one.

    It replaces the blank card that PEFT writes.

    Args:
        directory: directory of the trained model or adapter.
        command: command that trained it: sft, grpo or reinforce.
        options: options of the command.
        training: settings of the trainer.
        data: object with `train` and `eval`, rows or None.
        tables: results of the training; None entries are left out.
    """
    model = TrainedModel(
        title=Path(options.output).name,
        command=command,
        method=_method(options, training),
        base=None if Path(options.model).is_absolute() or Path(options.model).exists() else options.model,
        facts=[*_inputs(options, data), *_settings(options, training)],
        tables=[table for table in tables if table is not None],
        adapter=options.lora,
        functional_tokens=isinstance(options, SFTOptions) and options.behaviours is not None,
    )
    write_text(directory / CARD_FILE, model_card(model))
    if (directory / "merged").is_dir():
        write_text(directory / "merged" / CARD_FILE, model_card(replace(model, adapter=False)))


def _method(options: Any, training: Any) -> str:
    if isinstance(options, ReinforceOptions):
        return f"Reinforcement learning: {ROLLOUTS[options.rollouts_from]}."
    name = training.weighting
    own = f"{name} ({WEIGHTINGS.summary(name)})" if name in WEIGHTINGS else f"a custom weighting, {name}"
    if isinstance(options, GRPOOptions):
        return f"Reinforcement learning for tool calls: {REINFORCEMENT.get(name, f'GRPO with {own}')}."
    text = f"Fine-tuning with {FINE_TUNING.get(name, own)}."
    if options.behaviours is not None:
        text += f" Functional tokens ({RFTT}) were added to model and tokenizer."
    return text


def _inputs(options: Any, data: Any) -> list[tuple[str, str]]:
    """Return base model and data, by name; their paths on this machine are left out."""
    facts = [("base model", public_name(options.model)), ("data", _sources(options.data))]
    facts.append(("examples", f"{len(data.train):,}"))
    if is_labelled(options.data):
        info = load_labelled(options.data).info
        facts.append(("roles", f"by {info.method} with {public_name(info.model)}" if info.model else info.method))
    if data.eval is not None:
        facts.append(("held out", f"{len(data.eval):,}, {_sources(options.eval_data or options.data)}"))
    return facts


def _settings(options: Any, training: Any) -> list[tuple[str, str]]:
    values = {
        "weighting": getattr(training, "weighting", None),
        **(completed(training)["weighting_args"] if hasattr(training, "weighting") else {}),
        **{name: getattr(options, name, getattr(training, name, None)) for name in OWN_SETTINGS},
        "trained weights": f"LoRA adapter of rank {options.rank}" if options.lora else "all",
        "dtype": options.dtype,
        **{name: getattr(training, name, None) for name in TRAINERS_SETTINGS},
        "processes": processes.count(),
    }
    if values["max_steps"] == -1:
        del values["max_steps"]
    else:
        del values["num_train_epochs"]
    return [(name.replace("_", " "), str(getattr(v, "value", v))) for name, v in values.items() if v is not None]


def _sources(text: str) -> str:
    """Return the names and shares of data sources as text."""
    sources = parse_sources(text)
    names = [public_name(source.location) for source in sources]
    shares = ["" if source.share is None else f" ({source.share:g})" for source in sources]
    return ", ".join(name + share for name, share in zip(names, shares, strict=True))
