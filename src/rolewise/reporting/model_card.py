"""The card of a trained model: its base, data and training; its owner fills in the rest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from rolewise import __version__
from rolewise.reporting.card import card_environment
from rolewise.reporting.content import Table


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """Contents of a model's card.

    Attributes:
        title: title of the card, and name of the model in the card's loading code.
        command: command that trained it.
        method: sentences, in Markdown, on the training.
        base: hub id of the base model; None for a local directory, which nobody else has.
        facts: (name, value) pairs of base, data and settings; values are plain text.
        tables: tables of training results.
        adapter: True if it is a PEFT adapter.
        functional_tokens: True if functional tokens were added.
    """

    title: str
    command: str
    method: str
    base: str | None
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    adapter: bool
    functional_tokens: bool


def model_card(model: TrainedModel) -> str:
    """Return the card's Markdown, with the front matter for the hub; it names no license."""
    front_matter = {
        **({"base_model": model.base} if model.base else {}),
        "library_name": "peft" if model.adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rolewise", "trl", model.command],
    }
    environment = card_environment()
    return environment.get_template("model_card.md.j2").render(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        title=model.title,
        place=json.dumps(model.title, ensure_ascii=False),
        command=model.command,
        method=model.method,
        version=__version__,
        facts=model.facts,
        tables=model.tables,
        adapter=model.adapter,
        functional_adapter=model.adapter and model.functional_tokens,
    )
