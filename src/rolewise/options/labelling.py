"""Options of the commands that create and use labelled data: label, relabel, transfer, export, push and view."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rolewise.core.components import Components
from rolewise.core.errors import InputError
from rolewise.core.options import Options, adapt, option, required
from rolewise.labelling.registry import LABELLERS
from rolewise.options import groups
from rolewise.training.settings import WeightingSettings

KEEP = "keep"
"""Value of a `rolewise relabel` option that keeps the data set's own setting."""


@dataclass(kw_only=True)
class GeneralChat(Options, title="data"):
    """General chat to mix in."""

    general: str | None = option(
        None,
        "General chat to mix in, with the same sources as data. It is not labelled: its tokens are PLAIN.",
        several=True,
    )
    general_share: float | None = option(None, "Share of general chat, 0 to below 1. Default: all of it.")

    def validate(self) -> None:
        if self.general_share is not None and not 0 <= self.general_share < 1:
            raise InputError(f"general_share is {self.general_share}; it must be at least 0 and below 1")
        if self.general_share is not None and self.general is None:
            raise InputError("general_share needs general; give the source of the chat")


@dataclass(kw_only=True)
@adapt("model", help="Base model: directory or hub id. Its tokenizer defines the tokens.")
@adapt(
    "data",
    help="Conversations: JSONL, JSON or Parquet file, folder, glob, data set directory or hub id (`:SPLIT` selects a "
    "split). Several: a,b or, by shares, a=0.7,b=0.3.",
)
@adapt("output", help="Directory to create, with the labelled data set and its report.")
class LabelOptions(
    groups.Model,
    groups.Places,
    groups.Reading,
    groups.Limit,
    groups.MaxLength,
    groups.Template,
    groups.ToolFormat,
    groups.SkipCut,
    GeneralChat,
    groups.Plugin,
    groups.Behaviours,
    groups.HubCode,
    title="options",
):
    """Options of `rolewise label`; the other settings belong to the labeller that `method` names."""

    PARTS: ClassVar[Mapping[str, tuple[Components[Any], ...]]] = {"method": (LABELLERS,)}

    method: str = option("contrast", "Labelling method.")
    method_args: dict[str, Any] | None = option(None, "The method's settings.")
    plan: bool = option(False, "Show the planned work and its cost, then stop.")
    keep_tuned: bool = option(
        False, "shad: also write the tuned models to OUTPUT/tuned-0, …, for `rolewise grpo --roles shad`."
    )

    def validate(self) -> None:
        if self.keep_tuned and self.method != "shad":
            raise InputError(f"keep_tuned saves the models that shad tunes; with method {self.method} leave it out")
        if self.behaviours is not None and self.method != "functional":
            raise InputError(f"behaviours would change nothing with method {self.method}; leave it out")


@dataclass(kw_only=True)
@adapt("data", help="Labelled data set from `rolewise label`. A new threshold needs scores or SHAD's losses.")
@adapt("output", help="Directory to create: the data set with the new roles, and its report.")
class RelabelOptions(groups.Places, title="options"):
    """Options of `rolewise relabel`."""

    threshold: float | None = option(
        None, "A token with a higher score (SHAD: LD) is reasoning, in nats. Default: the data set's own."
    )
    format_error: float | None = option(
        None,
        "Alternative to threshold: the lowest one from 0 that labels at most this share of the sure format tokens as "
        "reasoning.",
    )
    format_quantile: float | Literal["keep"] | None = option(
        KEEP, "Boilerplate with a base loss below this quantile is format, the rest template; none: no split."
    )
    patch: tuple[str, ...] = option((), "File of corrections saved from the report page. Repeatable.")


@dataclass(kw_only=True)
@adapt("model", help="The other model: directory or hub id. Only its tokenizer is read.")
@adapt("data", help="Labelled data set whose roles to transfer.")
@adapt("output", help="Directory to create: the same conversations and roles, in the other model's tokens.")
class TransferOptions(
    groups.Model,
    groups.Places,
    groups.SkipInvalid,
    groups.MaxLength,
    groups.Template,
    groups.ToolFormat,
    groups.SkipCut,
    groups.HubCode,
    title="options",
):
    """Options of `rolewise transfer`."""


@dataclass(kw_only=True)
@adapt("output", help="File to write: Parquet for parquet and trl, JSON Lines for axolotl and ms-swift.")
class ExportOptions(groups.Places, WeightingSettings, groups.Plugin, title="options"):
    """Options of `rolewise export`. RFT's weights are computed from the stored base losses, before training."""

    to: Literal["parquet", "trl", "axolotl", "ms-swift"] = option("parquet", "Target format.")


@dataclass(kw_only=True)
class PushOptions(groups.Data, title="options"):
    """Options of `rolewise push`."""

    repo: str = required("Repository on the Hugging Face hub: user/name. Created if it does not exist.")
    private: bool = option(False, "Make the repository private if it is created.")
    dry_run: str | None = option(None, "Write the files to this directory instead of pushing them. Needs no network.")


@dataclass(kw_only=True)
@adapt("data", help="Labelled data set, file of trees (JSON Lines) or output directory of a search.")
@adapt(
    "output",
    default=None,
    help="HTML file to write. Default: report.html in the data set's directory, trees.html beside trees.jsonl.",
)
class ViewOptions(groups.Places, WeightingSettings, groups.Plugin, title="options"):
    """Options of `rolewise view`. The weights shown are computed from the stored base losses."""

    compare: str | None = option(None, "Another labelling of the same conversations, to show side by side.")
    samples: int = option(1000, "Show the first N samples or trees.", least=1)
    threshold: float | None = option(None, "Initial position of the page's slider. Default: the data set's own.")


@dataclass(kw_only=True)
class CheckOptions(groups.Data, title="options"):
    """Options of `rolewise check`."""


@dataclass(kw_only=True)
class DemoOptions(Options):
    """Options of `rolewise demo`."""

    output: str = option("demo-run", "Directory for everything that the demo creates.")
    model: str | None = option(None, "Model directory or hub id. Default: SmolLM2-135M-Instruct.")
    seed: int = option(0, "Seed of data, shuffling and training.", least=0)
