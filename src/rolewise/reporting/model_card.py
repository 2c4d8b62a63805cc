"""The card of a trained model: what it was made of, and how; what only its owner can say is left to be filled in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from rolewise import __version__
from rolewise.reporting.card import card_environment
from rolewise.reporting.content import Table


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What a model's card says.

    Attributes:
        title: of the card, and what the model is called where the card loads it.
        command: that trained it.
        method: sentences, in Markdown, on how it was trained.
        base: hub id of the base model; None for a directory, which nobody else has.
        facts: (name, value) of base, data and settings; values are plain text.
        tables: numbers of the training.
        adapter: whether it is a PEFT adapter.
        functional_tokens: whether functional tokens were added.
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
    """The card's Markdown, with the front matter that the hub reads; no licence is named."""
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
