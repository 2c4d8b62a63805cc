"""The options of every command. Imports nothing heavy, so that `--help` answers at once."""

import importlib.util
import math
from dataclasses import dataclass

from rolewise.core.errors import InputError
from rolewise.core.options import option, required

DTYPES = ("float32", "bfloat16", "float16")
MAX_LENGTH = 3072
"""Tokens that conversations are cut to, and labelled data has been: the paper's own limit."""
WEIGHTINGS = ("rft", "alpha", "regex", "rho", "reward", "dft", "sample-mean", "none")
FORMAT_HELP = (
    "Of conversations: messages, sharegpt, glaive, xlam, prompt-completion, trajectory, alpaca, self-instruct, "
    "question-answer, or a plugin's; found out by looking unless given."
)
PLUGIN_HELP = "Python files that add formats, labellers or weightings of your own: a.py,b.py (in YAML a list)."

WITHOUT_EFFECT = {
    "output_dir",
    "resume_from_checkpoint",
    "model_init_kwargs",
    "chat_template_path",
    "truncation_mode",
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
}
"""Fields of the trainer that would be taken and then ignored, since the run decides them, or it never gets there."""
READ_BY = {"inv_tau": ("rft",), "alpha": ("alpha",), "format_weight": ("regex",)}
"""Options of `rolewise sft` that only some weightings read."""
EXPORT_FORMATS = ("parquet", "trl", "axolotl", "ms-swift")
KEEP = "keep"
"""Of an option of `rolewise relabel`: as the data set has it."""


@dataclass(kw_only=True)
class LabelOptions:
    """Options of `rolewise label`."""

    model: str = required("Base model: a directory or a hub id. Its tokenizer decides the tokens.")
    data: str = required(
        "Conversations: a JSONL, JSON or Parquet file, a folder or glob of them, a data set directory or a hub id, "
        "with `:SPLIT` where it has several. Several sources: a,b or, mixed by shares, a=0.7,b=0.3 (in YAML a list)."
    )
    output: str = required("Directory to make: the labelled data set with its report.")
    method: str = option(
        "shad",
        "shad, regex (format tokens against the rest), functional (by functional tokens), rho, reward, or a plugin's.",
    )
    plan: bool = option(False, "Say what would be done and what it would cost, and do nothing.")

    format: str | None = option(None, FORMAT_HELP, group="data")
    general: str | None = option(
        None, "General chat to mix in, sources as for data. It is not judged: its tokens are PLAIN.", group="data"
    )
    general_share: float | None = option(
        None, "Its share of all conversations, 0 to below 1; all of it unless given.", group="data"
    )
    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    tool_format: str | None = option(
        None, "How calls are written where the chat template can't: hermes, rlla or react.", group="data"
    )
    max_length: int = option(MAX_LENGTH, "Samples are cut to so many tokens.", group="data")
    limit: int | None = option(None, "Use the first so many conversations only.", group="data")
    skip_invalid: bool = option(
        False,
        "Leave out records that can't be used (listed in OUTPUT/rejected.jsonl) instead of stopping.",
        group="data",
    )
    skip_cut: bool = option(
        False,
        "Leave out samples whose answers max_length cuts (listed in OUTPUT/rejected.jsonl) instead of "
        "labelling their beginnings.",
        group="data",
    )
    plugin: str | None = option(None, PLUGIN_HELP, group="data")

    shuffle_share: float = option(0.01, "Share of the assistant turns that is shuffled.", group="shad")
    min_pairs: int = option(64, "Shuffled pairs at least, per tuned model, if the data gives them.", group="shad")
    threshold: float = option(0.0, "A loss that rises by more than this (nats) means reasoning.", group="shad")
    format_quantile: float | None = option(
        0.5, "Boilerplate with a base loss below this quantile is format, the rest template.", group="shad"
    )

    reference_share: float = option(0.05, "Share of the samples that a reference is tuned on.", group="rho")
    min_references: int = option(64, "Such samples at least, per reference, if the data gives them.", group="rho")
    keep_share: float = option(0.6, "Share of the tokens that is kept: those whose loss fell most.", group="rho")

    preferences: str | None = option(
        None, "Pairs to tune on by DPO: prompt, chosen, rejected; sources as for data.", group="reward"
    )
    reward_model: str | None = option(
        None, "Instead of them: an adapter of the model, or a model, that was tuned by DPO.", group="reward"
    )
    beta: float = option(0.1, "Of DPO: how strongly the model is held to the reference.", group="reward")

    behaviours: str | None = option(
        None,
        "Whose functional tokens, added to the tokenizer where they are missing: rftt or a YAML file; those that the "
        "model was taught, or else rftt, unless given.",
        group="functional",
    )

    cross_fit: bool = option(
        True, "shad, rho: judge each half of the data with the model tuned on the other.", group="tuning"
    )
    keep_tuned: bool = option(
        False,
        "shad: also write the tuned models, to OUTPUT/tuned-0, …, for `rolewise grpo --roles shad`.",
        group="tuning",
    )
    tuning: str = option("lora", "How the model learns what it is tuned on.", choices=("lora", "full"), group="tuning")
    learning_rate: float | None = option(
        None, "By the number of examples and the kind of tuning, unless given; reward: 5e-5.", group="tuning"
    )
    rank: int = option(16, "Rank of the LoRA matrices.", group="tuning")
    batch_size: int | None = option(
        None, "Examples per optimizer step; 2 below 1,000 examples, else 32; reward: 8.", group="tuning"
    )
    epochs: int = option(1, "Passes over the examples.", group="tuning")

    dtype: str = option("float32", "Of weights and arithmetic. Coarser ones flip labels.", group="machine")
    batch_tokens: int | None = option(None, "Tokens scored at once; 2048 on a CPU, 16384 on a GPU.", group="machine")
    seed: int = option(0, "Of shuffling and tuning.", group="machine")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; it must be at least 1")
        if self.general_share is not None and not 0 <= self.general_share < 1:
            raise InputError(f"general_share is {self.general_share}; it is a share from 0 to below 1")
        if self.general_share is not None and self.general is None:
            raise InputError("general_share needs general: say where the chat is")
        if self.max_length < 2:
            raise InputError(f"max_length is {self.max_length}; it must be at least 2")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        _check_dtype(self.dtype)
        if self.keep_tuned and self.method != "shad":
            raise InputError(f"keep_tuned is for the models that shad tunes; with method {self.method} leave it out")
        given = [name for name in ("preferences", "reward_model") if getattr(self, name)]
        if self.method == "reward" and len(given) != 1:
            raise InputError(
                "method reward needs either preferences, to tune on by DPO, or a reward_model, tuned already"
            )
        if self.behaviours is not None and self.method != "functional":
            raise InputError(f"behaviours would change nothing with method {self.method}; leave it out")
        if given and self.method != "reward":
            raise InputError(f"{given[0]} would change nothing with method {self.method}; leave it out")


@dataclass(kw_only=True)
class RelabelOptions:
    """Options of `rolewise relabel`."""

    data: str = required("Labelled data set, as `rolewise label` makes it; other thresholds need SHAD's losses.")
    output: str = required("Directory to make: the same data set with other roles, and its report.")
    threshold: float | None = option(
        None, "A loss that rises by more than this (nats) means reasoning; default: the data set's own."
    )
    format_error: float | None = option(
        None, "Or: the lowest threshold from 0 on that calls at most this share of the sure format tokens reasoning."
    )
    format_quantile: str | None = option(
        KEEP, "Boilerplate with a base loss below this quantile is format, the rest template; none: no split."
    )
    patch: tuple[str, ...] = option((), "File of corrections saved from the report page; may be given several times.")

    def quantile(self) -> float | str | None:
        """`format_quantile` as `relabel` takes it.

        Raises:
            InputError: if it is neither a number nor `none` nor `keep`.
        """
        if self.format_quantile is None or self.format_quantile.lower() == KEEP:
            return self.format_quantile and KEEP
        try:
            return float(self.format_quantile)
        except ValueError:
            raise InputError(
                f"format_quantile is {self.format_quantile!r}; give a number between 0 and 1, none, or keep"
            ) from None


@dataclass(kw_only=True)
class TransferOptions:
    """Options of `rolewise transfer`."""

    model: str = required("The other model, of which only the tokenizer is read: a directory or a hub id.")
    data: str = required("Labelled data set whose roles are to travel.")
    output: str = required("Directory to make: the same conversations and roles in the other model's tokens.")

    chat_template: str | None = option(None, "Instead of the tokenizer's: a file, or `chatml`.", group="data")
    tool_format: str | None = option(
        None, "How calls are written where the chat template can't: hermes, rlla or react.", group="data"
    )
    max_length: int = option(3072, "Samples are cut to so many tokens.", group="data")
    skip_invalid: bool = option(False, "Leave out rows that the template refuses instead of stopping.", group="data")
    skip_cut: bool = option(
        False, "Leave out rows whose answer max_length cuts; else they are counted and said.", group="data"
    )
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="machine")

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise InputError(f"max_length is {self.max_length}; it must be at least 2")


@dataclass(kw_only=True)
class ExportOptions:
    """Options of `rolewise export`."""

    data: str = required("Labelled data set.")
    output: str = required("File to write: Parquet for parquet and trl, JSON Lines for axolotl and ms-swift.")
    to: str = option("parquet", "Whose format: parquet, trl, axolotl or ms-swift.", choices=EXPORT_FORMATS)
    weighting: str = option(
        "rft", "Which weights; rft's are those at the stored base losses, before training.", choices=WEIGHTINGS
    )
    inv_tau: float = option(0.3, "rft: 1/τ. 0 gives both groups equal weight, more follows the higher loss.")
    alpha: float = option(0.3, "alpha: boilerplate's share of the loss, 0 to 1; 0 switches boilerplate off.")
    format_weight: float = option(0.5, "regex: what a format token counts in the mean; other tokens count 1.")
    plugin: str | None = option(None, "Python files that add weightings of your own: a.py,b.py (in YAML a list).")

    def __post_init__(self) -> None:
        if self.to not in EXPORT_FORMATS:
            raise InputError(f"format {self.to!r} is not known; choose one of {', '.join(EXPORT_FORMATS)}")


@dataclass(kw_only=True)
class PushOptions:
    """Options of `rolewise push`."""

    data: str = required("Labelled data set.")
    repo: str = required("Where to: user/name on the Hugging Face hub; made if it is not there.")
    private: bool = option(False, "If the repository is made, make it private.")
    dry_run: str | None = option(None, "Write what would be pushed to this directory instead; needs no network.")


@dataclass(kw_only=True)
class SFTOptions:
    """Rolewise's own options of `rolewise sft`; the rest are the fields of TRL's `SFTConfig`."""

    model: str = required("Model to tune: a directory or a hub id.")
    data: str = required(
        "Labelled data set (of `rolewise label`), or conversations if the weighting needs no roles; "
        "sources as for `rolewise label`."
    )
    output: str = required("Directory to make: the model or adapter with its report.")
    weighting: str = option(
        "rft",
        "rft: adaptive weights by role. alpha: fixed ones. regex: format tokens count less. rho: kept tokens only. "
        "reward: by token rewards. dft: by probability. sample-mean, none: plain losses; or a plugin's.",
        choices=WEIGHTINGS,
    )
    inv_tau: float = option(0.3, "rft: 1/τ. 0 gives both groups equal weight, more follows the higher loss.")
    alpha: float = option(0.3, "alpha: boilerplate's share of the loss, 0 to 1 (the paper: up to 0.5).")
    format_weight: float = option(0.5, "regex: what a format token counts in the mean; other tokens count 1.")

    eval_data: str | None = option(None, "Labelled data set to measure on while training.", group="data")
    eval_share: float = option(0.0, "Or: hold out this share of the data for it.", group="data")
    format: str | None = option(None, FORMAT_HELP, group="data")
    chat_template: str | None = option(None, "Of conversations, instead of the tokenizer's: a file.", group="data")
    tool_format: str | None = option(None, "Of conversations: how calls are written.", group="data")
    max_length: int | None = option(
        None, "Conversations are cut to so many tokens (3072 unless given); length of packed rows.", group="data"
    )
    skip_invalid: bool = option(
        False,
        "Leave out conversations that can't be used (listed in OUTPUT/rejected.jsonl) instead of stopping.",
        group="data",
    )
    skip_cut: bool = option(
        False,
        "Leave out samples whose answers max_length cuts (listed in OUTPUT/rejected.jsonl) instead of training on "
        "their beginnings.",
        group="data",
    )
    plugin: str | None = option(None, PLUGIN_HELP, group="data")

    lora: bool = option(True, "Tune a LoRA adapter; --no-lora tunes all weights.", group="model")
    behaviours: str | None = option(
        None,
        "Give model and tokenizer these behaviours' functional tokens first: rftt or a YAML file. With LoRA, of the "
        "embeddings only their rows are tuned.",
        group="model",
    )
    rank: int = option(16, "Rank of the LoRA matrices.", group="model")
    load_in_4bit: bool = option(False, "QLoRA: the base in 4 bits; needs bitsandbytes and a GPU.", group="model")
    merge: bool = option(False, "Also write the model with the adapter merged in, to OUTPUT/merged.", group="model")
    dtype: str = option("float32", "Of the weights: float32, bfloat16, float16.", group="model")
    trust_remote_code: bool = option(False, "Let the model's repository run its own code.", group="model")

    generations: int = option(3, "Prompts answered before and after, for the report.", group="report")
    generation_tokens: int = option(128, "Tokens per answer at most.", group="report")

    def __post_init__(self) -> None:
        if not 0 <= self.eval_share < 1:
            raise InputError(f"eval_share is {self.eval_share}; it is a share from 0 to below 1")
        if self.eval_data and self.eval_share:
            raise InputError("give eval_data or eval_share, not both")
        if self.load_in_4bit and not self.lora:
            raise InputError("load_in_4bit tunes an adapter on a frozen base; leave --no-lora out")
        if self.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise InputError("load_in_4bit needs bitsandbytes; install it: pip install 'rolewise[qlora]'")
        if self.merge and not self.lora:
            raise InputError("merge joins an adapter with its base; with --no-lora there is nothing to merge")
        _check_dtype(self.dtype)
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha is {self.alpha}; it is boilerplate's share of the loss and lies between 0 and 1")
        if not 0 <= self.inv_tau < math.inf:
            raise InputError(f"inv_tau is {self.inv_tau}; 1/τ is a finite number, 0 (equal weights) or more")
        for name, least in (("rank", 1), ("max_length", 2), ("generations", 0), ("generation_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")


@dataclass(kw_only=True)
class ViewOptions:
    """Options of `rolewise view`."""

    data: str = required("Labelled data set to show, or a file of trees (JSON Lines), or a search's directory.")
    output: str | None = option(
        None, "HTML file to write; default: report.html in the data set's directory, trees.html beside trees.jsonl."
    )
    compare: str | None = option(None, "Another labelling of the same conversations, to show beside it.")
    samples: int = option(1000, "Show the first so many samples or trees.")
    threshold: float | None = option(None, "Where the page's slider starts; default: the data set's own.")
    inv_tau: float = option(0.3, "The weights shown are RFT's at this 1/τ, on the base losses.")


@dataclass(kw_only=True)
class DemoOptions:
    """Options of `rolewise demo`."""

    output: str = option("demo-run", "Directory for everything the demo makes.")
    model: str | None = option(None, "Model directory or hub id; default: SmolLM2-135M-Instruct.")
    seed: int = option(0, "Of data, shuffling and training.")
    inv_tau: float = option(0.3, "RFT's 1/τ.")


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
