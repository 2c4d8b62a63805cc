"""The card of a labelled data set on the Hugging Face hub: contents, quality, and how to load it."""

from pathlib import Path

import jinja2
import yaml

from rolewise.core.role import Role
from rolewise.data.labelled import LabelledInfo
from rolewise.reporting.html import Table
from rolewise.reporting.views import roles_table

_ROLES = ", ".join(f"{int(role)} {role.label}" for role in Role)
COLUMNS = {
    "input_ids": "token ids",
    "labels": "token ids, −100 if a token carries no loss",
    "token_roles": f"role of each token: {_ROLES}",
    "base_loss": "loss under the base model, in nats; NaN if not measured",
    "tuned_loss": "loss after tuning, or without the input (contrast), in nats; NaN if not measured",
    "char_start": "first character of each token in `text`",
    "char_end": "one past the last character of each token in `text`",
    "text": "the conversation as written by the chat template",
    "source": "file and record of origin",
    "excluded": "true if the labeller was tuned on this sample's output; reported checks leave it out",
    "conversation": "JSON: messages, tools, and each trained turn's place in `text`",
    "score": "what contrast's threshold decides on, in nats; NaN if not measured",
    "true_roles": "roles known from the generation of the data",
}
"""Contents of each column of a labelled data set."""

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(info: LabelledInfo, checks: Table | None, columns: list[str], repo: str, data_files: str) -> str:
    """Return the card's Markdown, with the front matter for the hub.

    Args:
        info: information on the labelled data set.
        checks: checks of its labels, if any.
        columns: columns of the data set.
        repo: `user/name`.
        data_files: pattern of the Parquet files within the repository.
    """
    samples = info.counts["samples"]
    front_matter = {
        "tags": ["rolewise", "token-roles"],
        "task_categories": ["text-generation"],
        "size_categories": [next((name for bound, name in SIZE_CATEGORIES if samples < bound), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": data_files}]}],
    }
    environment = card_environment()
    return environment.get_template("card.md.j2").render(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        title=repo.split("/")[-1],
        repo=repo,
        info=info,
        roles=roles_table(info.counts),
        checks=checks,
        edits=sum(len(patch["edits"]) for patch in info.patches),
        columns=[(name, COLUMNS.get(name, "")) for name in columns],
    )


def card_environment() -> jinja2.Environment:
    """Return the environment of the card templates: Markdown, so external text must pass through `code` or `cell`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rolewise.reporting"),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals |= {"code": _code, "cell": _cell}
    environment.filters["cell"] = _cell
    return environment


def public_name(model: str) -> str:
    """Return the name of a model or file without the folders of this machine; a hub id stays unchanged."""
    path = Path(model)
    return path.name if path.is_absolute() or path.exists() else model


def _code(text: str) -> str:
    """Return text for an inline code span: one line, without characters that would end the span."""
    return " ".join(text.replace("`", "'").split())


def _cell(value: str | float) -> str:
    """Return a table's cell: one line, with Markdown and HTML escaped; numbers as on the report page."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for sign in "\\`*_<[|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
