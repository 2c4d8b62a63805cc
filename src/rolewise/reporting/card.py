"""The card of a labelled data set on the Hugging Face hub: what is in it, how good it is, how to load it."""

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
    "labels": "token ids, −100 where a token carries no loss",
    "token_roles": f"role of each token: {_ROLES}",
    "base_loss": "loss under the base model, in nats; NaN where it was not measured",
    "tuned_loss": "loss after tuning on shuffled data, in nats; NaN where it was not measured",
    "char_start": "first character of each token in `text`",
    "char_end": "one past the last character of each token in `text`",
    "text": "the conversation as the chat template writes it",
    "source": "file and record it came from",
    "excluded": "true if the labeller was tuned on this sample's output, so that reported checks leave it out",
    "conversation": "JSON: messages, tools, and each trained turn's place in `text`",
    "true_roles": "roles known from how the data was made",
}
"""What each column of a labelled data set holds."""

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(info: LabelledInfo, checks: Table | None, columns: list[str], repo: str, data_files: str) -> str:
    """The card's Markdown, with the front matter that the hub reads.

    Args:
        info: of the labelled data set.
        checks: of its labels, where there are any.
        columns: that the data set has.
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
    """Templates of cards. They are Markdown, so what comes from outside goes through `code` or `cell`."""
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
    """Name of a model or file without the folders of this machine; a hub id stays as it is."""
    path = Path(model)
    return path.name if path.is_absolute() or path.exists() else model


def _code(text: str) -> str:
    """Text for an inline code span: one line, without what would end the span."""
    return " ".join(text.replace("`", "'").split())


def _cell(value: str | float) -> str:
    """A table's cell: one line, and nothing in it that Markdown or HTML would read; numbers as on the report page."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for sign in "\\`*_<[|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
