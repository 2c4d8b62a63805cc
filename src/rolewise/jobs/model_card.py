"""The model card that every training command leaves beside its model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rolewise.core.files import write_text
from rolewise.data.labelled import is_labelled, load_labelled
from rolewise.data.sources import parse_sources
from rolewise.jobs.grpo_options import GRPOOptions
from rolewise.jobs.options import SFTOptions
from rolewise.jobs.reinforce_options import ReinforceOptions
from rolewise.reporting.card import public_name
from rolewise.reporting.content import Table
from rolewise.reporting.model_card import TrainedModel, model_card
from rolewise.training import processes

CARD_FILE = "README.md"
SHAD_RFT = "[arXiv 2412.14780](https://arxiv.org/abs/2412.14780)"
RHO = "[arXiv 2404.07965](https://arxiv.org/abs/2404.07965)"
DFT = "[arXiv 2508.05629](https://arxiv.org/abs/2508.05629)"
REST = "[arXiv 2509.21826](https://arxiv.org/abs/2509.21826)"
RFTT = "[arXiv 2502.13389](https://arxiv.org/abs/2502.13389)"

FINE_TUNING = {
    "rft": f"reasoning-highlighted fine-tuning (RFT, {SHAD_RFT}): reasoning and boilerplate tokens weighted by loss",
    "alpha": f"fixed weights for reasoning and boilerplate tokens (α-FT, {SHAD_RFT})",
    "regex": f"a constant smaller weight for format tokens (a baseline of {SHAD_RFT})",
    "rho": f"the loss of selected tokens only (Rho-1, {RHO})",
    "reward": f"weights from token rewards (RewardFT, a baseline of {SHAD_RFT})",
    "dft": f"each token's loss times its probability (DFT, {DFT})",
    "sample-mean": "the plain loss, every sample counting the same",
    "none": "the plain loss",
}
REINFORCEMENT = {
    "none": "GRPO",
    "rest": f"ResT ({REST}): GRPO, tokens weighted by region and by how far training is",
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
PARAMETERS = {"rft": ("inv_tau",), "alpha": ("alpha",), "regex": ("format_weight",)}
"""Options that a weighting reads, of those that would say nothing about the others."""
OWN_SETTINGS = ("reward", "call_format", "rollouts_from", "value")
TRAINERS_SETTINGS = (
    *("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "num_generations", "max_completion_length", "temperature", "beta", "seed"),
)
"""What a reader of the card looks for; the rest is in config.yaml."""


def write_model_cards(
    directory: Path, command: str, options: Any, training: Any, data: Any, tables: Sequence[Table | None]
) -> None:
    """Write the card of the model in a directory, and of the merged one in it, where there is one.

    It replaces the form that PEFT leaves there.

    Args:
        directory: with the trained model or adapter.
        command: that trained it: sft, grpo or reinforce.
        options: of the command.
        training: settings of the trainer.
        data: with `train` and `eval`, rows or None.
        tables: numbers of the training; None are left out.
    """
    model = TrainedModel(
        title=Path(options.output).name,
        command=command,
        method=_method(options),
        base=None if _is_local(options.model) else options.model,
        facts=[*_inputs(options, data), *_settings(options, training)],
        tables=[table for table in tables if table is not None],
        adapter=options.lora,
        functional_tokens=isinstance(options, SFTOptions) and options.behaviours is not None,
    )
    write_text(directory / CARD_FILE, model_card(model))
    if (directory / "merged").is_dir():
        write_text(directory / "merged" / CARD_FILE, model_card(replace(model, adapter=False)))


def _method(options: Any) -> str:
    if isinstance(options, ReinforceOptions):
        return f"Reinforcement learning: {ROLLOUTS[options.rollouts_from]}."
    own = f"a weighting of its own, {options.weighting}"
    if isinstance(options, GRPOOptions):
        return f"Reinforcement learning for tool calls: {REINFORCEMENT.get(options.weighting, f'GRPO with {own}')}."
    text = f"Fine-tuning with {FINE_TUNING.get(options.weighting, own)}."
    if options.behaviours is not None:
        text += f" Functional tokens ({RFTT}) were added to model and tokenizer."
    return text


def _inputs(options: Any, data: Any) -> list[tuple[str, str]]:
    """Base model and data, by name: where they lie on this machine is nobody's concern."""
    facts = [("base model", public_name(options.model)), ("data", _sources(options.data))]
    facts.append(("examples", f"{len(data.train):,}"))
    if is_labelled(options.data):
        info = load_labelled(options.data).info
        facts.append(("roles", f"by {info.method} with {public_name(info.model)}" if info.model else info.method))
    if data.eval is not None:
        facts.append(("held out", f"{len(data.eval):,}, {_sources(options.eval_data or options.data)}"))
    return facts


def _settings(options: Any, training: Any) -> list[tuple[str, str]]:
    own = ("weighting", *PARAMETERS.get(getattr(options, "weighting", ""), ()), *OWN_SETTINGS)
    values = {
        **{name: getattr(options, name, None) for name in own},
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
    """Names and shares of data sources."""
    sources = parse_sources(text)
    names = [public_name(source.location) for source in sources]
    shares = ["" if source.share is None else f" ({source.share:g})" for source in sources]
    return ", ".join(name + share for name, share in zip(names, shares, strict=True))


def _is_local(model: str) -> bool:
    return Path(model).is_absolute() or Path(model).exists()
